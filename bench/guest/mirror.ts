/** The part of the benchmark of mirrors that runs in the guest, as root. */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { askMirror, askMirrorChange, askRecord } from "../../src/control/client.ts";
import type { MirrorStatus } from "../../src/control/mirror-status.ts";
import { fioWords, measure, putThrough, sizeOf, type Load, type Sample } from "./measure.ts";
import { MirroredVolume, startDrbd, startPlain, startRaid, type Contender } from "./mirror-peers.ts";
import { leave, readOrder, tell } from "./order.ts";
import { down, run, sluicePeer, timed, up } from "./peers.ts";
import { connectSides, linkBytes, makeDisks } from "./two-sides.ts";

export interface MirrorOrder {
  readonly rounds: number;
  /** Part of a load's name; empty for all loads. */
  readonly load: string;
  /** Each side has one disk that is slower than the processor. */
  readonly slowDisk: boolean;
}

/** Consistency points in some time. */
export interface Points {
  readonly closed: number;
  readonly open: number;
  /** The longest time between the moments of two that follow each other, as far as they were seen. */
  readonly longestGapMs: number;
}

export interface MirrorSample extends Sample {
  readonly hostBytes: number;
  /** On the link, headers of the network among them, until the other side had all that was written. */
  readonly outBytes: number;
  readonly backBytes: number;
  /** Payload of what a mirror of sluice has sent. */
  readonly sent: MirrorStatus["sentBytes"] | null;
  readonly points: Points | null;
  /** From the end of the load until the other side had it, and until it had brought its image to it. */
  readonly behindMs: number;
  readonly appliedMs: number;
}

/** The mirror was paused, all of the volume was written, and the mirror resumed, with a load. */
export interface CatchUp {
  readonly toCopyBytes: number;
  readonly seconds: number;
  readonly points: Points;
}

/** The source was killed in a load, and its daemon started again. */
export interface Killed {
  /** Of the record, as it was found. */
  readonly recordedBytes: number;
  readonly copiedBytes: number;
}

export interface MirrorMeasurement {
  readonly kernel: string;
  readonly drbd: string;
  readonly samples: readonly MirrorSample[];
  readonly catchUp: CatchUp;
  readonly killed: Killed;
}

export const PEERS = {
  plain: "file target",
  record: "with a record",
  async: "async",
  alone: "async, may go on alone",
  memory: "memory",
  sync: "sync",
  asyncTls: "async, TLS",
  syncTls: "sync, TLS",
  drbdA: "DRBD, protocol A",
  drbdC: "DRBD, protocol C",
  raid: "md RAID 1 over nbd",
} as const;

export const LOADS: readonly Load[] = [
  { rw: "randwrite", blockKib: 4 },
  { rw: "write", blockKib: 128 },
].flatMap(({ rw, blockKib }) =>
  [1, 32].map((depth) => ({ name: `${rw} ${blockKib}k q${depth}`, rw, depth, blockKib })),
);

const VOLUME_MIB = 64;
const RECEIVED = { image: VOLUME_MIB, store: 256, log: 256 } as const;
const HERE_MIB = {
  ...{ plain: VOLUME_MIB, record: VOLUME_MIB, clear: VOLUME_MIB, tls: VOLUME_MIB, drbd: VOLUME_MIB, raid: VOLUME_MIB },
  nvram: 64,
} as const;
const THERE_MIB = {
  ...{ clear: RECEIVED.image, clearStore: RECEIVED.store, clearLog: RECEIVED.log },
  ...{ tls: RECEIVED.image, tlsStore: RECEIVED.store, tlsLog: RECEIVED.log },
  ...{ drbd: VOLUME_MIB, raid: VOLUME_MIB },
} as const;
/** All of a volume has room in it. */
const RECORD_LIMIT = "128MiB";
/** A part of it has: what a crash may cost to copy. */
const SMALL_LIMIT = "16MiB";
const POLL_MS = 400;
const KILL_AFTER_MS = 4000;
const SECTOR_BYTES = 512;

async function start(slowDisk: boolean): Promise<{ contenders: Contender[]; clear: MirroredVolume }> {
  await run("modprobe", "-a", "ublk_drv", "veth");
  await connectSides();
  const { here, there } = await makeDisks(slowDisk, HERE_MIB, THERE_MIB);
  await run("mkfs.ext4", "-q", here.nvram);
  await run("mkdir", "-p", "/mnt/nvram");
  await run("mount", here.nvram, "/mnt/nvram");
  const plain = await startPlain(PEERS.plain, "plain", here.plain);
  const record = `[record]\nnvram = "/mnt/nvram/record"\nlimit = "${RECORD_LIMIT}"`;
  const recorded = await startPlain(PEERS.record, "record", here.record, record);
  const clear = new MirroredVolume(here.clear, "/mnt/nvram/clear", {
    ...{ volume: "clear", transport: "clear", port: 7450 },
    ...{ path: there.clear, store: there.clearStore, log: there.clearLog },
  });
  await clear.start(RECORD_LIMIT);
  const tls = new MirroredVolume(here.tls, "/mnt/nvram/tls", {
    ...{ volume: "tls", transport: "tls", port: 7451 },
    ...{ path: there.tls, store: there.tlsStore, log: there.tlsLog },
  });
  await tls.start(RECORD_LIMIT);
  const drbd = await startDrbd(here.drbd, there.drbd);
  const contenders = [
    plain,
    recorded,
    await clear.contender(PEERS.async, "async", "stop"),
    await clear.contender(PEERS.alone, "async", "continue"),
    await clear.contender(PEERS.memory, "memory", "stop"),
    await clear.contender(PEERS.sync, "sync", "stop"),
    await tls.contender(PEERS.asyncTls, "async", "stop"),
    await tls.contender(PEERS.syncTls, "sync", "stop"),
    drbd("A"),
    drbd("C"),
    await startRaid(here.raid, there.raid),
  ];
  return { contenders, clear };
}

/** Every place is written once: what is compiled, and what is to be recorded, is so then. */
async function writeEverything({ peer, settle, rest }: Contender): Promise<void> {
  const load = { name: "all", rw: "write", depth: 32, blockKib: 128 } as const;
  await putThrough(peer, load, Math.floor((await sizeOf(peer)) / (load.blockKib * 1024)));
  await settle();
  await rest();
}

async function hostBytes(device: string): Promise<number> {
  const fields = (await readFile(`/sys/block/${device}/stat`, "utf8")).trim().split(/\s+/).map(Number);
  return (fields[6] ?? NaN) * SECTOR_BYTES;
}

/** Looks at the points of a mirror until something has ended. */
async function watchPoints(volume: string, ended: Promise<unknown>): Promise<Points> {
  const beganMs = Date.now();
  let status = await askMirror(volume);
  const before = status.points;
  const moments: number[] = [];
  for (let isOver = false; !isOver; status = await askMirror(volume)) {
    const createdMs = status.lastPoint?.createdMs ?? 0;
    if (createdMs > (moments.at(-1) ?? beganMs)) moments.push(createdMs);
    isOver = await Promise.race([ended.then(() => true), sleep(POLL_MS, false)]);
  }
  const gaps = moments.slice(1).map((moment, index) => moment - (moments[index] ?? NaN));
  return {
    closed: status.points.closed - before.closed,
    open: status.points.open - before.open,
    longestGapMs: gaps.length === 0 ? Date.now() - beganMs : Math.max(...gaps),
  };
}

async function measureContender(contender: Contender, load: Load): Promise<MirrorSample> {
  const { peer, mirror } = contender;
  await contender.prepare();
  await contender.settle();
  await contender.rest();
  const before = { link: await linkBytes(), host: await hostBytes(peer.device) };
  const sentBefore = mirror === null ? null : (await askMirror(mirror)).sentBytes;
  const measured = measure(peer, load);
  const points = mirror === null ? null : await watchPoints(mirror, measured);
  const sample = await measured;
  const ended = performance.now();
  await contender.settle();
  const settled = performance.now();
  await contender.rest();
  const applied = performance.now();
  const link = await linkBytes();
  const sentAfter = mirror === null ? null : (await askMirror(mirror)).sentBytes;
  return {
    ...sample,
    hostBytes: (await hostBytes(peer.device)) - before.host,
    outBytes: link.out - before.link.out,
    backBytes: link.back - before.link.back,
    sent: sentBefore === null || sentAfter === null ? null : difference(sentAfter, sentBefore),
    points,
    behindMs: settled - ended,
    appliedMs: applied - ended,
  };
}

function difference(after: MirrorStatus["sentBytes"], before: MirrorStatus["sentBytes"]): MirrorStatus["sentBytes"] {
  return {
    transfers: after.transfers - before.transfers,
    points: after.points - before.points,
    sums: after.sums - before.sums,
  };
}

async function catchUp(clear: MirroredVolume, contender: Contender): Promise<CatchUp> {
  await contender.prepare();
  await askMirrorChange(clear.name, "pause");
  const size = await sizeOf(contender.peer);
  await putThrough(contender.peer, { name: "all", rw: "write", depth: 32, blockKib: 128 }, size / 2 ** 17);
  const { toCopyBytes } = await askMirror(clear.name);
  await askMirrorChange(clear.name, "resume");
  while ((await askMirror(clear.name)).state !== "copying") await sleep(POLL_MS / 4);
  const inStep = Promise.withResolvers<undefined>();
  const watched = watchPoints(clear.name, inStep.promise);
  const load = putThrough(contender.peer, { name: "beside", rw: "randwrite", depth: 1, blockKib: 4 }, 2000);
  const ms = await timed(() => clear.isInStep());
  inStep.resolve(undefined);
  const points = await watched;
  await load;
  return { toCopyBytes, seconds: ms / 1000, points };
}

/** With a small record, so that it is not all of the volume that is copied. */
async function killSource(clear: MirroredVolume, contender: Contender): Promise<Killed> {
  await clear.settle();
  await down(clear.name);
  await clear.configure(SMALL_LIMIT);
  await up(clear.name);
  await clear.settle();
  const peer = await sluicePeer(contender.peer.name, clear.name);
  const load: Load = { name: "killed", rw: "randwrite", depth: 32, blockKib: 4 };
  // One process, so that nothing of it goes on when it is killed.
  const fio = spawn("fio", fioWords(peer.device, load, "--thread", "--time_based", "--runtime=600"), {
    stdio: "ignore",
  });
  await sleep(KILL_AFTER_MS);
  process.kill(Number(peer.pid), "SIGKILL");
  fio.kill("SIGKILL");
  // Its supervisor starts it again.
  let status: MirrorStatus | undefined;
  while (status === undefined) status = await askMirror(clear.name).catch(() => undefined);
  const recordedBytes = (await askRecord(clear.name)).status.crashCopyBytes;
  await clear.settle();
  const { sentBytes } = await askMirror(clear.name);
  return { recordedBytes, copiedBytes: sentBytes.points + sentBytes.transfers };
}

async function main(): Promise<void> {
  const { rounds, load: wanted, slowDisk } = readOrder() as MirrorOrder;
  const { contenders, clear } = await start(slowDisk);
  for (const contender of contenders) {
    tell(`${contender.peer.name} is there`);
    await contender.prepare();
    await writeEverything(contender);
  }
  const loads = LOADS.filter(({ name }) => name.includes(wanted));
  const samples: MirrorSample[] = [];
  for (let round = 1; round <= rounds; round++) {
    // Nobody always comes first, or always after the same one.
    const inTurn = [...contenders.slice(round % contenders.length), ...contenders.slice(0, round % contenders.length)];
    for (const load of loads) {
      for (const contender of inTurn) {
        const sample = await measureContender(contender, load);
        samples.push(sample);
        tell(`round ${round} ${JSON.stringify(sample)}`);
      }
    }
  }
  const alone = contenders.find(({ peer }) => peer.name === PEERS.alone) as Contender;
  const caughtUp = await catchUp(clear, alone);
  tell(JSON.stringify(caughtUp));
  const killed = await killSource(clear, alone);
  tell(JSON.stringify(killed));
  const drbd = /version: (\S+)/.exec(await readFile("/proc/drbd", "utf8"))?.[1] ?? "unknown";
  await leave({ kernel: release(), drbd, samples, catchUp: caughtUp, killed });
}

if (import.meta.main) await main();
