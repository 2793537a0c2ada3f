/**
 * npm run soak -- --seeds N [--from SEED] [--world NAME]: the simulator over many seeds, of one world or of each; a failure is
 * replayed, and its history printed.
 */
import { parseArgs } from "node:util";
import { WORLD_NAMES, WORLDS, type WorldName } from "./worlds.ts";

const TOLD_LINES = 60;
const PROGRESS_SEEDS = 10_000;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    world: { type: "string" },
  },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
const worlds = WORLD_NAMES.filter((name) => values.world === undefined || values.world === name);
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(seeds) || seeds < 1) {
  process.stderr.write(`soak: wanted whole numbers, found --from ${values.from} --seeds ${values.seeds}\n`);
  process.exit(2);
}
if (worlds.length === 0) {
  process.stderr.write(`soak: wanted --world ${WORLD_NAMES.join(" or ")}, found ${values.world ?? ""}\n`);
  process.exit(2);
}
for (const world of worlds) soak(world);

function soak(world: WorldName): void {
  const sums: Record<string, number> = {};
  const start = performance.now();
  for (let seed = from; seed < from + seeds; seed++) {
    const history = WORLDS[world](seed, false);
    try {
      history.run();
    } catch {
      replay(world, seed);
    }
    for (const [name, count] of Object.entries(history.reached)) sums[name] = (sums[name] ?? 0) + count;
    if ((seed - from + 1) % PROGRESS_SEEDS === 0)
      process.stderr.write(`${world}: ${seed - from + 1} of ${seeds} seeds\n`);
  }
  const reached = Object.entries(sums)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  process.stdout.write(`${world}: ${seeds} seeds passed in ${seconds} s: ${reached}\n`);
}

function replay(world: WorldName, seed: number): never {
  const history = WORLDS[world](seed, true);
  let reason = "it passed when it was replayed: the simulation is not deterministic";
  try {
    history.run();
  } catch (error) {
    reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const lines = seeds === 1 ? history.lines : history.lines.slice(-TOLD_LINES);
  process.stdout.write(`${lines.join("\n")}\n\nseed ${seed} failed: ${reason}\n`);
  process.stdout.write(`Replay with its whole history: npm run soak -- --world ${world} --from ${seed} --seeds 1\n`);
  process.exit(1);
}
