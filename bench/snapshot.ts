/**
 * What snapshots cost the writer, beside dm-snapshot: first and second overwrites of random 4 KiB, on the same two disks of
 * one guest, or on one slow disk, in turns. Medians of several rounds; ratios, and bytes counted on the disks.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import { CONTENDERS, DISKS, type Contender, type SnapshotMeasurement, type SnapshotOrder } from "./guest/snapshot.ts";
import { median } from "./report.ts";

/** What must be reached: IOPS beside dm-snapshot with as many snapshots; bytes for each that is overwritten first. */
const WANTED = { one: 1.5, four: 3, second: 0.95, written: 1.05 } as const;

export interface SnapshotOptions extends SnapshotOrder {
  readonly kernel: string;
}

export async function snapshot({
  kernel,
  rounds,
  slowDisk,
}: SnapshotOptions): Promise<{ result: unknown; text: string }> {
  const disks = DISKS.flatMap((size) => ["--disk", size]);
  const measured = (await measureInGuest(
    "bench/guest/snapshot.ts",
    { rounds, slowDisk },
    kernel,
    ...disks,
  )) as SnapshotMeasurement;
  const rows = CONTENDERS.map((contender) => {
    const own = measured.samples.filter((sample) => isOf(sample, contender));
    return {
      ...contender,
      firstIops: median(own.map(({ firstIops }) => firstIops)),
      secondIops: median(own.map(({ secondIops }) => secondIops)),
      readRatio: median(own.map(({ readRatio }) => readRatio)),
      writtenRatio: median(own.map(({ writtenRatio }) => writtenRatio)),
    };
  });
  const find = (by: string, snapshots: number, blockKib: number): (typeof rows)[number] | undefined =>
    rows.find((row) => row.by === by && row.snapshots === snapshots && row.blockKib === blockKib);
  const beside = (snapshots: number, blockKib: number): number =>
    (find("sluice", snapshots, blockKib)?.firstIops ?? NaN) / (find("dm", snapshots, blockKib)?.firstIops ?? NaN);
  // Whoever moves originals in a daemon reads one and writes through the volume, if nothing else costs anything. A raw
  // write, which dm-snapshot without snapshots is, stands for the read.
  const bound = (snapshots: number): number => {
    const usOf = (by: string, count: number): number => 1e6 / (find(by, count, 4)?.firstIops ?? NaN);
    return usOf("dm", snapshots) / (usOf("dm", 0) + usOf("sluice", 0));
  };
  const ratios = {
    "first overwrites beside dm-snapshot, 1 snapshot, 4 KiB": beside(1, 4),
    "first overwrites beside dm-snapshot, 4 snapshots, 4 KiB": beside(4, 4),
    "first overwrites beside dm-snapshot, 1 snapshot, 64 KiB": beside(1, 64),
    "second overwrites beside no snapshot":
      (find("sluice", 1, 4)?.secondIops ?? NaN) / (find("sluice", 0, 4)?.secondIops ?? NaN),
    "bound of the first, 1 snapshot: a read of the disk and a write to the volume, and nothing else": bound(1),
    "bound of the first, 4 snapshots": bound(4),
  };
  const result = { kernel: measured.kernel, rounds, slowDisk, rows, ratios };
  const saved = await saveResult(`snapshot${slowDisk ? "-slow-disk" : ""}-${kernel}`, {
    ...result,
    samples: measured.samples,
  });
  const text = [
    `Linux ${measured.kernel}, emulated guest: compare within a run; medians of ${rounds} rounds.`,
    `Targets: ${WANTED.one} and ${WANTED.four} of dm-snapshot with one and four snapshots, ${WANTED.second} at the second overwrite,`,
    `1.0 bytes read and at most ${WANTED.written} written for each that is overwritten first with blocks of 4 KiB.`,
    "",
    ...(slowDisk ? ["Volume and stores share a disk of at most 2,000 operations a second.", ""] : []),
    "by      snapshots  block   first/s  second/s  read  written",
    ...rows.map(({ by, snapshots, blockKib, firstIops, secondIops, readRatio, writtenRatio }) =>
      [
        by.padEnd(6),
        String(snapshots).padStart(10),
        `${blockKib} KiB`.padStart(7),
        firstIops.toFixed(0).padStart(8),
        secondIops.toFixed(0).padStart(9),
        readRatio.toFixed(2).padStart(5),
        writtenRatio.toFixed(3).padStart(8),
      ].join(" "),
    ),
    "",
    ...Object.entries(ratios).map(([what, ratio]) => `${what}: ${ratio.toFixed(2)}`),
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}

function isOf(sample: Contender | SnapshotMeasurement["samples"][number], wanted: Contender): boolean {
  return sample.by === wanted.by && sample.snapshots === wanted.snapshots && sample.blockKib === wanted.blockKib;
}
