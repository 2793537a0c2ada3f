/**
 * What a copy job costs a host whose load is steady: how long random writes of 4 KiB at a fixed rate take while a job copies to
 * a destination of 1 MB/s, or to one that stands still, beside no job. First overwrites ahead of the job are moved aside, so
 * the same load is measured with a snapshot, and with writes to what was moved already. Medians of several rounds; ratios.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import {
  BESIDES,
  DISKS,
  LOADS,
  SECONDS,
  WRITES_PER_SECOND,
  type CopyLoadMeasurement,
  type CopyLoadOrder,
} from "./guest/copy-load.ts";
import { median } from "./report.ts";

/** What must be reached: p99 beside that without a job. */
const WANTED = 1.5;

export interface CopyLoadOptions extends CopyLoadOrder {
  readonly kernel: string;
}

const TEXT = {
  nothing: "no job",
  snapshot: "a snapshot",
  fast: "a job, fast destination",
  slow: "a job, 1 MB/s",
  stopped: "a job, destination stopped",
} as const;

export async function copyLoad({ kernel, rounds }: CopyLoadOptions): Promise<{ result: unknown; text: string }> {
  const disks = DISKS.flatMap((size) => ["--disk", size]);
  const order: CopyLoadOrder = { rounds };
  const measured = (await measureInGuest("bench/guest/copy-load.ts", order, kernel, ...disks)) as CopyLoadMeasurement;
  const rows = LOADS.flatMap((load) =>
    BESIDES.map((beside) => {
      const own = measured.samples.filter((sample) => sample.load === load && sample.beside === beside);
      const of = (key: "iops" | "p50Us" | "p99Us" | "moved"): number => median(own.map((sample) => sample[key]));
      const copied = own.map(({ copiedBytes }) => copiedBytes ?? NaN);
      return {
        ...{ load, beside, iops: of("iops"), p50Us: of("p50Us"), p99Us: of("p99Us"), moved: of("moved") },
        copiedBytes: median(copied),
      };
    }),
  );
  const p99 = (load: string, beside: string): number =>
    rows.find((row) => row.load === load && row.beside === beside)?.p99Us ?? NaN;
  const compared = rows.map((row) => ({
    ...row,
    besideNothing: row.p99Us / p99(row.load, "nothing"),
    besideSnapshot: row.p99Us / p99(row.load, "snapshot"),
  }));
  const result = { kernel: measured.kernel, rounds, wanted: WANTED, rows: compared };
  const saved = await saveResult(`copy-load-${kernel}`, { ...result, samples: measured.samples });
  const text = [
    `Linux ${measured.kernel}, emulated guest: compare within a run; medians of ${rounds} rounds of ${SECONDS} s.`,
    `${WRITES_PER_SECOND} random writes of 4 KiB a second. "first": nearly each to a place for the first time; "again": to what was moved already.`,
    `Target: p99 at most ${WANTED} of that with no job, with a destination of 1 MB/s or a stopped one.`,
    "",
    "load   beside                       IOPS   p50 µs   p99 µs  to no job  to a snapshot  originals moved  copied MiB",
    ...compared.map((row) =>
      [
        row.load.padEnd(6),
        TEXT[row.beside].padEnd(26),
        row.iops.toFixed(0).padStart(6),
        row.p50Us.toFixed(0).padStart(8),
        row.p99Us.toFixed(0).padStart(8),
        row.besideNothing.toFixed(2).padStart(10),
        row.besideSnapshot.toFixed(2).padStart(14),
        row.moved.toFixed(0).padStart(16),
        (Number.isNaN(row.copiedBytes) ? "" : (row.copiedBytes / 2 ** 20).toFixed(0)).padStart(11),
      ].join(" "),
    ),
    "",
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}
