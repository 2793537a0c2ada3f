/** A snapshot of several volumes: what their daemons are asked, in which order, and what is undone where one cannot. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import { takeGroup } from "../../src/control/snapshot-group.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { SampleVolume } from "./sample.ts";

/** Volumes that answer, and what all of them were asked, in order. `fails` is what one of them cannot do, "log take". */
async function scene(t: ExecutionContext, fails = ""): Promise<string[]> {
  const runtime = await mkdtemp(join(tmpdir(), "sluice-"));
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  const calls: string[] = [];
  const [failing, step = ""] = fails.split(" ");
  for (const name of ["data", "log", "db"]) {
    const volume = new SampleVolume();
    volume.whenCalled = (call) => {
      calls.push(`${name} ${call.split(" ")[0] ?? ""}`);
      if (name === failing && call.startsWith(step)) throw new UblkError("ESNAPSHOT", `Volume ${name}: it cannot`);
    };
    const server = await serveApi(`${runtime}/${name}.sock`, volume);
    t.teardown(() => server.close());
  }
  t.teardown(async () => {
    delete process.env["SLUICE_RUNTIME_DIR"];
    await rm(runtime, { recursive: true });
  });
  return calls;
}

const VOLUMES = ["data", "log", "db"];
/** The calls in groups of so many, each group sorted: within one, all are asked at the same time. */
const inGroups = (calls: readonly string[], ...sizes: number[]): string[][] => {
  let at = 0;
  return sizes.map((size) => calls.slice(at, (at += size)).toSorted());
};
const allDo = (what: string, ...volumes: string[]): string[] => volumes.map((name) => `${name} ${what}`).toSorted();

test.serial("all are held back before any takes, and none goes on before all have taken", async (t) => {
  const calls = await scene(t);
  const rows = await takeGroup(VOLUMES, "monday");
  t.deepEqual(
    rows.map(({ volume }) => volume),
    VOLUMES,
  );
  t.deepEqual(inGroups(calls, 3, 3, 3, 3), [
    allDo("prepare", ...VOLUMES),
    allDo("hold", ...VOLUMES),
    allDo("take", ...VOLUMES),
    allDo("finish", ...VOLUMES),
  ]);
});

test.serial("where one cannot take it, the others go on, and their snapshots are deleted", async (t) => {
  const calls = await scene(t, "log take");
  await t.throwsAsync(takeGroup(VOLUMES, "monday"), {
    code: "ESNAPSHOT",
    message: 'No snapshot "monday": Volume log: it cannot',
  });
  t.deepEqual(inGroups(calls.slice(9), 3, 2), [allDo("finish", ...VOLUMES), allDo("drop", "data", "db")]);
  t.is(calls.length, 14);
});

test.serial("where one cannot be held back, or prepared, none takes it", async (t) => {
  for (const [fails, finishes] of [
    ["db hold", VOLUMES],
    ["db prepare", ["data", "log"]],
  ] as const) {
    const calls = await scene(t, fails);
    await t.throwsAsync(takeGroup(VOLUMES, "monday"), { code: "ESNAPSHOT" });
    t.deepEqual(
      calls.filter((call) => /take|drop/.test(call)),
      [],
    );
    t.deepEqual(calls.filter((call) => call.endsWith("finish")).toSorted(), allDo("finish", ...finishes));
  }
});

test.serial("a volume that does not run is told, and nobody is held back", async (t) => {
  const calls = await scene(t);
  await t.throwsAsync(takeGroup(["data", "other"], "monday"), { code: "ENOTRUNNING" });
  t.deepEqual(calls, ["data prepare", "data finish"]);
});
