/**
 * What the predictive record costs a volume whose working set is recorded: the file target without a record beside two with
 * one, on persistent memory and on an ordinary disk, in one guest run. Beside them one with a layer that lets everything pass:
 * the bound that any layer has there. Medians of several rounds; ratios, not times.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import { NVRAM_DISK_BYTES, PEERS, type RecordingMeasurement, type RecordingOrder } from "./guest/recording.ts";
import { rowsOf, tableOf } from "./report.ts";

/** What must be reached beside the volume without a record. */
const WANTED = { iops: 0.95 } as const;
const PAIRS = [
  [PEERS.layer, PEERS.plain],
  [PEERS.pmem, PEERS.plain],
  [PEERS.disk, PEERS.plain],
] as const;

export interface RecordingOptions extends RecordingOrder {
  readonly kernel: string;
}

export async function recording(options: RecordingOptions): Promise<{ result: unknown; text: string }> {
  const { kernel, rounds, load } = options;
  const order: RecordingOrder = { rounds, load };
  const bytes = String(NVRAM_DISK_BYTES / 2 ** 20) + "M";
  const disks = ["--pmem", bytes, "--disk", bytes];
  const measured = (await measureInGuest("bench/guest/recording.ts", order, kernel, ...disks)) as RecordingMeasurement;
  const { samples, updates } = measured;
  const rows = rowsOf(samples, PAIRS, WANTED);
  const result = { kernel: measured.kernel, rounds, rows, updates };
  const saved = await saveResult(`recording-${kernel}`, { ...result, samples });
  const text = [
    `Linux ${measured.kernel}, emulated guest: compare within a row; medians of ${rounds} rounds.`,
    "Ratios are the figure with a record to that without. CPU is the daemon's own time for a request.",
    `Target: IOPS at least ${WANTED.iops}.`,
    "",
    ...tableOf(rows),
    "",
    ...updates.map(
      (of) => `updates of the record while measuring, ${of.peer}: ${of.whileMeasuring} (before: ${of.before})`,
    ),
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
