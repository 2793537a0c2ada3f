/** `sluice record`: the numbers of a volume's record, and its map, once or again and again. */
import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import { askRecord } from "../control/client.ts";
import { formatSize } from "../control/sizes.ts";
import type { RecordMap, RecordStatus } from "../control/record-status.ts";
import { print, table } from "./output.ts";

const WATCH_MS = 1000;
const MAP_WIDTH_DEFAULT = 100;
const MAP_ROWS = 24;
const CLEAR = "\x1b[H\x1b[2J";
/** From the least urgent to the most urgent, as the daemon names them. */
const URGENCY = ".prow";
const COLOURS = { ".": "gray", p: "cyan", r: "green", o: "yellow", w: "red" } as const;
const LEGEND = ". absent  p predicted  r recorded, copied  o owed  w being written";

export async function showRecord(name: string, watch: boolean, json: boolean): Promise<void> {
  for (;;) {
    const map = await askRecord(name);
    if (watch && process.stdout.isTTY && !json) process.stdout.write(CLEAR);
    print(json, map, () => describeRecord(name, map));
    if (!watch) return;
    await sleep(WATCH_MS);
  }
}

function describeRecord(name: string, map: RecordMap): string {
  const { cells, perCell } = fitted(map, process.stdout.columns || MAP_WIDTH_DEFAULT);
  return [
    table([["volume", name], ...factsOf(map.status)]),
    "",
    `map, ${formatSize(perCell)} a character: ${LEGEND}`,
    ...cells.map((row) => (process.stdout.isTTY ? coloured(row) : row)),
  ].join("\n");
}

/** Rows for `sluice status` and `sluice record`. */
export function factsOf(record: RecordStatus): [string, string][] {
  const { counts, hitRate, updatesPer1000Writes } = record;
  const rates =
    hitRate === null || updatesPer1000Writes === null
      ? "no writes yet"
      : `${(hitRate * 100).toFixed(2)} % of ${counts.writes} writes needed no update, ${updatesPer1000Writes.toFixed(2)} updates per 1,000`;
  return [
    ["record", `${record.nvram}, ${record.durableBy}, chunks of ${formatSize(record.chunkBytes)}`],
    ["", rates],
    [
      "",
      `a crash now costs ${formatSize(record.crashCopyBytes)} to copy (limit ${formatSize(record.limitBytes)}): ` +
        `${formatSize(record.owedBytes)} owed, ${formatSize(record.inFlightBytes)} being written, ${formatSize(record.predictedBytes)} predicted`,
    ],
    [
      "",
      `${counts.wanted} chunks wanted, ${counts.predicted} predicted (${counts.wasted} in vain), ${counts.removed} removed, ` +
        `${counts.flushes} flushes of its own, ${counts.stalls} stalls, ${counts.failures} failures`,
    ],
  ];
}

/** As many cells as the terminal has room for: each shows the most urgent of those that it stands for. */
function fitted({ cells, cellBytes }: RecordMap, width: number): { cells: string[]; perCell: number } {
  const merged = Math.ceil(cells.length / (width * MAP_ROWS));
  let shown = "";
  for (let at = 0; at < cells.length; at += merged) {
    const most = Math.max(...Array.from(cells.slice(at, at + merged), (cell) => URGENCY.indexOf(cell)));
    shown += URGENCY.charAt(most);
  }
  const rows = Array.from({ length: Math.ceil(shown.length / width) }, (_, row) =>
    shown.slice(row * width, (row + 1) * width),
  );
  return { cells: rows, perCell: merged * cellBytes };
}

function coloured(row: string): string {
  return row.replaceAll(/(.)\1*/g, (run, cell: keyof typeof COLOURS) => styleText(COLOURS[cell], run));
}
