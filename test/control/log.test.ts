/** The daemon's log, as journald and as a person gets it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import test from "ava";

const LOG = new URL("../../src/control/log.ts", import.meta.url).href;
const SCRIPT = `
  import { log } from ${JSON.stringify(LOG)};
  for (const level of ["error", "warning", "info", "debug"]) log(level, "one\\ntwo");
`;

/** Lines on standard error of a process that logs with each level. */
async function logged(env: Record<string, string>): Promise<string[]> {
  const { stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", SCRIPT], { env });
  return stderr.trimEnd().split("\n");
}

test("journald gets the priority of each line as sd-daemon(3) has it", async (t) => {
  t.deepEqual(await logged({ JOURNAL_STREAM: "8:1" }), ["<3>one", "<3>two", "<4>one", "<4>two", "<6>one", "<6>two"]);
});

test("elsewhere a line has its time and its level", async (t) => {
  const lines = await logged({});
  t.is(lines.length, 6);
  for (const line of lines) t.regex(line, /^\d{4}-\d\d-\d\dT[\d:.]+Z (error|warning|info) (one|two)$/);
});

test("SLUICE_LOG chooses how much is said", async (t) => {
  t.is((await logged({ SLUICE_LOG: "debug" })).length, 8);
  t.is((await logged({ SLUICE_LOG: "error" })).length, 2);
  t.is((await logged({ SLUICE_LOG: "loud" })).length, 6);
});
