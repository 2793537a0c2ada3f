/** One row: a load by fio on one device, with what it cost the process that serves it. */
import { readFile } from "node:fs/promises";
import { tell } from "./order.ts";
import { run, type Peer } from "./peers.ts";

const RAMP_SECONDS = 1;
const SECONDS = 3;
const TICKS_PER_SECOND = 100;

export interface Load {
  readonly name: string;
  readonly rw: string;
  readonly depth: number;
  readonly blockKib: number;
}

export interface Sample {
  readonly peer: string;
  readonly load: string;
  readonly iops: number;
  readonly p99Us: number;
  /** CPU time of the server for a request, in microseconds; null where there is no process. */
  readonly cpuUs: number | null;
  /** How often the server went to sleep, for a request. */
  readonly sleeps: number | null;
}

export const LOADS: readonly Load[] = [
  ...[1, 32, 128].flatMap((depth) =>
    ["randread", "randwrite"].map((rw) => ({ name: `${rw} 4k q${depth}`, rw, depth, blockKib: 4 })),
  ),
  ...["read", "write"].map((rw) => ({ name: `${rw} 128k q32`, rw, depth: 32, blockKib: 128 })),
];

interface FioSide {
  readonly iops: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

interface Cost {
  readonly ticks: number;
  readonly sleeps: number;
  readonly requests: number;
}

/** VmRSS. */
export async function residentBytes(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

/** What the server has used, all its threads and io_uring's workers among them, those that have ended too. */
async function costSoFar({ device, pid }: Peer): Promise<Cost> {
  const counters = (await readFile(`/sys/block/${device}/stat`, "utf8")).trim().split(/\s+/).map(Number);
  const requests = (counters[0] ?? NaN) + (counters[4] ?? NaN);
  if (pid === null) return { ticks: NaN, sleeps: NaN, requests };
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ").at(-1)?.split(" ") ?? [];
  return { ticks: Number(fields[11]) + Number(fields[12]), sleeps: await sleepsOf(pid), requests };
}

async function sleepsOf(pid: number): Promise<number> {
  const text = await run("sh", "-c", `cat /proc/${pid}/task/*/status`);
  return [...text.matchAll(/^voluntary_ctxt_switches:\s+(\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** What fio is told. */
export function fioWords(device: string, load: Load, ...limits: string[]): string[] {
  return [
    "--name=bench",
    `--filename=/dev/${device}`,
    "--ioengine=libaio",
    "--direct=1",
    "--norandommap",
    "--disk_util=0",
    "--output-format=json",
    `--rw=${load.rw}`,
    `--bs=${load.blockKib}k`,
    `--iodepth=${load.depth}`,
    ...limits,
  ];
}

function fio(device: string, load: Load, ...limits: string[]): Promise<string> {
  return run("fio", ...fioWords(device, load, ...limits));
}

/** The cost is that of the whole run over all its requests, ramp included; IOPS and p99 are without the ramp. */
export async function measure(peer: Peer, load: Load): Promise<Sample> {
  const before = await costSoFar(peer);
  const limits = ["--time_based", `--ramp_time=${RAMP_SECONDS}`, `--runtime=${SECONDS}`];
  const text = await fio(peer.device, load, ...limits);
  const after = await costSoFar(peer);
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { read: FioSide; write: FioSide }[] };
  const side = load.rw.endsWith("read") ? jobs[0]?.read : jobs[0]?.write;
  const requests = after.requests - before.requests;
  return {
    peer: peer.name,
    load: load.name,
    iops: side?.iops ?? NaN,
    p99Us: (side?.clat_ns.percentile?.["99.000000"] ?? NaN) / 1000,
    cpuUs: peer.pid === null ? null : (((after.ticks - before.ticks) / TICKS_PER_SECOND) * 1e6) / requests,
    sleeps: peer.pid === null ? null : (after.sleeps - before.sleeps) / requests,
  };
}

/** All peers take turns under each load, as often as there are rounds. Says each sample as it comes. */
export async function measureInTurns(
  peers: readonly Peer[],
  loads: readonly Load[],
  rounds: number,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; round++) {
    // Nobody always comes first, or always after the same one.
    const inTurn = [...peers.slice(round % peers.length), ...peers.slice(0, round % peers.length)];
    for (const load of loads) {
      for (const peer of inTurn) {
        const sample = await measure(peer, load);
        samples.push(sample);
        tell(`round ${round} ${JSON.stringify(sample)}`);
      }
    }
  }
  return samples;
}

/** Bytes. */
export async function sizeOf({ device }: Peer): Promise<number> {
  return Number(await readFile(`/sys/block/${device}/size`, "utf8")) * 512;
}

/** Puts a number of requests through a device at a load's depth. */
export async function putThrough(peer: Peer, load: Load, requests: number): Promise<void> {
  const bytes = requests * load.blockKib * 1024;
  await fio(peer.device, load, `--size=${await sizeOf(peer)}`, `--io_size=${bytes}`);
}
