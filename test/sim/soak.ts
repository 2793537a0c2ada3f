/** npm run soak -- --seeds N [--from SEED]: the simulator over many seeds; a failure is replayed, and its history printed. */
import { parseArgs } from "node:util";
import { History } from "./history.ts";

const TOLD_LINES = 60;
const PROGRESS_SEEDS = 10_000;

const { values } = parseArgs({
  options: { seeds: { type: "string", default: "1000" }, from: { type: "string", default: "1" } },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(seeds) || seeds < 1) {
  process.stderr.write(`soak: wanted whole numbers, found --from ${values.from} --seeds ${values.seeds}\n`);
  process.exit(2);
}

const sums: Record<string, number> = {};
const start = performance.now();
for (let seed = from; seed < from + seeds; seed++) {
  const history = new History(seed, false);
  try {
    history.run();
  } catch {
    replay(seed);
  }
  for (const [name, count] of Object.entries(history.reached)) sums[name] = (sums[name] ?? 0) + count;
  if ((seed - from + 1) % PROGRESS_SEEDS === 0) process.stderr.write(`${seed - from + 1} of ${seeds} seeds\n`);
}
const reached = Object.entries(sums)
  .map(([name, count]) => `${name} ${count}`)
  .join(", ");
process.stdout.write(`${seeds} seeds passed in ${((performance.now() - start) / 1000).toFixed(1)} s: ${reached}\n`);

function replay(seed: number): never {
  const history = new History(seed, true);
  let reason = "it passed when it was replayed: the simulation is not deterministic";
  try {
    history.run();
  } catch (error) {
    reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const lines = seeds === 1 ? history.lines : history.lines.slice(-TOLD_LINES);
  process.stdout.write(`${lines.join("\n")}\n\nseed ${seed} failed: ${reason}\n`);
  process.stdout.write(`Replay with its whole history: npm run soak -- --from ${seed} --seeds 1\n`);
  process.exit(1);
}
