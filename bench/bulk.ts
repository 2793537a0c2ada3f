/**
 * What a bulk copy costs the program that makes it: dd reads the whole of a volume, with a bulk copy begun and without, in
 * turns; while nothing is written, and while little is. Medians of the ratios of the rounds.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import { DISKS, WRITES_PER_SECOND, type BulkMeasurement, type BulkOrder } from "./guest/bulk.ts";
import { median } from "./report.ts";

/** What must be reached: the speed with a bulk copy begun to that without. */
const WANTED = 0.97;
/** A reading takes seconds, and its ratio is wanted more exactly than others. */
const READS_PER_ROUND = 4;

export interface BulkOptions extends BulkOrder {
  readonly kernel: string;
}

export async function bulk({ kernel, rounds }: BulkOptions): Promise<{ result: unknown; text: string }> {
  const disks = DISKS.flatMap((size) => ["--disk", size]);
  const order: BulkOrder = { rounds: rounds * READS_PER_ROUND };
  const measured = (await measureInGuest("bench/guest/bulk.ts", order, kernel, ...disks)) as BulkMeasurement;
  const rows = WRITES_PER_SECOND.map((writesPerSecond) => {
    const of = (isBegun: boolean): BulkMeasurement["samples"] =>
      measured.samples.filter((sample) => sample.writesPerSecond === writesPerSecond && sample.isBegun === isBegun);
    const plain = of(false);
    const begun = of(true);
    const ratios = begun.map(({ bytesPerSecond }, index) => bytesPerSecond / (plain[index]?.bytesPerSecond ?? NaN));
    return {
      writesPerSecond,
      plainBytesPerSecond: median(plain.map(({ bytesPerSecond }) => bytesPerSecond)),
      begunBytesPerSecond: median(begun.map(({ bytesPerSecond }) => bytesPerSecond)),
      moved: median(begun.map(({ moved }) => moved)),
      ratio: median(ratios),
      ratios,
    };
  });
  const result = { kernel: measured.kernel, rounds: order.rounds, wanted: WANTED, rows };
  const saved = await saveResult(`bulk-${kernel}`, { ...result, samples: measured.samples });
  const text = [
    `Linux ${measured.kernel}, emulated guest: compare within a row; medians of ${order.rounds} rounds.`,
    "dd reads a volume of 256 MiB on a RAM disk, 1 MiB at a time, O_DIRECT; the store has blocks of 16 KiB.",
    `Target: with a bulk copy begun at least ${WANTED} of the speed without.`,
    "",
    "writes/s  plain MB/s  begun MB/s  ratio  of the rounds  originals moved",
    ...rows.map((row) =>
      [
        String(row.writesPerSecond).padStart(8),
        (row.plainBytesPerSecond / 1e6).toFixed(1).padStart(11),
        (row.begunBytesPerSecond / 1e6).toFixed(1).padStart(11),
        row.ratio.toFixed(3).padStart(6),
        `${Math.min(...row.ratios).toFixed(2)} - ${Math.max(...row.ratios).toFixed(2)}`.padStart(14),
        row.moved.toFixed(0).padStart(16),
        row.ratio >= WANTED ? " reached" : " NOT REACHED",
      ].join(" "),
    ),
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
