/** The tables of the record benchmark: one for each trace, then the verdicts. */
import { LIMIT_BYTES, type Comparison } from "./compare.ts";
import type { Figures } from "./models/model.ts";
import { IN_FLIGHT_WRITES } from "./models/in-flight.ts";
import { CHUNK_BYTES } from "./models/predictive.ts";
import { PACE_US } from "./trace.ts";
import type { Verdict } from "./verdicts.ts";

const MIB = 2 ** 20;
const KIB = 2 ** 10;
const HEAD = [
  "record",
  "updates",
  "per 1,000",
  "MiB at most",
  "MiB mean",
  "flushes",
  "perfect knowledge",
  "beside DRBD",
] as const;

interface Line {
  readonly record: string;
  readonly figures: Figures;
  readonly oracle?: Figures;
  /** Of a peer with as much to copy. */
  readonly beside?: Figures;
}

function linesOf(comparison: Comparison): Line[] {
  const { activityLogs, ours, small, mdBitmap, locklessBitmap, unpredicted } = comparison;
  return [
    ...activityLogs.map(({ extents, figures }) => ({ record: `DRBD, ${extents} extents`, figures })),
    { record: "md bitmap", figures: mdBitmap },
    { record: "md llbitmap", figures: locklessBitmap },
    ...[small, ours].map(({ limitBytes, figures, oracle }) => ({
      record: `sluice, ${limitBytes / MIB} MiB`,
      figures,
      oracle,
    })),
    { record: "sluice without prediction", figures: unpredicted },
    ...activityLogs.map(({ extents, figures: beside, ours: { figures, oracle } }) => ({
      record: `sluice as large as DRBD, ${extents}`,
      figures,
      oracle,
      beside,
    })),
  ];
}

function cellsOf({ record, figures, oracle, beside }: Line): string[] {
  return [
    record,
    String(figures.updates),
    figures.perThousand.toFixed(2),
    (figures.maxBytes / MIB).toFixed(0),
    (figures.meanBytes / MIB).toFixed(0),
    figures.flushes === null ? "" : String(figures.flushes),
    oracle?.perThousand.toFixed(2) ?? "",
    beside === undefined ? "" : (figures.updates / beside.updates).toFixed(2),
  ];
}

function tableOf(comparison: Comparison): string[] {
  const rows = [HEAD, ...linesOf(comparison).map(cellsOf)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return [
    `${comparison.trace}: ${comparison.writes} writes`,
    ...rows.map((cells) =>
      cells
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    ),
    "",
  ];
}

export function describe(comparisons: readonly Comparison[], verdicts: readonly Verdict[]): string {
  return [
    "Updates of the durable record beside MiB to copy after a crash. Exact counts of models; nothing is timed.",
    `Chunks of ${CHUNK_BYTES / KIB} KiB; the limit for every trace is ${LIMIT_BYTES / MIB} MiB; a write is copied to the remote ${IN_FLIGHT_WRITES} writes later.`,
    `Synthetic traces go at ${1e6 / PACE_US} writes a second, real ones at their own pace.`,
    "Flushes are those that sluice asks the backing store for beside its updates; an update of DRBD flushes it each time.",
    "",
    ...comparisons.flatMap(tableOf),
    ...verdicts.map(({ target, reached, detail }) => `${reached ? "reached" : "NOT REACHED"}: ${target} (${detail})`),
  ].join("\n");
}
