/** The part of the driver benchmark that runs in the guest, as root. */
import { writeFile } from "node:fs/promises";
import { release } from "node:os";
import { LOADS, measureInTurns, putThrough, residentBytes, type Load, type Sample } from "./measure.ts";
import { leave, readOrder, tell } from "./order.ts";
import {
  configure,
  makeRamDisks,
  run,
  startKublk,
  startLoop,
  sluicePeer,
  timeUp,
  up,
  type Peer,
  type StartTimes,
} from "./peers.ts";

/** What the host asks for. */
export interface DriverOrder {
  readonly kublk: string;
  readonly rounds: number;
  /** How many requests the memory is watched over. */
  readonly requests: number;
  /** Part of a load's name; empty for all loads. */
  readonly load: string;
  /** Null targets only. */
  readonly nullOnly: boolean;
}

/** Resident memory before and after a number of requests at depth 128. */
export interface Memory {
  readonly peer: string;
  readonly requests: number;
  readonly beforeBytes: number;
  readonly afterBytes: number;
}

export interface DriverMeasurement {
  readonly kernel: string;
  readonly samples: readonly Sample[];
  readonly memory: readonly Memory[];
  readonly start: StartTimes;
}

async function startPeers({ kublk, nullOnly }: DriverOrder): Promise<{ peers: Peer[]; start: StartTimes }> {
  await configure("null", 'target = "null"\nsize = "1GiB"');
  const start = await timeUp("null");
  const peers = [await sluicePeer("sluice null", "null"), await startKublk("kublk null", kublk, "-t", "null")];
  if (!nullOnly) {
    await run("modprobe", "loop");
    const [forSluice, forKublk, forLoop] = (await makeRamDisks(3)) as [string, string, string];
    await configure("file", `path = "${forSluice}"`);
    await up("file");
    peers.push(
      await sluicePeer("sluice file", "file"),
      await startKublk("kublk loop", kublk, "-t", "loop", forKublk),
      await startLoop("loop device", forLoop),
    );
  }
  for (const { device } of peers) await writeFile(`/sys/block/${device}/queue/scheduler`, "none");
  return { peers, start };
}

async function watchMemory(peer: Peer, load: Load, requests: number): Promise<Memory> {
  const pid = peer.pid ?? NaN;
  // What a first load brings, such as compiled code, is no growth.
  await putThrough(peer, load, Math.ceil(requests / 10));
  const beforeBytes = await residentBytes(pid);
  await putThrough(peer, load, requests);
  return { peer: peer.name, requests, beforeBytes, afterBytes: await residentBytes(pid) };
}

const order = readOrder() as DriverOrder;
const { peers, start } = await startPeers(order);
tell(JSON.stringify(start));

const loads = LOADS.filter(({ name }) => name.includes(order.load));
const samples = await measureInTurns(peers, loads, order.rounds);

const memory: Memory[] = [];
const deepest = LOADS.find(({ depth }) => depth === 128) as Load;
for (const peer of peers) {
  if (peer.pid !== null && order.requests > 0) memory.push(await watchMemory(peer, deepest, order.requests));
}
await leave({ kernel: release(), samples, memory, start });
