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
const VOLUME = { device: "vda", path: "/dev/vda" } as const;
const STORE = { device: "vdb", path: "/dev/vdb" } as const;
const SECTOR_BYTES = 512;
const WRITTEN_BYTES = 32 * 2 ** 20;
const DEPTH = 32;

interface Counters {
  readonly readBytes: number;
  readonly writtenBytes: number;
}

async function countersOf(device: string): Promise<Counters> {
  const fields = (await readFile(`/sys/block/${device}/stat`, "utf8")).trim().split(/\s+/).map(Number);
  return { readBytes: (fields[2] ?? NaN) * SECTOR_BYTES, writtenBytes: (fields[6] ?? NaN) * SECTOR_BYTES };
}

/** Each place once, in an order by chance that is the same each time. */
async function overwrite(path: string): Promise<number> {
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
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { write: { iops: number } }[] };
  return jobs[0]?.write.iops ?? NaN;
}

/** Has the volume with its snapshots ready, gives its device and how to take everything away again. */
type Setup = (contender: Contender) => Promise<{ path: string; takeDown: () => Promise<void> }>;

async function usedBytes(): Promise<number> {
  const text = await run("bin/sluice", "snapshot", "list", "snapped", "--json");
  return (JSON.parse(text) as { store: { usedBytes: number } }).store.usedBytes;
}

const sluice: Setup = async ({ snapshots, blockKib }) => {
  await run("dd", "if=/dev/zero", `of=${STORE.path}`, "bs=16k", "count=1", "conv=fsync");
  await configure("snapped", `path = "${VOLUME.path}"`, `[snapshots]\nstore = "${STORE.path}"`);
  await run("bin/sluice", "snapshot", "init", "snapped", `--block=${blockKib}KiB`);
  await run("bin/sluice", "up", "snapped");
  // Whatever is compiled while it runs is compiled by then.
  await run("bin/sluice", "snapshot", "create", "snapped", "before");
  await overwrite("/dev/sluice/snapped");
  await run("bin/sluice", "snapshot", "delete", "snapped", "before");
  while ((await usedBytes()) > 0);
  for (let number = 1; number <= snapshots; number++)
    await run("bin/sluice", "snapshot", "create", "snapped", `s${number}`);
  return { path: "/dev/sluice/snapped", takeDown: () => run("bin/sluice", "down", "snapped").then(() => undefined) };
};

const dm: Setup = async ({ snapshots, blockKib }) => {
  const sectors = Number(await readFile(`/sys/block/${VOLUME.device}/size`, "utf8"));
  const storeSectors = Math.floor(Number(await readFile(`/sys/block/${STORE.device}/size`, "utf8")) / 4);
  const made: string[] = [];
  const make = async (name: string, table: string): Promise<string> => {
    await run("dmsetup", "create", name, "--table", table);
    made.unshift(name);
    return `/dev/mapper/${name}`;
  };
  const base = await make("base", `0 ${sectors} linear ${VOLUME.path} 0`);
  await overwrite(base);
  for (let number = 0; number < snapshots; number++) {
    const cow = await make(`cow${number}`, `0 ${storeSectors} linear ${STORE.path} ${number * storeSectors}`);
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

async function measure(contender: Contender): Promise<SnapshotSample> {
  const { path, takeDown } = await (contender.by === "sluice" ? sluice : dm)(contender);
  const before = [await countersOf(VOLUME.device), await countersOf(STORE.device)] as const;
  const firstIops = await overwrite(path);
  const after = [await countersOf(VOLUME.device), await countersOf(STORE.device)] as const;
  const secondIops = await overwrite(path);
  await takeDown();
  return {
    ...contender,
    firstIops,
    secondIops,
    readRatio: (after[0].readBytes - before[0].readBytes) / WRITTEN_BYTES,
    writtenRatio: (after[1].writtenBytes - before[1].writtenBytes) / WRITTEN_BYTES,
  };
}

async function main(): Promise<void> {
  const { rounds } = readOrder() as SnapshotOrder;
  await run("modprobe", "-a", "ublk_drv", "dm_snapshot");
  const samples: SnapshotSample[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const contender of CONTENDERS) {
      const sample = await measure(contender);
      samples.push(sample);
      tell(`round ${round} ${JSON.stringify(sample)}`);
    }
  }
  await leave({ kernel: release(), samples });
}

if (import.meta.main) await main();
