/**
 * Histories of a receiver by chance: a source that writes, sends transfers and cuts points; connections that end in the middle;
 * the receiver killed or its power cut at any step, also while it recovers.
 *
 * What must hold (R6): what is kept and what the image is when it reaches a closed point is that point of the source, sector by
 * sector; a point that was told to be committed is never gone; a transfer that was told to be durable is there.
 */
import { crc32 } from "node:zlib";
import type { DirtyBlocks } from "../../src/targets/mirror/dirty-blocks.ts";
import { encodeTable, ENTRY_KIND, type TransferEntry } from "../../src/targets/mirror/transfer.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import { FoundLog } from "../../src/replication/found-log.ts";
import { logBytes } from "../../src/replication/log-geometry.ts";
import { COMPARE_READS, ImageComparer } from "../../src/replication/image-comparer.ts";
import { createLog } from "../../src/replication/log-superblock.ts";
import { recoverLog } from "../../src/replication/log-recovery.ts";
import {
  chargeOf,
  decodeAck,
  decodePointCommitted,
  encodePointBegin,
  encodePointEnd,
  POINT_BEGIN_BYTES,
  POINT_END_BYTES,
  type Granted,
} from "../../src/replication/messages.ts";
import { LogReplay } from "../../src/replication/log-replay.ts";
import { APPLY_WRITES, PointApplier } from "../../src/replication/point-applier.ts";
import { decodeItems, encodeRuns, RUN_KIND, runSectors, type PointRun } from "../../src/replication/point-items.ts";
import { planPoint } from "../../src/replication/point-plan.ts";
import { ReceiverLog } from "../../src/replication/receiver-log.ts";
import { Receiver } from "../../src/replication/receiver.ts";
import { isBefore, NO_TRANSFER, type TransferId } from "../../src/replication/transfer-id.ts";
import { SimDisk } from "../sim/disk.ts";
import { SimMemory } from "../sim/memory.ts";
import { Random } from "../sim/random.ts";
import { SECTOR_BYTES, stamp, writeStamp } from "../sim/stamps.ts";
import { DATA_FILE, Death, NVRAM_FILE, World } from "../sim/world.ts";
import { newDirtyBlocks } from "./point-model.ts";

const SECTORS = 8 * 20 + 3;
const GEOMETRY = { volumeSectors: SECTORS, blockSectors: 8 } as const;
const BLOCKS = Math.ceil(SECTORS / 8);
const LOG = { sectorBytes: 512, windowBytes: 512 * 1024, ringBytes: 3 * 512 * 1024 } as const;
const OWNER = { volume: "data", mark: 7n } as const;
const GENERATION = "00000000000000aa";
/** Of transfers between two points, as they are charged: with a point that was given up they are twice as many, and fit. */
const CHARGE_MAX = (LOG.ringBytes * 3) / 8 - 64 * 1024;

interface Sent {
  readonly id: TransferId;
  readonly payload: Uint8Array;
}

/** A point that was sent and not committed yet. */
interface Cut {
  readonly point: number;
  readonly dirty: DirtyBlocks;
  readonly copied: readonly number[];
}

export const reached = {
  committed: 0,
  closed: 0,
  open: 0,
  kills: 0,
  powerCuts: 0,
  resumed: 0,
  restarted: 0,
  naks: 0,
  kept: 0,
  forgotten: 0,
  aborted: 0,
};

export class ReceiverHistory {
  readonly #random: Random;
  readonly #disk = new SimDisk(SECTORS);
  readonly #logFile: SimMemory;
  #stepsLeft = Infinity;
  /** What the source is, and what it was at each closed point. */
  readonly #source = new Int32Array(SECTORS);
  readonly #expected = new Map<number, Int32Array>();
  /** What the image keeps: durable by its nature. */
  #kept: { readonly point: number; readonly image: Int32Array } | undefined;
  #writes = 0;
  #incarnation = 1;
  #counter = 0;
  /** Transfers that were not told to be durable; a receiver may want them again. */
  #pending: Sent[] = [];
  #unsent: Sent[] = [];
  #dirty = newDirtyBlocks(GEOMETRY, 2 * BLOCKS);
  #firstTransfer = 1;
  /** Blocks that are in no log. */
  #toCopy = new Set<number>(Array.from({ length: BLOCKS }, (_, block) => block));
  #cut: Cut | undefined;
  #sinceCut = 0;
  /** The incarnation is a new one: first a point has the receiver let go of what earlier ones have left. */
  #isNew = true;
  #points = 0;
  #lastCommitted = 0;
  #lastDurable: TransferId = NO_TRANSFER;
  #granted: Granted = { transferBytes: 0, itemBytes: 0 };
  #used = { transferBytes: 0, itemBytes: 0 };
  #receiver: Receiver | undefined;
  #frames: { readonly type: FrameType; readonly payload: Uint8Array }[] = [];

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#logFile = new SimMemory(SECTOR_BYTES, () => {
      this.#step();
    });
    this.#logFile.write(logBytes(LOG) - SECTOR_BYTES, new Uint8Array(SECTOR_BYTES));
    createLog(this.#logFile, OWNER, LOG, 1, { committed: 0, applied: 0 });
  }

  #step(): void {
    if (--this.#stepsLeft < 0) throw new Death();
  }

  run(lives: number): void {
    for (let life = 0; life < lives; life++) this.#live(life === lives - 1);
  }

  #live(isLast: boolean): void {
    const random = this.#random;
    this.#stepsLeft = isLast ? Infinity : 20 + random.below(600);
    const nothing = (): void => undefined;
    const world = new World(
      random,
      this.#disk,
      this.#logFile,
      { failures: 0, shortTransfers: 0.05, tears: true },
      { storeChanges: nothing, tell: nothing },
      () => {
        this.#step();
      },
    );
    try {
      this.#open(world);
      for (let turn = 0; turn < 400; turn++) this.#turn(world);
      this.#settle(world);
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      const how = random.chance(0.5) ? "kill" : "power cut";
      reached[how === "kill" ? "kills" : "powerCuts"]++;
      this.#stepsLeft = Infinity;
      world.end(how);
      this.#receiver = undefined;
      this.#frames = [];
    }
  }

  #open(world: World): void {
    const found = new FoundLog();
    const context = world.context(0);
    const image = new FileTarget(
      { fd: DATA_FILE, isBlockDevice: false, punchesHoles: true, zeroesRanges: true },
      { ...context, depth: APPLY_WRITES + COMPARE_READS },
    );
    const recovered = recoverLog(this.#logFile, OWNER, found);
    demand(recovered.superblock.state.lostFrom === 0, "the log has lost something");
    const log = new ReceiverLog(recovered, world, NVRAM_FILE);
    const { index } = found;
    const writing = { log, recordBytesMax: LOG.windowBytes, index, image, firstSlot: 0, geometry: GEOMETRY };
    const applier = new PointApplier(writing, world);
    const state = found.state(log.points);
    demand(
      state.lastPoint >= this.#lastCommitted,
      `point ${this.#lastCommitted} was committed, found ${state.lastPoint}`,
    );
    demand(!isBefore(state.last, this.#lastDurable), "a transfer that was durable is gone");
    const { lastClosed } = state;
    if (lastClosed > 0 && this.#kept?.point !== lastClosed)
      this.#compare(lastClosed, this.#disk.current, "what is shown");
    // Part of the log is gone, but for what has to be applied.
    if (state.committed.length === 0 && this.#random.chance(0.5)) {
      index.forgetBefore(log.head.position - this.#random.below(100_000));
      reached.forgotten++;
    }
    this.#receiver = new Receiver(
      {
        log,
        logGeometry: LOG,
        index,
        applier,
        replay: new LogReplay(writing, world),
        nowMs: () => 0,
        comparer: new ImageComparer(image, APPLY_WRITES, GEOMETRY, world),
        geometry: GEOMETRY,
        image: {
          keep: (point, done) => {
            if (this.#kept?.point !== point) {
              this.#compare(point, this.#disk.current, "what is to be kept");
              this.#kept = { point, image: this.#disk.current.slice() };
              reached.kept++;
            }
            done(0);
          },
          reached: (point) => {
            this.#compare(point, this.#disk.current, "what was reached");
          },
        },
      },
      state,
    );
    this.#receiver.whenFailed = (result) => {
      throw new Error(`the receiver failed with ${result}`);
    };
    this.#connect(this.#receiver);
  }

  #compare(point: number, found: Int32Array, what: string): void {
    const wanted = this.#expected.get(point);
    demand(wanted !== undefined, `${what}: point ${point} was never closed`);
    for (let sector = 0; sector < SECTORS; sector++) {
      const one = found[sector];
      const other = wanted[sector];
      demand(one === other, `${what}: sector ${sector} of point ${point} is of write ${one}, wanted ${other}`);
    }
  }

  /** The source meets a receiver: goes on where that is, or has lost its log and begins a new one. */
  #connect(receiver: Receiver): void {
    this.#used = { transferBytes: 0, itemBytes: 0 };
    this.#frames = [];
    const cut = this.#cut;
    if (cut !== undefined) {
      if (receiver.lastPoint >= cut.point) this.#ended(cut);
      else this.#dirty.absorb(cut.dirty);
      this.#cut = undefined;
    }
    if (this.#random.chance(0.2)) {
      reached.restarted++;
      this.#incarnation++;
      this.#points = receiver.lastPoint;
      this.#counter = 0;
      this.#firstTransfer = 1;
      this.#pending = [];
      this.#toCopy = new Set(Array.from({ length: BLOCKS }, (_, block) => block));
      this.#dirty.clear();
      this.#sinceCut = 0;
      this.#isNew = true;
    } else reached.resumed++;
    this.#points = Math.max(this.#points, receiver.lastPoint);
    this.#unsent = this.#pending.filter(({ id }) => isBefore(receiver.last, id));
    this.#granted = receiver.connect({
      incarnation: this.#incarnation,
      generation: GENERATION,
      lacks: [],
      send: (type, payload) => {
        this.#frames.push({ type, payload });
      },
    });
  }

  #turn(world: World): void {
    const random = this.#random;
    const receiver = this.#receiver as Receiver;
    const what = random.below(20);
    if (what < 5) this.#write();
    else if (what < 9) this.#send(receiver);
    else if (what < 11 && random.chance(0.3)) this.#sendPoint(receiver);
    else if (what < 12 && random.chance(0.02)) {
      receiver.disconnect();
      this.#settle(world, false);
      this.#connect(receiver);
    } else if (what < 17) {
      world.complete();
      world.endBatch();
    } else if (this.#frames.length > 0) this.#hear();
  }

  /** Some writes of the host, in one transfer. */
  #write(): void {
    const random = this.#random;
    if (this.#sinceCut > CHARGE_MAX || this.#isNew) return;
    const entries: TransferEntry[] = [];
    const data: Uint8Array[] = [];
    let place = 0;
    const counter = this.#counter + 1;
    for (let count = 1 + random.below(4); count > 0; count--) {
      const isAligned = random.chance(0.6);
      const sector = isAligned ? 8 * random.below(BLOCKS) : random.below(SECTORS);
      const sectors = Math.min(isAligned ? 8 * (1 + random.below(3)) : 1 + random.below(12), SECTORS - sector);
      const kind = random.chance(0.15) ? ENTRY_KIND.ZEROES : ENTRY_KIND.DATA;
      entries.push({ kind, sector, sectors });
      this.#source.fill(kind === ENTRY_KIND.DATA ? ++this.#writes : 0, sector, sector + sectors);
      if (kind === ENTRY_KIND.ZEROES) {
        this.#dirty.wroteZeroes(sector, sectors);
        continue;
      }
      const bytes = new Uint8Array(sectors * SECTOR_BYTES);
      stamp(new DataView(bytes.buffer), this.#writes, sector, sectors);
      data.push(bytes);
      this.#dirty.wroteData(sector, sectors, counter, place);
      place += sectors;
    }
    this.#counter = counter;
    const table = encodeTable({
      ...{ incarnation: this.#incarnation, number: counter, sequence: counter, log: 1 },
      ...{ isAwaited: this.#random.chance(0.5), entries },
    });
    const sent = {
      id: { incarnation: this.#incarnation, counter },
      payload: new Uint8Array(Buffer.concat([table, ...data])),
    };
    this.#pending.push(sent);
    this.#unsent.push(sent);
    this.#sinceCut += chargeOf(sent.payload.length);
  }

  #send(receiver: Receiver): void {
    const next = this.#unsent[0];
    if (next === undefined) return;
    const charge = chargeOf(next.payload.length);
    if (this.#used.transferBytes + charge > this.#granted.transferBytes) return;
    this.#used.transferBytes += charge;
    this.#unsent.shift();
    receiver.take(FRAME.TRANSFER, next.payload);
    if (this.#random.chance(0.7)) receiver.endBatch();
  }

  /** Cuts a point and sends it, at once: what was cut before must have been committed. */
  #sendPoint(receiver: Receiver): void {
    if (this.#cut !== undefined || this.#unsent.length > 0) return;
    const random = this.#random;
    const isClosed = this.#toCopy.size === 0;
    const copied = isClosed ? [] : [...this.#toCopy].slice(0, 1 + random.below(8));
    const runs = [...planPoint(this.#dirty, this.#firstTransfer, 4)];
    for (const block of copied) runs.push({ kind: RUN_KIND.DATA, block, blocks: 1, transfer: 0, place: 0 });
    const lists: Uint8Array[] = [];
    for (let at = 0; at < runs.length;) {
      const part = runs.slice(at, at + 1 + random.below(6));
      lists.push(this.#listOf(part));
      at += part.length;
    }
    const charge = lists.reduce((sum, list) => sum + chargeOf(list.length), 0);
    if (this.#used.itemBytes + charge > this.#granted.itemBytes) return;
    this.#used.itemBytes += charge;
    const point = ++this.#points;
    if (isClosed) this.#expected.set(point, this.#source.slice());
    this.#cut = { point, dirty: this.#dirty, copied };
    this.#dirty = newDirtyBlocks(GEOMETRY, 2 * BLOCKS);
    this.#sinceCut = 0;
    const begin = new Uint8Array(POINT_BEGIN_BYTES);
    const cut = this.#counter === 0 ? receiver.last : { incarnation: this.#incarnation, counter: this.#counter };
    encodePointBegin(begin, { point, cut, createdMs: point, isClosed, next: this.#counter + 1, log: 2 });
    // Its log is another one than that of the transfers: points that the receiver makes itself are tested with a whole source.
    // What comes after the point may be sent before it.
    if (random.chance(0.3)) {
      this.#write();
      this.#send(receiver);
    }
    receiver.take(FRAME.POINT_BEGIN, begin);
    let checksum = 0;
    for (const list of lists) {
      checksum = crc32(list, checksum);
      receiver.take(FRAME.POINT_ITEMS, list);
      if (random.chance(0.3)) {
        this.#write();
        this.#send(receiver);
      }
      if (random.chance(0.02)) {
        reached.aborted++;
        receiver.disconnect();
        this.#connect(receiver);
        return;
      }
    }
    const end = new Uint8Array(POINT_END_BYTES);
    encodePointEnd(end, { point, items: lists.length, checksum });
    receiver.take(FRAME.POINT_END, end);
    receiver.endBatch();
  }

  #listOf(runs: readonly PointRun[]): Uint8Array {
    const data: Uint8Array[] = [];
    for (const run of runs) {
      if (run.kind !== RUN_KIND.DATA) continue;
      const bytes = new Uint8Array(runSectors(run, GEOMETRY) * SECTOR_BYTES);
      const view = new DataView(bytes.buffer);
      for (let index = 0; index * SECTOR_BYTES < bytes.length; index++) {
        const sector = run.block * 8 + index;
        writeStamp(view, index * SECTOR_BYTES, this.#source[sector] as number, sector);
      }
      data.push(bytes);
    }
    return new Uint8Array(Buffer.concat([encodeRuns(runs), ...data]));
  }

  /** The source hears what the receiver has said. */
  #hear(): void {
    const { type, payload } = this.#frames.shift() as { type: FrameType; payload: Uint8Array };
    if (type === FRAME.ACK) {
      const { durable, granted } = decodeAck(payload);
      this.#granted = granted;
      this.#lastDurable = durable;
      this.#pending = this.#pending.filter(({ id }) => isBefore(durable, id));
    } else if (type === FRAME.POINT_COMMITTED) {
      this.#lastCommitted = decodePointCommitted(payload);
      demand(this.#cut?.point === this.#lastCommitted, "another point was committed");
      this.#ended(this.#cut);
    } else if (type === FRAME.NAK) {
      reached.naks++;
      for (const { block, blocks } of decodeItems(payload, GEOMETRY).runs) {
        for (let each = block; each < block + blocks; each++) this.#toCopy.add(each);
      }
      this.#expected.delete(this.#cut?.point ?? 0);
    } else throw new Error(`a frame of type ${type}`);
  }

  #ended({ point, copied }: Cut): void {
    reached.committed++;
    reached[this.#expected.has(point) ? "closed" : "open"]++;
    for (const block of copied) this.#toCopy.delete(block);
    this.#cut = undefined;
    this.#isNew = false;
  }

  /** All that is under way ends; at the end of a life, a closed point is reached besides. */
  #settle(world: World, toTheEnd = true): void {
    const receiver = this.#receiver as Receiver;
    for (let turn = 0; turn < 5000; turn++) {
      world.complete();
      world.endBatch();
      if (toTheEnd) {
        this.#send(receiver);
        receiver.endBatch();
        if (this.#frames.length > 0) this.#hear();
        const isDone = this.#toCopy.size === 0 && this.#dirty.count === 0;
        if (!isDone) this.#sendPoint(receiver);
        else if (this.#cut === undefined && world.isIdle && this.#unsent.length === 0) return;
      } else if (world.isIdle) return;
    }
    const left = {
      toCopy: this.#toCopy.size,
      dirty: this.#dirty.count,
      cut: this.#cut?.point,
      unsent: this.#unsent.length,
    };
    throw new Error(
      `it does not come to an end: ${JSON.stringify({ ...left, granted: this.#granted, used: this.#used })}`,
    );
  }
}

function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}
