/** The part of the benchmark of a recorded volume that runs in the guest, as root. */
import { release } from "node:os";
import { LOADS, measureInTurns, putThrough, sizeOf, type Load, type Sample } from "./measure.ts";
import { leave, readOrder } from "./order.ts";
import { configure, makeRamDisks, run, sluicePeer, up, type Peer } from "./peers.ts";

export interface RecordingOrder {
  readonly rounds: number;
  /** Part of a load's name; empty for all loads. */
  readonly load: string;
}

/** Updates of a volume's record. */
export interface Updates {
  readonly peer: string;
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

async function startPeers(): Promise<Peer[]> {
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
  const peers: Peer[] = [];
  for (const volume of ["plain", "layer", "pmem", "disk"] as const) {
    if (volume === "pmem" || volume === "disk") await run("bin/sluice", "nvram", "create", volume, "--in-sync");
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
  const peers = await startPeers();
  for (const peer of peers) await writeEverything(peer);
  const before = { pmem: await updatesOf("pmem"), disk: await updatesOf("disk") };
  const loads = LOADS.filter(({ name, rw }) => rw.endsWith("write") && name.includes(order.load));
  const samples = await measureInTurns(peers, loads, order.rounds);
  const updates: Updates[] = [];
  for (const volume of ["pmem", "disk"] as const) {
    const whileMeasuring = (await updatesOf(volume)) - before[volume];
    updates.push({ peer: PEERS[volume], before: before[volume], whileMeasuring });
  }
  await leave({ kernel: release(), samples, updates });
}

if (import.meta.main) await main();
