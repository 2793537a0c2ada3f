/**
 * Overwrites of a volume that is kept as it was, or is being copied, by sluice and by QEMU's storage daemon: its filter that copies
 * before it writes, its backup job with a fleecing image and without. Bytes are counted on the disks; IOPS are ratios in a run.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import { QEMU_CONTENDERS, QEMU_DISKS, type QemuContender, type QemuMeasurement, type QemuOrder } from "./guest/qemu.ts";
import { median } from "./report.ts";

export interface QemuOptions extends QemuOrder {
  readonly kernel: string;
}

export async function qemu({ kernel, rounds }: QemuOptions): Promise<{ result: unknown; text: string }> {
  const disks = QEMU_DISKS.flatMap((size) => ["--disk", size]);
  const order: QemuOrder = { rounds };
  const measured = (await measureInGuest("bench/guest/qemu.ts", order, kernel, ...disks)) as QemuMeasurement;
  const rows = QEMU_CONTENDERS.map((contender) => {
    const own = measured.samples.filter((sample) => isOf(sample, contender));
    return {
      ...contender,
      iops: median(own.map(({ iops }) => iops)),
      p99Us: median(own.map(({ p99Us }) => p99Us)),
      readRatio: median(own.map(({ readRatio }) => readRatio)),
      storedRatio: median(own.map(({ storedRatio }) => storedRatio)),
      copiedRatio: median(own.map(({ copiedRatio }) => copiedRatio)),
    };
  });
  const plain = (by: string): number => rows.find((row) => row.by === by && row.keeping === "nothing")?.iops ?? NaN;
  const compared = rows.map((row) => ({ ...row, besidePlain: row.iops / plain(row.by) }));
  const result = { kernel: measured.kernel, version: measured.version, rounds, rows: compared };
  const saved = await saveResult(`qemu-${kernel}`, { ...result, samples: measured.samples });
  const text = [
    `Linux ${measured.kernel}, ${measured.version}, emulated guest: compare within a run; medians of ${rounds} rounds.`,
    "Random overwrites of 4 KiB at depth 32. Bytes read from the volume's disk, written to the store or fleecing image and to the",
    "destination, for each byte that was overwritten; those of the job itself among them, 4 MiB/s.",
    "What QEMU has kept aside is not durable, and lost with its process; what sluice has is, before the write goes on.",
    "",
    "by      volume           block     IOPS  to plain    p99 µs    read  stored  copied",
    ...compared.map((row) =>
      [
        row.by.padEnd(7),
        row.keeping.padEnd(15),
        `${row.blockKib} KiB`.padStart(6),
        row.iops.toFixed(0).padStart(8),
        row.besidePlain.toFixed(2).padStart(9),
        row.p99Us.toFixed(0).padStart(9),
        row.readRatio.toFixed(2).padStart(7),
        row.storedRatio.toFixed(2).padStart(7),
        row.copiedRatio.toFixed(2).padStart(7),
      ].join(" "),
    ),
    "",
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}

function isOf(sample: QemuContender, wanted: QemuContender): boolean {
  return sample.by === wanted.by && sample.keeping === wanted.keeping && sample.blockKib === wanted.blockKib;
}
