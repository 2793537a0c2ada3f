/** The engine in the simulator: many histories by chance, and all the small ones. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { History, type Command, type Plan } from "./history.ts";

const SOAK = fileURLToPath(new URL("./soak.ts", import.meta.url));
const SEEDS = 10_000;
const PATIENCE_MS = 30 * 60_000;

/** What the seeds of a world must reach, each more than a thousand times: else they would pass without doing anything. */
const REACHED = {
  record: ["powerCuts", "kills", "cleanStops", "updates", "grown"],
  snapshots: [
    "powerCuts",
    "kills",
    "cleanStops",
    "points",
    "dropped",
    "givenUp",
    "viewReads",
    "relocated",
    "torn",
    "pointsHeld",
    "rollbacks",
  ],
  bulk: ["powerCuts", "kills", "cleanStops", "givenUp", "relocated", "torn", "bulks"],
} as const;

for (const [world, from] of [
  ["record", 1],
  ["snapshots", 1],
  ["bulk", 1],
  ["record", 1 + SEEDS],
] as const) {
  test(`${world}: ${SEEDS} seeds from ${from}, no oracle is violated`, async (t) => {
    t.timeout(PATIENCE_MS);
    const options = ["--world", world, "--seeds", String(SEEDS), "--from", String(from)];
    const soak = promisify(execFile)(process.execPath, [SOAK, ...options]);
    const { stdout } = await soak.catch((error: unknown) => ({ stdout: (error as { stdout: string }).stdout }));
    t.regex(stdout, /seeds passed/, stdout);
    for (const what of REACHED[world]) {
      t.true(Number(new RegExp(`${what} (\\d+)`).exec(stdout)?.[1]) > 1000, `${what}: ${stdout}`);
    }
  });
}

const COMMANDS: readonly Command[] = [0, 1, 2, "flush", "copy"];

/** Every sequence of so many commands. */
function sequences(length: number): Command[][] {
  if (length === 0) return [[]];
  return sequences(length - 1).flatMap((shorter) => COMMANDS.map((command) => [...shorter, command]));
}

for (const nvramKind of ["memory", "file"] as const) {
  test(`NVRAM in a ${nvramKind}: every history of up to 3 commands over 3 chunks, dying at every step`, (t) => {
    t.timeout(PATIENCE_MS);
    const plan: Plan = {
      sectorsPerChunk: 1,
      chunks: 3,
      grownChunks: 3,
      limitChunks: 2,
      nvramKind,
      lives: 0,
      faults: { failures: 0, shortTransfers: 0 },
      drainShare: 0.5,
      rots: false,
      inSync: true,
    };
    let deaths = 0;
    for (const commands of [1, 2, 3].flatMap(sequences)) {
      for (const how of ["power cut", "kill"] as const) {
        for (let dieAt = 1, reached = true; reached; dieAt++) {
          // What a power cut leaves is a matter of chance: a few chances each.
          for (let seed = 1; seed <= 4 && reached; seed++) {
            const history = new History(seed, true, plan);
            try {
              reached = history.runScript(commands, dieAt, how);
              if (reached) deaths++;
            } catch (error) {
              t.fail(`${commands.join(", ")}; ${how} at step ${dieAt}: ${String(error)}\n${history.lines.join("\n")}`);
            }
          }
        }
      }
    }
    t.true(deaths > 5000, `${deaths} deaths`);
  });
}
