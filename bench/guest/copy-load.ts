/**
 * The part of the benchmark of a load beside a copy job that runs in the guest, as root: how long writes at a fixed rate take
 * while a job copies to a destination that is fast, slow, or stands still; beside no job, and beside a snapshot.
 */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import {
  askCopies,
  askCopyCancel,
  askCopyStart,
  askSnapshot,
  askSnapshotDelete,
  askSnapshots,
} from "../../src/control/client.ts";
import { leave, readOrder, tell } from "./order.ts";
import { configure, run } from "./peers.ts";

export interface CopyLoadOrder {
  readonly rounds: number;
}

/** What goes on beside the load; a job is named by its destination. */
export const BESIDES = ["nothing", "snapshot", "fast", "slow", "stopped"] as const;
export type Beside = (typeof BESIDES)[number];

/** "first": to places by chance, nearly each for the first time. "again": to places that were written to already. */
export const LOADS = ["first", "again"] as const;

export interface CopyLoadSample {
  readonly beside: Beside;
  readonly load: (typeof LOADS)[number];
  readonly iops: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Originals that were moved aside meanwhile. */
  readonly moved: number;
  /** What the job had copied when the load was over; null where there is none. */
  readonly copiedBytes: number | null;
}

export interface CopyLoadMeasurement {
  readonly kernel: string;
  readonly samples: readonly CopyLoadSample[];
}

/** Of the volume's disk, the store's, and the destinations. */
export const DISKS = ["1G", "1G", "1G"] as const;
const VOLUME_BYTES = 2 ** 30;
const DESTINATION = "/dev/vdc";
const SECTOR_BYTES = 512;
export const WRITES_PER_SECOND = 150;
export const SECONDS = 8;
/** Places of the load that writes again, at the end of the volume: no job comes there meanwhile. */
const AGAIN_BYTES = 2 ** 20;
const NAME = "loaded";
const POLL_MS = 50;
const SLOW_KIB_PER_REQUEST = 4;

type Side = { readonly iops: number; readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> } };

async function fio(...words: string[]): Promise<Side> {
  const text = await run(
    "fio",
    ...["--name=w", `--filename=/dev/sluice/${NAME}`, "--ioengine=libaio", "--direct=1", "--bs=4k", "--iodepth=32"],
    ...["--disk_util=0", "--output-format=json", ...words],
  );
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { write: Side }[] };
  return jobs[0]?.write as Side;
}

const AGAIN = [`--offset=${VOLUME_BYTES - AGAIN_BYTES}`, `--size=${AGAIN_BYTES}`] as const;

/** Writes at the fixed rate. */
function paced(round: number, places: readonly string[]): Promise<Side> {
  return fio(
    ...["--rw=randwrite", "--norandommap", `--randseed=${round}`, `--rate_iops=${WRITES_PER_SECOND}`],
    ...["--time_based", `--runtime=${SECONDS}`, ...places],
  );
}

/** A null device that takes 1 MB/s. */
async function makeSlowDisk(): Promise<string> {
  await run("modprobe", "null_blk", "nr_devices=0");
  await run("sh", "-c", "mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config");
  const before = await readdir("/sys/block");
  const folder = "/sys/kernel/config/nullb/slow";
  await mkdir(folder);
  await writeFile(`${folder}/size`, String(VOLUME_BYTES / 2 ** 20));
  await writeFile(`${folder}/mbps`, "1");
  await writeFile(`${folder}/power`, "1");
  const device = (await readdir("/sys/block")).find((each) => !before.includes(each));
  if (device === undefined) throw new Error("null_blk made no device");
  // It admits so many bytes each 20 ms, and never a request that is larger.
  await writeFile(`/sys/block/${device}/queue/max_sectors_kb`, String(SLOW_KIB_PER_REQUEST));
  return `/dev/${device}`;
}

const tableOf = (disk: string): string => `0 ${VOLUME_BYTES / SECTOR_BYTES} linear ${disk} 0`;

async function load(name: string, disk: string): Promise<void> {
  await run("dmsetup", "suspend", "--noflush", "--nolockfs", name);
  await run("dmsetup", "load", name, "--table", tableOf(disk));
  await run("dmsetup", "resume", name);
}

const copiedBytes = async (): Promise<number> => (await askCopies(NAME))[0]?.copiedBytes ?? NaN;
const store = async (): Promise<{ usedBytes: number; moved: number }> => {
  const { usedBytes, counts } = (await askSnapshots(NAME)).store;
  return { usedBytes, moved: counts.moved };
};

async function begin(beside: Beside, slowDisk: string): Promise<void> {
  if (beside === "nothing") return;
  if (beside === "snapshot") {
    await askSnapshot(NAME, "create", beside);
    return;
  }
  if (beside === "slow") await load(beside, slowDisk);
  await askCopyStart(NAME, {
    name: beside,
    destinations: [`/dev/mapper/${beside}`],
    segmentBytes: 2 ** 20,
    order: "linear",
    bytesPerSecond: null,
    recordBytes: null,
    force: false,
    staged: false,
  });
  if (beside !== "stopped") return;
  while ((await copiedBytes()) === 0) await sleep(POLL_MS);
  await run("dmsetup", "suspend", "--noflush", "--nolockfs", beside);
}

async function end(beside: Beside): Promise<void> {
  if (beside === "snapshot") await askSnapshotDelete(NAME, beside);
  else if (beside !== "nothing") await askCopyCancel(NAME, beside);
  // What is on its way to the destination comes to its end.
  if (beside === "slow") await load(beside, DESTINATION);
  if (beside === "stopped") await run("dmsetup", "resume", beside);
  while ((await store()).usedBytes > 0) await sleep(POLL_MS);
  if (beside !== "nothing" && beside !== "snapshot") await awaitClosed(beside);
}

/** Nobody has the device open any more. */
async function awaitClosed(name: string): Promise<void> {
  const opened = (): Promise<string> => run("dmsetup", "info", "--columns", "--noheadings", "-o", "open", name);
  while (Number(await opened()) > 0) await sleep(POLL_MS);
}

async function measure(beside: Beside, round: number, slowDisk: string): Promise<CopyLoadSample[]> {
  await begin(beside, slowDisk);
  const samples: CopyLoadSample[] = [];
  for (const load of LOADS) {
    if (load === "again") await fio("--rw=write", ...AGAIN);
    const { moved } = await store();
    const { iops, clat_ns } = await paced(round, load === "again" ? AGAIN : [`--size=${VOLUME_BYTES - AGAIN_BYTES}`]);
    const us = (percentile: string): number => (clat_ns.percentile[percentile] ?? NaN) / 1000;
    samples.push({
      beside,
      load,
      iops,
      p50Us: us("50.000000"),
      p99Us: us("99.000000"),
      moved: (await store()).moved - moved,
      copiedBytes: beside === "nothing" || beside === "snapshot" ? null : await copiedBytes(),
    });
  }
  await end(beside);
  return samples;
}

async function main(): Promise<void> {
  const { rounds } = readOrder() as CopyLoadOrder;
  await run("modprobe", "-a", "ublk_drv", "dm_mod");
  const slowDisk = await makeSlowDisk();
  for (const name of ["fast", "slow", "stopped"]) await run("dmsetup", "create", name, "--table", tableOf(DESTINATION));
  await configure(NAME, 'path = "/dev/vda"', '[snapshots]\nstore = "/dev/vdb"');
  await run("bin/sluice", "snapshot", "init", NAME, "--block=4KiB");
  await run("bin/sluice", "up", NAME);
  // Whatever is compiled while it runs is compiled by then.
  await begin("fast", slowDisk);
  await fio("--rw=randwrite", "--norandommap", "--number_ios=4000");
  await end("fast");
  const samples: CopyLoadSample[] = [];
  for (let round = 1; round <= rounds; round++) {
    // Nobody always comes first, or always after the same one.
    const turn = round % BESIDES.length;
    for (const beside of [...BESIDES.slice(turn), ...BESIDES.slice(0, turn)]) {
      const measured = await measure(beside, round, slowDisk);
      samples.push(...measured);
      for (const sample of measured) tell(`round ${round} ${JSON.stringify(sample)}`);
    }
  }
  await leave({ kernel: release(), samples });
}

if (import.meta.main) await main();
