/**
 * The predictive record beside its peers: updates of the durable record per 1,000 writes, against what must be copied after
 * a crash. Exact counts over traces that are the same in every run; needs no guest and no device.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compare } from "./record/compare.ts";
import { frontierOf } from "./record/frontier.ts";
import { drawing } from "./record/frontier-drawing.ts";
import { realTraces } from "./record/real-traces.ts";
import { syntheticTraces } from "./record/synthetic-traces.ts";
import { describe } from "./record/table.ts";
import { verdictsOf } from "./record/verdicts.ts";

const RESULTS = fileURLToPath(new URL("results", import.meta.url));

export interface RecordBenchOptions {
  /** Where a drawing of the frontier goes; empty for none. */
  readonly frontier: string;
}

export async function record({ frontier }: RecordBenchOptions): Promise<{ result: unknown; text: string }> {
  const real = await realTraces();
  const traces = [...syntheticTraces(), ...real];
  const comparisons = traces.map(compare);
  const verdicts = verdictsOf(
    comparisons,
    real.map(({ name }) => name),
  );
  const result = { comparisons, verdicts };
  await mkdir(RESULTS, { recursive: true });
  const saved = join(RESULTS, "record.json");
  await writeFile(saved, `${JSON.stringify(result, null, 2)}\n`);
  if (frontier !== "") await writeFile(frontier, drawing(traces.map(frontierOf)));
  return { result, text: `${describe(comparisons, verdicts)}\nSaved as ${saved}` };
}
