/**
 * The part of the benchmark of snapshots that runs in the guest, as root: first and second overwrites of a volume that has
 * snapshots, by sluice and by dm-snapshot, on the same two disks, in turns.
 */
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { leave, readOrder, tell } from "./order.ts";
import { configure, run } from "./peers.ts";

export interface SnapshotOrder {
  readonly rounds: number;
  /** Volume and stores are parts of one disk that is slower than the processor. */
  readonly slowDisk: boolean;
}

/** What is kept of the volume while it is overwritten. */
export interface Contender {
  readonly by: "sluice" | "dm";
  readonly snapshots: number;
  readonly blockKib: number;
}

export interface SnapshotSample {
  readonly by: string;
  readonly snapshots: number;
  readonly blockKib: number;
  /** Of writes to places that were not written since the snapshots were taken, and of writes to the same places again. */
  readonly firstIops: number;
  readonly secondIops: number;
  /** Of the disks, for each byte that was written first. */
  readonly readRatio: number;
  readonly writtenRatio: number;
}

export interface SnapshotMeasurement {
  readonly kernel: string;
  readonly samples: readonly SnapshotSample[];
}

export const CONTENDERS: readonly Contender[] = [
  { by: "sluice", snapshots: 0, blockKib: 4 },
  { by: "sluice", snapshots: 1, blockKib: 4 },
  { by: "sluice", snapshots: 4, blockKib: 4 },
  { by: "sluice", snapshots: 8, blockKib: 4 },
  { by: "sluice", snapshots: 1, blockKib: 64 },
  { by: "dm", snapshots: 0, blockKib: 4 },
  { by: "dm", snapshots: 1, blockKib: 4 },
  { by: "dm", snapshots: 4, blockKib: 4 },
  { by: "dm", snapshots: 1, blockKib: 64 },
];

/** Of the volume's disk and the stores' disk. */
export const DISKS = ["256M", "1G"] as const;
/** As an SSD is to a processor that is not emulated: so many operations at once, each takes so long. */
const SLOW_DISK = { atOnce: 8, nanoseconds: 4_000_000, volumeSectors: 2 ** 19, storeSectors: 2 ** 21 } as const;
/** Block devices that the contenders are given. */
export interface Disks {
  readonly volume: string;
  readonly store: string;
}
export const FAST_DISKS: Disks = { volume: "/dev/vda", store: "/dev/vdb" };
export const VOLUME_NAME = "snapped";
const SECTOR_BYTES = 512;
export const WRITTEN_BYTES = 32 * 2 ** 20;
const DEPTH = 32;

export interface Counters {
  readonly readBytes: number;
  readonly writtenBytes: number;
}

async function makeSlowDisks(): Promise<Disks> {
  const { atOnce, nanoseconds, volumeSectors, storeSectors } = SLOW_DISK;
  const settings = [`completion_nsec=${nanoseconds}`, `hw_queue_depth=${atOnce}`, "irqmode=2", "submit_queues=1"];
  await run("modprobe", "null_blk", "nr_devices=1", "memory_backed=1", "gb=2", "bs=512", "no_sched=1", ...settings);
  // Partitions, since the device mapper counts requests anew that the disk has no room for yet.
  await run("addpart", "/dev/nullb0", "1", "0", String(volumeSectors));
  await run("addpart", "/dev/nullb0", "2", String(volumeSectors), String(storeSectors));
  return { volume: "/dev/nullb0p1", store: "/dev/nullb0p2" };
}

async function sectorsOf(path: string): Promise<number> {
  return Number(await run("blockdev", "--getsz", path));
}

export async function countersOf(path: string): Promise<Counters> {
  const device = (await run("stat", "--dereference", "--format=%Hr:%Lr", path)).trim();
  const fields = (await readFile(`/sys/dev/block/${device}/stat`, "utf8")).trim().split(/\s+/).map(Number);
  return { readBytes: (fields[2] ?? NaN) * SECTOR_BYTES, writtenBytes: (fields[6] ?? NaN) * SECTOR_BYTES };
}

/** Each place once, in an order by chance that is the same each time. */
export async function overwrite(path: string): Promise<{ iops: number; p99Us: number }> {
  const text = await run(
    "fio",
    "--name=w",
    `--filename=${path}`,
    "--ioengine=libaio",
    "--direct=1",
    "--rw=randwrite",
    "--bs=4k",
    `--iodepth=${DEPTH}`,
    `--io_size=${WRITTEN_BYTES}`,
    "--randseed=7",
    "--disk_util=0",
    "--output-format=json",
  );
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as {
    jobs: { write: { iops: number; clat_ns: { percentile: Record<string, number> } } }[];
  };
  const written = jobs[0]?.write;
  return { iops: written?.iops ?? NaN, p99Us: (written?.clat_ns.percentile["99.000000"] ?? NaN) / 1000 };
}

/** Has the volume with its snapshots ready, gives its device and how to take everything away again. */
type Setup = (
  disks: Disks,
  snapshots: number,
  blockKib: number,
) => Promise<{ path: string; takeDown: () => Promise<void> }>;

async function usedBytes(): Promise<number> {
  const text = await run("bin/sluice", "snapshot", "list", VOLUME_NAME, "--json");
  return (JSON.parse(text) as { store: { usedBytes: number } }).store.usedBytes;
}

export const startSluice: Setup = async ({ volume, store }, snapshots, blockKib) => {
  await run("dd", "if=/dev/zero", `of=${store}`, "bs=16k", "count=1", "conv=fsync");
  await configure(VOLUME_NAME, `path = "${volume}"`, `[snapshots]\nstore = "${store}"`);
  await run("bin/sluice", "snapshot", "init", VOLUME_NAME, `--block=${blockKib}KiB`);
  await run("bin/sluice", "up", VOLUME_NAME);
  // Whatever is compiled while it runs is compiled by then.
  await run("bin/sluice", "snapshot", "create", VOLUME_NAME, "before");
  await overwrite(`/dev/sluice/${VOLUME_NAME}`);
  await run("bin/sluice", "snapshot", "delete", VOLUME_NAME, "before");
  while ((await usedBytes()) > 0);
  for (let number = 1; number <= snapshots; number++)
    await run("bin/sluice", "snapshot", "create", VOLUME_NAME, `s${number}`);
  return {
    path: `/dev/sluice/${VOLUME_NAME}`,
    takeDown: () => run("bin/sluice", "down", VOLUME_NAME).then(() => undefined),
  };
};

const startDm: Setup = async ({ volume, store }, snapshots, blockKib) => {
  const sectors = await sectorsOf(volume);
  const storeSectors = Math.floor((await sectorsOf(store)) / 4);
  const made: string[] = [];
  const make = async (name: string, table: string): Promise<string> => {
    await run("dmsetup", "create", name, "--table", table);
    made.unshift(name);
    return `/dev/mapper/${name}`;
  };
  const base = await make("base", `0 ${sectors} linear ${volume} 0`);
  await overwrite(base);
  for (let number = 0; number < snapshots; number++) {
    const cow = await make(`cow${number}`, `0 ${storeSectors} linear ${store} ${number * storeSectors}`);
    await run("dd", "if=/dev/zero", `of=${cow}`, "bs=64k", "count=1", "conv=fsync");
    await make(`snap${number}`, `0 ${sectors} snapshot ${base} ${cow} P ${blockKib * 2}`);
  }
  const path = snapshots === 0 ? base : await make("origin", `0 ${sectors} snapshot-origin ${base}`);
  return {
    path,
    takeDown: async () => {
      for (const name of made) await run("dmsetup", "remove", "--retry", name);
    },
  };
};

async function measure(contender: Contender, disks: Disks): Promise<SnapshotSample> {
  const start = contender.by === "sluice" ? startSluice : startDm;
  const { path, takeDown } = await start(disks, contender.snapshots, contender.blockKib);
  const before = [await countersOf(disks.volume), await countersOf(disks.store)] as const;
  const first = await overwrite(path);
  const after = [await countersOf(disks.volume), await countersOf(disks.store)] as const;
  const second = await overwrite(path);
  await takeDown();
  return {
    ...contender,
    firstIops: first.iops,
    secondIops: second.iops,
    readRatio: (after[0].readBytes - before[0].readBytes) / WRITTEN_BYTES,
    writtenRatio: (after[1].writtenBytes - before[1].writtenBytes) / WRITTEN_BYTES,
  };
}

async function main(): Promise<void> {
  const { rounds, slowDisk } = readOrder() as SnapshotOrder;
  await run("modprobe", "-a", "ublk_drv", "dm_snapshot");
  const disks = slowDisk ? await makeSlowDisks() : FAST_DISKS;
  const samples: SnapshotSample[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const contender of CONTENDERS) {
      const sample = await measure(contender, disks);
      samples.push(sample);
      tell(`round ${round} ${JSON.stringify(sample)}`);
    }
  }
  await leave({ kernel: release(), samples });
}

if (import.meta.main) await main();
