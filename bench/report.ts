/** Medians, ratios and verdicts of what was measured by fio, and their table. */
import type { Sample } from "./guest/measure.ts";

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

/** Of an even number of values, the middle of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}

/** What ratios must reach: IOPS at least, the server's CPU time at most. */
export interface Wanted {
  readonly iops: number;
  readonly cpu?: number;
}

type Pair = readonly [ours: string, peer: string];

/** A row for each load and each pair that was measured. */
export function rowsOf(samples: readonly Sample[], pairs: readonly Pair[], wanted: Wanted): Row[] {
  const measured = new Set(samples.map(({ peer }) => peer));
  const present = pairs.filter(([ours, peer]) => measured.has(ours) && measured.has(peer));
  const loads = [...new Set(samples.map(({ load }) => load))];
  return loads.flatMap((load) => present.map((pair) => rowOf(samples, load, pair, wanted)));
}

function rowOf(samples: readonly Sample[], load: string, [ours, peer]: Pair, wanted: Wanted): Row {
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
    verdict: cpuRatio === null ? ABSENT : verdict(ratio("iops"), cpuRatio, wanted),
  };
}

function verdict(iopsRatio: number, cpuRatio: number, { iops, cpu = Infinity }: Wanted): string {
  const missed = [
    ...(iopsRatio >= iops ? [] : [`IOPS below ${iops}`]),
    ...(cpuRatio <= cpu ? [] : [`CPU above ${cpu}`]),
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

/** The lines of a table. */
export function tableOf(rows: readonly Row[]): string[] {
  return linesOf([HEAD, ...rows.map(cellsOf)]);
}

/** Cells in columns, as many in each line. */
export function linesOf(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0))) ?? [];
  return lines.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
