/**
 * How many originals a copy job has moved aside while the volume is written to, beside a snapshot that stands while the same
 * writes are done: counts, no timing. Half as many writes are done as the volume has blocks.
 */
import { CASES, DISKS, type CopyCase, type CopyMeasurement } from "./guest/copy.ts";
import { measureInGuest, saveResult } from "./guest-run.ts";

export interface CopyOptions {
  readonly kernel: string;
}

/** What must be reached: of the originals that a snapshot has moved. */
function wantedFor({ load, order }: CopyCase): number | null {
  if (load === "uniform") return 0.55;
  return order === "hot-first" ? 0.3 : null;
}

export async function copy({ kernel }: CopyOptions): Promise<{ result: unknown; text: string }> {
  const disks = DISKS.flatMap((size) => ["--disk", size]);
  const measured = (await measureInGuest("bench/guest/copy.ts", { cases: CASES }, kernel, ...disks)) as CopyMeasurement;
  const rows = measured.samples.map((sample) => ({
    ...sample,
    share: sample.moved / sample.snapshotMoved,
    wanted: wantedFor(sample),
  }));
  const result = { kernel: measured.kernel, rows };
  const saved = await saveResult(`copy-${kernel}`, result);
  const text = [
    `Linux ${measured.kernel}, random writes of 4 KiB while a volume of 256 MiB is copied: originals moved, by blocks of 4 KiB.`,
    "",
    "load      order       writes   by the copy  by a snapshot  share  wanted",
    ...rows.map(({ load, order, writes, moved, snapshotMoved, share, wanted }) =>
      [
        load.padEnd(9),
        order.padEnd(9),
        String(writes).padStart(8),
        String(moved).padStart(13),
        String(snapshotMoved).padStart(14),
        share.toFixed(2).padStart(6),
        (wanted === null ? "" : `<= ${wanted}`).padStart(7),
      ].join(" "),
    ),
    "",
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
