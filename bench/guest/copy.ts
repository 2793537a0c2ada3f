/**
 * The part of the benchmark of copy jobs that runs in the guest, as root: how many originals a copy has moved while the
 * volume is written to, beside a snapshot that stands while the same writes are done.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import {
  askCopies,
  askCopyCancel,
  askCopyStart,
  askSnapshot,
  askSnapshots,
  askStatus,
} from "../../src/control/client.ts";
import type { CopyOrder } from "../../src/copy/segment-list.ts";
import { leave, tell } from "./order.ts";
import { configure, run } from "./peers.ts";

/** How a volume is written to, and in which order it is copied. */
export interface CopyCase {
  readonly load: "uniform" | "zipf:1.2";
  readonly order: CopyOrder;
}

export interface CopySample extends CopyCase {
  /** Writes of 4 KiB while the copy ran, and the originals that were moved for it. */
  readonly writes: number;
  readonly moved: number;
  /** Originals that a snapshot had moved by the same writes. */
  readonly snapshotMoved: number;
}

export interface CopyMeasurement {
  readonly kernel: string;
  readonly samples: readonly CopySample[];
}

export const CASES: readonly CopyCase[] = [
  { load: "uniform", order: "linear" },
  { load: "zipf:1.2", order: "linear" },
  { load: "zipf:1.2", order: "hot-first" },
];

/** Of the volume's disk, the store's, and the destination. */
export const DISKS = ["256M", "1G", "256M"] as const;
const VOLUME_BYTES = 256 * 2 ** 20;
const BLOCK_BYTES = 4096;
const BLOCKS = VOLUME_BYTES / BLOCK_BYTES;
/** While it is copied, half as many writes are done as the volume has blocks. */
const COPY_BYTES_PER_SECOND = 4 * 2 ** 20;
const WRITES_PER_SECOND = (BLOCKS / 2) * (COPY_BYTES_PER_SECOND / VOLUME_BYTES);
/** Before that, so many, by which the copy learns what is hot. */
const WARM_WRITES = 4 * BLOCKS;
const POLL_MS = 50;
const NAME = "copied";
const SEEDS = { warm: 11, measured: 7 } as const;

function load({ load: kind }: CopyCase, seed: number, ...more: string[]): string[] {
  // With its centre given, the same places are hot whatever the seed.
  const distribution = kind === "uniform" ? "random" : `${kind}:0.5`;
  return [
    ...["--name=w", `--filename=/dev/sluice/${NAME}`, "--ioengine=libaio", "--direct=1", "--rw=randwrite", "--bs=4k"],
    ...["--iodepth=8", "--norandommap", `--random_distribution=${distribution}`, `--randseed=${seed}`, "--disk_util=0"],
    ...more,
  ];
}

async function up(): Promise<void> {
  await run("dd", "if=/dev/zero", "of=/dev/vdb", "bs=16k", "count=1", "conv=fsync");
  await configure(NAME, 'path = "/dev/vda"', '[snapshots]\nstore = "/dev/vdb"');
  await run("bin/sluice", "snapshot", "init", NAME, "--block=4KiB");
  await run("bin/sluice", "up", NAME);
}

const moved = async (): Promise<number> => (await askSnapshots(NAME)).store.counts.moved;
const written = async (): Promise<number> => (await askStatus(NAME)).statistics.write.count;

/** Writes as many as are done while a copy runs, and the originals that it had moved. */
async function copyUnderLoad(case_: CopyCase): Promise<{ writes: number; moved: number }> {
  await up();
  await run("fio", ...load(case_, SEEDS.warm, `--number_ios=${WARM_WRITES}`));
  const writer = spawn(
    "fio",
    load(case_, SEEDS.measured, `--rate_iops=${WRITES_PER_SECOND}`, "--time_based", "--runtime=3600"),
    { stdio: "ignore" },
  );
  const idle = await written();
  while ((await written()) === idle) await sleep(POLL_MS);
  const before = await written();
  const { name } = await askCopyStart(NAME, {
    name: undefined,
    destinations: ["/dev/vdc"],
    segmentBytes: 2 ** 20,
    order: case_.order,
    bytesPerSecond: COPY_BYTES_PER_SECOND,
    recordBytes: null,
    force: false,
    staged: false,
  });
  while ((await askCopies(NAME)).some(({ state }) => state === "running")) await sleep(POLL_MS);
  const writes = (await written()) - before;
  const result = { writes, moved: await moved() };
  writer.kill("SIGINT");
  await once(writer, "exit");
  await askCopyCancel(NAME, name);
  await run("bin/sluice", "down", NAME);
  return result;
}

/** The originals that a snapshot has moved by as many writes of the same kind. */
async function snapshotUnderLoad(case_: CopyCase, writes: number): Promise<number> {
  await up();
  await askSnapshot(NAME, "create", "s");
  await run("fio", ...load(case_, SEEDS.measured, `--number_ios=${writes}`));
  const result = await moved();
  await run("bin/sluice", "down", NAME);
  return result;
}

async function main(): Promise<void> {
  await run("modprobe", "ublk_drv");
  const samples: CopySample[] = [];
  for (const case_ of CASES) {
    const copied = await copyUnderLoad(case_);
    const snapshotMoved = await snapshotUnderLoad(case_, copied.writes);
    const sample = { ...case_, ...copied, snapshotMoved };
    samples.push(sample);
    tell(JSON.stringify(sample));
  }
  await leave({ kernel: release(), samples });
}

if (import.meta.main) await main();
