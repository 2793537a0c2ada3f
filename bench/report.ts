/** Medians, ratios and verdicts of the driver benchmark, and its table. */
import type { DriverMeasurement } from "./guest/driver.ts";
import type { Sample } from "./guest/measure.ts";

/** What must be reached beside kublk. */
const IOPS_WANTED = 0.95;
const CPU_WANTED = 1.2;

const MIB = 2 ** 20;
const ABSENT = "-";

/** Sluice beside a peer under one load; null where a figure does not exist. Ratios are sluice's figure to the peer's. */
export interface Row {
  readonly load: string;
  readonly ours: string;
  readonly peer: string;
  readonly iops: number;
  readonly iopsRatio: number;
  readonly cpuUs: number;
  readonly cpuRatio: number | null;
  readonly p99Us: number;
  readonly p99Ratio: number;
  readonly verdict: string;
}

const PAIRS = [
  ["sluice null", "kublk null"],
  ["sluice file", "kublk loop"],
  ["sluice file", "loop device"],
] as const;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}

/** A row for each load and each pair that was measured. */
export function rowsOf(samples: readonly Sample[]): Row[] {
  const measured = new Set(samples.map(({ peer }) => peer));
  const pairs = PAIRS.filter(([ours, peer]) => measured.has(ours) && measured.has(peer));
  const loads = [...new Set(samples.map(({ load }) => load))];
  return loads.flatMap((load) => pairs.map(([ours, peer]) => rowOf(samples, load, ours, peer)));
}

function rowOf(samples: readonly Sample[], load: string, ours: string, peer: string): Row {
  const of = (name: string, key: "iops" | "cpuUs" | "p99Us"): number =>
    median(samples.filter((each) => each.peer === name && each.load === load).map((each) => each[key] ?? NaN));
  const ratio = (key: "iops" | "cpuUs" | "p99Us"): number => of(ours, key) / of(peer, key);
  const cpuRatio = Number.isNaN(ratio("cpuUs")) ? null : ratio("cpuUs");
  return {
    load,
    ours,
    peer,
    iops: of(ours, "iops"),
    iopsRatio: ratio("iops"),
    cpuUs: of(ours, "cpuUs"),
    cpuRatio,
    p99Us: of(ours, "p99Us"),
    p99Ratio: ratio("p99Us"),
    verdict: cpuRatio === null ? ABSENT : verdict(ratio("iops"), cpuRatio),
  };
}

function verdict(iopsRatio: number, cpuRatio: number): string {
  const missed = [
    ...(iopsRatio >= IOPS_WANTED ? [] : [`IOPS below ${IOPS_WANTED}`]),
    ...(cpuRatio <= CPU_WANTED ? [] : [`CPU above ${CPU_WANTED}`]),
  ];
  return missed.length === 0 ? "reached" : `not reached: ${missed.join(", ")}`;
}

const HEAD = ["load", "ours", "peer", "IOPS", "ratio", "CPU µs", "ratio", "p99 µs", "ratio", "targets"];

function cellsOf(row: Row): string[] {
  return [
    row.load,
    row.ours,
    row.peer,
    row.iops.toFixed(0),
    row.iopsRatio.toFixed(2),
    row.cpuUs.toFixed(1),
    row.cpuRatio?.toFixed(2) ?? ABSENT,
    row.p99Us.toFixed(0),
    row.p99Ratio.toFixed(2),
    row.verdict,
  ];
}

export function describe({ kernel, memory, start }: DriverMeasurement, rounds: number, rows: readonly Row[]): string {
  const lines = [HEAD, ...rows.map(cellsOf)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  const mib = (bytes: number): string => (bytes / MIB).toFixed(1);
  return [
    `Linux ${kernel}, emulated guest: compare within a row; medians of ${rounds} rounds.`,
    "Ratios are sluice's figure to the peer's. CPU is the server's own time for a request; the loop device has no process.",
    `Targets beside kublk: IOPS at least ${IOPS_WANTED}, CPU at most ${CPU_WANTED}.`,
    "",
    ...lines.map((cells) =>
      cells
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    ),
    "",
    ...memory.map(
      ({ peer, requests, beforeBytes, afterBytes }) =>
        `resident memory of ${peer}: ${mib(afterBytes)} MiB after ${requests} more requests at depth 128 (${mib(beforeBytes)} MiB before)`,
    ),
    `start of sluice null, emulated, ms: ${Object.entries(start)
      .map(([part, ms]) => `${part} ${Math.round(ms)}`)
      .join(", ")}`,
  ].join("\n");
}
