/**
 * Copy-on-write: before anything is overwritten for the first time since a point in time, the original goes to the store.
 *
 * Invariants. R4: an overwrite is passed on only when each of its blocks has a version that is durable, or that no point
 * wants. Reads are never held. While the owner holds the volume back, nothing else goes on: a point that is taken meanwhile
 * shows nothing that came after `holdBack`. A point shows exactly the writes that had been passed on when it was taken: what was under way
 * then ends before any of their blocks is moved for it. The host never hears of a store that is full or broken: points are
 * given up instead, and that is durable before the first original is (LossNote, where the store itself cannot be written).
 */
import { ERRNO } from "../../ublk/errors.ts";
import { Operation, Request, type Layer } from "../../ublk/request.ts";
import type { Target, TargetContext } from "../../ublk/target.ts";
import { CatalogFile } from "./catalog-file.ts";
import type { Point, PointKind } from "./catalog.ts";
import { Cleaner, FREE_RESERVED } from "./cleaner.ts";
import { COW_COUNT, type CowCounts } from "./cow-counts.ts";
import { Differ } from "./differ.ts";
import { Heat, type HeatMap } from "./heat.ts";
import { HeldWrites } from "./held-writes.ts";
import type { Layout } from "./layout.ts";
import { APPENDS, Mover } from "./mover.ts";
import { FROM_VOLUME, LAST_EPOCH } from "./moves.ts";
import { OriginalStore } from "./original-store.ts";
import { PointReader } from "./point-reader.ts";
import { Points, type BlockRun } from "./points.ts";
import type { RecoveredStore, TornEntry } from "./recovery.ts";
import { Sweeper } from "./sweeper.ts";
import type { Tuning } from "./tuning.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** What is done when the store is full: the oldest point is given up, or the host waits until there is room. */
export type FullPolicy = "invalidate" | "stall";

/** Where it is noted that a store's points are worth nothing any more, when the store cannot be written. */
export interface LossNote {
  /** Some earlier process has written it, and nobody has cleared it since. */
  readonly isThere: boolean;
  /** It is durable when this returns. */
  write(): void;
  clear(): void;
}

export interface CowSetup {
  readonly layout: Layout;
  readonly salt: number;
  readonly recovered: RecoveredStore;
  /** Index of the store in the ring. */
  readonly file: number;
  readonly volumeBytes: number;
  readonly tuning: Tuning;
  readonly fullPolicy: FullPolicy;
  readonly lossNote: LossNote;
  readonly counts: CowCounts;
}

/** Requests beside the host's that may be under way in the volume: the mover's, the reader's, a flush. */
function ownRequests({ groupBlocks, pieces }: Tuning): number {
  return APPENDS * groupBlocks + pieces + 1;
}

/** What a target below copy-on-write is opened with: room for requests beside the host's. */
export function belowCow<T extends TargetContext>(context: T, tuning: Tuning): T {
  return { ...context, depth: context.depth + ownRequests(tuning) };
}

export class CowTarget implements Target, Layer {
  readonly reader: PointReader;
  readonly #setup: CowSetup;
  readonly #next: Target;
  readonly #context: TargetContext;
  readonly #map: VersionMap;
  readonly #store: OriginalStore;
  readonly #points: Points;
  readonly #catalog: CatalogFile;
  readonly #mover: Mover;
  readonly #sweeper: Sweeper;
  readonly #differ: Differ;
  readonly #cleaner: Cleaner;
  readonly #held: HeldWrites;
  readonly #heat: Heat;
  readonly #blocksPerByte: number;
  /** By slot: the first block that is not known to be settled, and the last. */
  readonly #settledTo: Float64Array;
  readonly #lastBlocks: Float64Array;
  /** By slot: the last epoch when the write was passed on. */
  readonly #passedAt: Uint32Array;
  #inFlight = 0;
  /** Writes that were under way when the last point was taken, and have not ended; and its epoch. */
  #draining = 0;
  #takenEpoch = 0;
  /** Who waits for them to end. */
  #drained: (() => void)[] = [];
  readonly #flush: Request;
  /** Who waits for the flush that is under way, and for the one after it. */
  #flushed: ((result: number) => void)[] = [];
  #waitForFlush: ((result: number) => void)[] = [];
  #isFlushing = false;
  /** What recovery found torn and was not taken up again. */
  readonly #torn: TornEntry[];
  /** Of all that the mover ever takes, this is the last that was torn. */
  #repairedBy = 0;
  /**
   * What the mover took before may have to be moved again for a newer point when it is settled: it was taken before the last one
   * was, or was torn. And how much of what it took has been looked at.
   */
  #rescanUntil = 0;
  #rescanned = 0;
  #isShort = false;
  #isGivingUp = false;
  /** Epoch of a point that is not given up for want of room; 0 for none. */
  #spared = 0;
  #isFailed = false;
  /** The owner wants nothing to go on but reads. */
  #isHeldBack = false;
  readonly #isReady = (request: Request): boolean => this.#isSettled(request);
  readonly #go = (request: Request): void => this.#pass(request);

  /** `next` has been opened with `belowCow`. */
  constructor(setup: CowSetup, next: Target, context: TargetContext) {
    const { layout, salt, recovered, file, volumeBytes, tuning, counts } = setup;
    const { blockBytes } = layout.geometry;
    this.#setup = setup;
    this.#next = next;
    this.#context = context;
    this.#map = recovered.map;
    this.#blocksPerByte = 1 / blockBytes;
    this.#points = new Points(recovered.catalog.points, recovered.lastEpoch, Math.ceil(volumeBytes / blockBytes));
    this.#store = new OriginalStore(layout, salt, context.ring, file, recovered);
    this.#catalog = new CatalogFile(this.#points, recovered, layout, salt, context.ring, file);
    const parts = { store: this.#store, map: this.#map, points: this.#points, next, volumeBytes, tuning, counts };
    this.#mover = new Mover({ ...parts, firstSlot: context.depth }, context);
    this.reader = new PointReader({ ...parts, firstSlot: context.depth + APPENDS * tuning.groupBlocks }, context);
    this.#sweeper = new Sweeper(this.#map, this.#points, this.#store, context.ring);
    this.#differ = new Differ(this.#map, this.#points, context.ring);
    this.#cleaner = new Cleaner(this.#mover, this.#store, this.#map, salt, context.ring);
    this.#held = new HeldWrites(context.depth);
    this.#heat = new Heat(volumeBytes, blockBytes);
    this.#settledTo = new Float64Array(context.depth);
    this.#lastBlocks = new Float64Array(context.depth);
    this.#passedAt = new Uint32Array(context.depth);
    this.#flush = new Request(context.depth + ownRequests(tuning) - 1, new Uint8Array(0), 0);
    this.#flush.operation = Operation.FLUSH;
    this.#torn = [...recovered.torn];
    this.#store.hasRepairs = this.#torn.length > 0;
    // Nobody changes them before they have been moved again.
    for (const { block, source } of this.#torn) if (source === FROM_VOLUME) this.#map.begin(block);
    this.#mover.whenMoved = (result) => this.#moved(result);
    context.afterBatch(() => this.#turn());
    if (setup.lossNote.isThere) this.#giveUpAll("failed");
    else if (recovered.isDamaged) this.#giveUpAll("damaged");
    this.#sweeper.start();
  }

  submit(request: Request): void {
    if (request.operation === Operation.READ) {
      this.#next.submit(request);
      return;
    }
    if (request.operation === Operation.FLUSH) {
      if (this.#held.writes > 0 || this.#isHeldBack) this.#held.hold(request);
      else this.#next.submit(request);
      return;
    }
    this.#heat.written(request.offset);
    this.#settledTo[request.slot] = Math.floor(request.offset * this.#blocksPerByte);
    this.#lastBlocks[request.slot] = Math.floor((request.offset + request.length - 1) * this.#blocksPerByte);
    const isFree = !this.#isHeldBack && this.#isSettled(request);
    if (isFree && (this.#held.count === 0 || !this.#held.overlaps(request))) {
      this.#held.pass(request);
      this.#pass(request);
      return;
    }
    this.#setup.counts.add(COW_COUNT.held);
    this.#held.hold(request);
  }

  /** Whether no block of a write has an original that must be moved first. */
  #isSettled(request: Request): boolean {
    const last = this.#lastBlocks[request.slot] as number;
    let block = this.#settledTo[request.slot] as number;
    while (block <= last && this.#isBlockSettled(block)) block++;
    this.#settledTo[request.slot] = block;
    return block > last;
  }

  #isBlockSettled(block: number): boolean {
    const version = this.#map.newest(block);
    if (version === NONE) return this.#points.newestFor(block) === 0;
    return !this.#map.isPending(version) && this.#map.epoch(version) >= this.#points.newestFor(block);
  }

  #pass(request: Request): void {
    if (request.operation === Operation.FLUSH) {
      this.#next.submit(request);
      return;
    }
    this.#passedAt[request.slot] = this.#points.lastEpoch;
    this.#inFlight++;
    request.pass(this.#next, this);
  }

  answered(request: Request, result: number): void {
    if (request === this.#flush) {
      this.#endFlush(result);
      return;
    }
    this.#inFlight--;
    if (this.#draining > 0 && (this.#passedAt[request.slot] as number) < this.#takenEpoch) {
      if (--this.#draining === 0) this.#endDraining();
    }
    const isFlushFree = this.#held.answered(request);
    request.answer(result);
    if (isFlushFree) this.#release();
  }

  #release(): void {
    if (!this.#isHeldBack) this.#held.release(this.#isReady, this.#go);
  }

  /** At the end of a batch: has what is missing moved. */
  #turn(): void {
    this.#isShort = false;
    if (this.#draining === 0 && !this.#isFailed) {
      this.#takeTorn();
      // What would be moved now, would be moved again for the point that is about to be taken.
      if (!this.#isHeldBack) this.#takeHeld();
      this.#makeRoom();
      this.#mover.start();
    }
    this.#mover.append();
    this.#publish();
  }

  #publish(): void {
    const { counts } = this.#setup;
    counts.set(COW_COUNT.holding, this.#held.count);
    counts.set(COW_COUNT.writtenBytes, this.#store.writtenBytes);
    counts.set(COW_COUNT.usedSlots, this.#map.count);
    counts.set(COW_COUNT.freeSlots, this.#store.room);
  }

  /** The mover takes another original: but some room is kept, in which room can be made. */
  get #hasRoom(): boolean {
    const { slotsPerSegment } = this.#setup.layout.geometry;
    const room = this.#store.room - this.#mover.promised - FREE_RESERVED * slotsPerSegment;
    if (room <= 0) this.#isShort = true;
    return room > 0 && this.#mover.hasRoom;
  }

  #takeHeld(): void {
    const held = this.#held;
    for (; held.taken < held.count; held.taken++) {
      const request = held.at(held.taken);
      if (request.operation !== Operation.FLUSH && !this.#takeBlocksOf(request)) return;
    }
  }

  /** False where there was no room for all of them. */
  #takeBlocksOf(request: Request): boolean {
    const last = this.#lastBlocks[request.slot] as number;
    // Blocks that are pending are looked at again if they may be settled for an older point only: see `#moved`.
    for (let block = this.#settledTo[request.slot] as number; block <= last; block++) {
      const version = this.#map.newest(block);
      if (version !== NONE && this.#map.isPending(version)) continue;
      if (this.#isBlockSettled(block)) continue;
      if (!this.#hasRoom) return false;
      this.#map.begin(block);
      this.#mover.takeOriginal(block, LAST_EPOCH);
    }
    return true;
  }

  /** What was torn is moved again before anything else. */
  #takeTorn(): void {
    while (this.#torn.length > 0 && this.#mover.hasRoom) {
      if (this.#store.room <= this.#mover.promised) {
        this.#isShort = true;
        return;
      }
      const { block, epoch, source } = this.#torn.pop() as TornEntry;
      if (source === FROM_VOLUME) this.#mover.takeOriginal(block, epoch);
      else this.#mover.takeStored(block, epoch, source);
      this.#repairedBy = this.#mover.taken;
      this.#rescanUntil = this.#mover.taken;
    }
  }

  #moved(result: number): void {
    if (result !== 0) this.#fail();
    else if (this.#torn.length === 0 && this.#mover.ended >= this.#repairedBy) this.#store.hasRepairs = false;
    if (this.#rescanned < this.#rescanUntil) this.#held.taken = 0;
    this.#rescanned = this.#mover.ended;
    this.#release();
  }

  /** Where somebody waits for room, this gives up the oldest point, if no room can be made in another way. */
  #makeRoom(): void {
    this.#cleaner.turn(this.#isShort);
    if (!this.#isShort || this.#setup.fullPolicy === "stall") return;
    const isBusy = this.#isGivingUp || this.#sweeper.isRunning || !this.#mover.isIdle || this.#cleaner.canGain;
    if (isBusy) return;
    const oldest = this.#points.oldestValid(this.#spared);
    if (oldest !== undefined) this.#giveUp("full", (point) => point === oldest);
  }

  #fail(): void {
    if (this.#isFailed) return;
    this.#isFailed = true;
    this.#mover.abandon();
    // What was torn cannot be moved any more; the next recovery finds it again.
    for (const { block, source } of this.#torn.splice(0)) {
      if (source === FROM_VOLUME) this.#map.remove(this.#map.newest(block));
    }
    this.#giveUpAll("failed");
  }

  #giveUpAll(state: "failed" | "damaged"): void {
    this.#giveUp(state, () => true);
  }

  #giveUp(state: Exclude<Point["state"], "valid">, chosen: (point: Point) => boolean): void {
    const given = this.#points.giveUp(state, chosen);
    this.#isGivingUp = true;
    const { leaving } = this.#points;
    this.#catalog.save((result) => {
      const { lossNote } = this.#setup;
      if (result === 0 || this.#isFailed) {
        if (result !== 0) lossNote.write();
        else if (lossNote.isThere) lossNote.clear();
        this.#givenUp(given, leaving);
      } else {
        this.#isGivingUp = false;
        this.#fail();
      }
    });
  }

  #givenUp(count: number, leaving: readonly number[]): void {
    this.#isGivingUp = false;
    this.#points.endLeaving(leaving);
    this.#setup.counts.add(COW_COUNT.givenUp, count);
    this.#sweeper.start();
    this.#release();
  }

  get tornAtStart(): number {
    return this.#setup.recovered.torn.length;
  }

  /** Originals that are kept. */
  get versions(): number {
    return this.#map.count;
  }

  /** Epochs of points that are being dropped or given up, until that is durable. */
  get leaving(): readonly number[] {
    return this.#points.leaving;
  }

  /** What is moved as a whole. */
  get blockBytes(): number {
    return this.#setup.layout.geometry.blockBytes;
  }

  get lastEpoch(): number {
    return this.#points.lastEpoch;
  }

  /** The points that there are, given up or not. */
  get points(): readonly Point[] {
    return this.#points.all;
  }

  /**
   * Takes a point of this very moment. `done` is called when it is durable, together with all that it shows, with the point;
   * or with a negative errno: then there is none. What is `passed` no originals are kept of, from this very moment on (see `pass`).
   */
  takePoint(
    kind: PointKind,
    name: string,
    createdMs: number,
    done: (result: Point | number) => void,
    passed: readonly BlockRun[] = [],
  ): void {
    if (this.#isFailed) {
      done(-ERRNO.EIO);
      return;
    }
    const { volumeBytes } = this.#setup;
    const point = this.#points.add({ kind, name, createdMs, volumeBytes, state: "valid", mark: 0 });
    for (const { first, end } of passed) this.#points.pass(point.epoch, first, end);
    this.#takenEpoch = point.epoch;
    // Held writes have not been passed on: they come after it, and their blocks may have to be moved again.
    for (let index = 0; index < this.#held.count; index++) {
      const { slot, offset } = this.#held.at(index);
      this.#settledTo[slot] = Math.floor(offset * this.#blocksPerByte);
    }
    this.#held.taken = 0;
    this.#rescanUntil = this.#mover.taken;
    this.#draining = this.#inFlight;
    const flush = (): void => this.#flushVolume((result) => this.#savePoint(point, result, done));
    if (this.#draining === 0) flush();
    else this.#drained.push(flush);
  }

  #endDraining(): void {
    const drained = this.#drained;
    this.#drained = [];
    for (const go of drained) go();
  }

  /** What the point shows of the volume itself must not be taken back by a power cut. */
  #flushVolume(done: (result: number) => void): void {
    this.#waitForFlush.push(done);
    if (!this.#isFlushing) this.#startFlush();
  }

  #startFlush(): void {
    this.#isFlushing = true;
    this.#flushed = this.#waitForFlush;
    this.#waitForFlush = [];
    this.#flush.pass(this.#next, this);
  }

  #endFlush(result: number): void {
    const flushed = this.#flushed;
    this.#isFlushing = false;
    // A flush covers what had ended when it began: who came later waits for the next.
    if (this.#waitForFlush.length > 0) this.#startFlush();
    for (const done of flushed) done(result);
  }

  #savePoint(point: Point, flushResult: number, done: (result: Point | number) => void): void {
    if (flushResult !== 0) {
      this.dropPoint(point.epoch, () => done(flushResult));
      return;
    }
    this.#points.join(point.epoch);
    this.#catalog.save((result) => {
      if (result === 0) done(this.#points.all.find(({ epoch }) => epoch === point.epoch) ?? -ERRNO.EIO);
      else {
        this.#fail();
        done(result);
      }
    });
  }

  /** Where room is wanted, other points are given up before this one; 0 for none. */
  spare(epoch: number): void {
    this.#spared = epoch;
  }

  /** Whether these blocks can be overwritten without a point being given up for want of room. Blocks may be told twice. */
  hasRoomFor(blocks: Float64Array): boolean {
    const missing = blocks.reduce((count, block) => count + (this.#isBlockSettled(block) ? 0 : 1), 0);
    return missing === 0 || this.#cleaner.canMake(missing);
  }

  /** From now on overwrites and flushes wait, in their order, until `letGo`. What has gone on already comes to its end. */
  holdBack(): void {
    this.#isHeldBack = true;
  }

  /** What was held back goes on. */
  letGo(): void {
    this.#isHeldBack = false;
    this.#release();
  }

  /** Drops a point. `done` is called with 0 when that is durable, or with a negative errno. */
  dropPoint(epoch: number, done: (result: number) => void): void {
    this.#points.remove(epoch);
    const { leaving } = this.#points;
    this.#catalog.save((result) => {
      if (result === 0) {
        this.#points.endLeaving(leaving);
        this.#sweeper.start();
      } else this.#fail();
      done(result);
      this.#release();
    });
  }

  /**
   * The copy of a point has passed these blocks, and will never read them again, not after a crash either: no originals of
   * them are kept for it any more. To be told anew after each start.
   */
  pass(epoch: number, runs: readonly BlockRun[]): void {
    if (!this.#points.isKept(epoch)) return;
    for (const { first, end } of runs) {
      this.#points.pass(epoch, first, end);
      this.#sweeper.sweepBlocks(first, end);
    }
    this.#release();
  }

  /** Where the volume is written to most. */
  readHeat(): HeatMap {
    return this.#heat.read();
  }

  /**
   * Marks a point, once: what is overwritten for the first time from now on is not moved for it, and what was moved before is
   * kept. `done` is called with the point when that is durable, or with a negative errno.
   */
  markPoint(epoch: number, done: (result: Point | number) => void): void {
    const found = (): Point | undefined => this.points.find((each) => each.epoch === epoch && each.state === "valid");
    if (found()?.mark !== 0) {
      done(-ERRNO.ENOENT);
      return;
    }
    const mark = this.#points.mark(epoch);
    this.#catalog.save((result) => {
      if (result === 0) {
        this.#points.endMarking(epoch, mark);
        this.#sweeper.start();
      } else this.#fail();
      done(result === 0 ? (found() ?? -ERRNO.ENOENT) : result);
      this.#release();
    });
  }

  /** Finds the blocks that were overwritten between two points, or since one (`to` is Infinity): see Differ. */
  diff(from: number, to: number, done: (blocks: Float64Array | null) => void): void {
    this.#differ.start(from, to, done);
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  get #isIdle(): boolean {
    return (
      this.#held.count === 0 &&
      this.#inFlight === 0 &&
      this.#mover.isIdle &&
      !this.#cleaner.isReading &&
      !this.#sweeper.isRunning &&
      this.#differ.isIdle &&
      !this.#catalog.isBusy &&
      !this.#isFlushing &&
      !this.#isGivingUp &&
      this.reader.isIdle
    );
  }

  close(): void {
    // Batches have no ends any more: what the mover has taken goes on from here.
    this.#context.ring.waitUntil(() => {
      this.#mover.start();
      this.#mover.append();
      return this.#isIdle;
    });
    this.#next.close?.();
  }
}
