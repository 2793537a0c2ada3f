/**
 * The driver beside its peers, in one guest run on one kernel: sluice's null and file targets, the kernel's own ublk server
 * in C (kublk), and the loop device. Medians of several rounds, in which all peers take turns; ratios, not times.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { measureInGuest, saveResult } from "./guest-run.ts";
import type { DriverMeasurement, DriverOrder } from "./guest/driver.ts";
import { rowsOf, tableOf } from "./report.ts";

const KUBLK = fileURLToPath(new URL("../scripts/kublk", import.meta.url));
/** What must be reached beside kublk. */
const WANTED = { iops: 0.95, cpu: 1.2 } as const;
const PAIRS = [
  ["sluice null", "kublk null"],
  ["sluice file", "kublk loop"],
  ["sluice file", "loop device"],
] as const;
const MIB = 2 ** 20;

export interface DriverOptions extends Omit<DriverOrder, "kublk"> {
  readonly kernel: string;
}

export async function driver(options: DriverOptions): Promise<{ result: unknown; text: string }> {
  const { kernel, rounds, requests, load, nullOnly } = options;
  const { stdout } = await promisify(execFile)(KUBLK);
  const order: DriverOrder = { kublk: stdout.trim(), rounds, requests, load, nullOnly };
  const measured = (await measureInGuest("bench/guest/driver.ts", order, kernel)) as DriverMeasurement;
  const { samples, memory, start } = measured;
  const rows = rowsOf(samples, PAIRS, WANTED);
  const result = { kernel: measured.kernel, rounds, rows, memory, start };
  const saved = await saveResult(`driver-${kernel}`, { ...result, samples });
  const mib = (bytes: number): string => (bytes / MIB).toFixed(1);
  const text = [
    `Linux ${measured.kernel}, emulated guest: compare within a row; medians of ${rounds} rounds.`,
    "Ratios are sluice's figure to the peer's. CPU is the server's own time for a request; the loop device has no process.",
    `Targets beside kublk: IOPS at least ${WANTED.iops}, CPU at most ${WANTED.cpu}.`,
    "",
    ...tableOf(rows),
    "",
    ...memory.map(
      (of) =>
        `resident memory of ${of.peer}: ${mib(of.afterBytes)} MiB after ${of.requests} more requests at depth 128 (${mib(of.beforeBytes)} MiB before)`,
    ),
    `start of sluice null, emulated, ms: ${Object.entries(start)
      .map(([part, ms]) => `${part} ${Math.round(ms)}`)
      .join(", ")}`,
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
