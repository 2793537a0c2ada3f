/** The part of the benchmark of a recorded volume that runs in the guest, as root. */
import { release } from "node:os";
import { LOADS, measureInTurns, putThrough, sizeOf, type Load, type Sample } from "./measure.ts";
import { leave, readOrder } from "./order.ts";
import { configure, down, makeRamDisks, run, sluicePeer, up, type Peer } from "./peers.ts";

export interface RecordingOrder {
  readonly rounds: number;
  /** Part of a load's name; empty for all loads. */
  readonly load: string;
}

/** Updates of a volume's record. */
export interface Updates {
  readonly peer: string;
  /** After the last start. */
  readonly before: number;
  readonly whileMeasuring: number;
}

export interface RecordingMeasurement {
  readonly kernel: string;
  readonly samples: readonly Sample[];
  readonly updates: readonly Updates[];
}

/** Of the persistent memory and of the disk for NVRAM files. */
export const NVRAM_DISK_BYTES = 128 * 2 ** 20;
export const PEERS = {
  plain: "no record",
  layer: "another layer",
  pmem: "record on persistent memory",
  disk: "record on a disk",
} as const;

const VOLUMES = ["plain", "layer", "pmem", "disk"] as const;
const RECORDED = ["pmem", "disk"] as const;
/** How a process was compiled, it stays: each so many rounds have new ones, so that this is no property of what they serve. */
const ROUNDS_PER_START = 4;
/** And of each process the first rounds do not count: its processor time for a request falls by a third in them. */
const WARM_UP_ROUNDS = 2;

async function setUp(): Promise<void> {
  await run("modprobe", "ublk_drv");
  const [plain, layer, pmem, disk] = await makeRamDisks(4);
  await run("mkfs.ext4", "-q", "-b", "4096", "/dev/pmem0");
  await run("mkfs.ext4", "-q", "/dev/vda");
  await run("mkdir", "-p", "/mnt/pmem", "/mnt/disk");
  await run("mount", "-o", "dax=always", "/dev/pmem0", "/mnt/pmem");
  await run("mount", "/dev/vda", "/mnt/disk");
  await configure("plain", `path = "${plain}"`);
  // A layer that lets everything pass: what any layer costs here.
  await configure("layer", `path = "${layer}"`, '[[filter]]\nkind = "error"\nrate = 0');
  await configure("pmem", `path = "${pmem}"`, '[record]\nnvram = "/mnt/pmem/nvram"');
  await configure("disk", `path = "${disk}"`, '[record]\nnvram = "/mnt/disk/nvram"');
  for (const volume of RECORDED) await run("bin/sluice", "nvram", "create", volume, "--in-sync");
}

async function startPeers(): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (const volume of VOLUMES) {
    await up(volume);
    peers.push(await sluicePeer(PEERS[volume], volume));
  }
  return peers;
}

/** Every place is written once: what a record of its size can hold is in it afterwards. */
async function writeEverything(peer: Peer): Promise<void> {
  const load: Load = { name: "all", rw: "write", depth: 32, blockKib: 128 };
  await putThrough(peer, load, (await sizeOf(peer)) / (load.blockKib * 1024));
}

async function updatesOf(volume: string): Promise<number> {
  const status = JSON.parse(await run("bin/sluice", "status", volume, "--json")) as {
    record: { counts: { updates: number } };
  };
  return status.record.counts.updates;
}

async function main(): Promise<void> {
  const order = readOrder() as RecordingOrder;
  const loads = LOADS.filter(({ name, rw }) => rw.endsWith("write") && name.includes(order.load));
  const samples: Sample[] = [];
  const before = { pmem: 0, disk: 0 };
  const whileMeasuring = { pmem: 0, disk: 0 };
  await setUp();
  for (let rounds = order.rounds; rounds > 0; rounds -= ROUNDS_PER_START) {
    const peers = await startPeers();
    for (const peer of peers) await writeEverything(peer);
    await measureInTurns(peers, loads, WARM_UP_ROUNDS);
    for (const volume of RECORDED) before[volume] = await updatesOf(volume);
    samples.push(...(await measureInTurns(peers, loads, Math.min(rounds, ROUNDS_PER_START))));
    for (const volume of RECORDED) whileMeasuring[volume] += (await updatesOf(volume)) - before[volume];
    for (const volume of VOLUMES) await down(volume);
  }
  const updates: Updates[] = RECORDED.map((volume) => ({
    peer: PEERS[volume],
    before: before[volume],
    whileMeasuring: whileMeasuring[volume],
  }));
  await leave({ kernel: release(), samples, updates });
}

if (import.meta.main) await main();
