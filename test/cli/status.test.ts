/** What `sluice status` says of copy jobs, to people. */
import test from "ava";
import { describeStatus } from "../../src/cli/status.ts";
import { sampleCopy, sampleStatus } from "../control/sample.ts";

const linesOf = (copies: Parameters<typeof sampleStatus>[0]): string[] =>
  describeStatus(sampleStatus(copies))
    .split("\n")
    .filter((line) => /^copies|copy-|complete/.test(line));

test("jobs that are under way, or have failed, each have a line; those that are complete are counted", (t) => {
  const failed = {
    ...sampleCopy,
    name: "copy-2",
    state: "failed",
    error: "no room",
    rateBytesPerSecond: null,
  } as const;
  const done = { ...sampleCopy, state: "complete" } as const;
  t.deepEqual(linesOf({ copies: [sampleCopy, { ...failed, remainingSeconds: null }, done, done] }), [
    "copies     copy-1: running, 1MiB of 2MiB to /backup/data.img, 1MiB a second, 1 s left",
    "           copy-2: FAILED (no room), 1MiB of 2MiB to /backup/data.img",
    "           2 complete",
  ]);
});

test("where there is no job, or can be none, nothing is said", (t) => {
  t.deepEqual(linesOf({ copies: [] }), []);
  t.deepEqual(linesOf({ copies: null }), []);
});
