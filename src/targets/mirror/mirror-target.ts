/**
 * Logs each write for the remote, and lets it through to the store.
 *
 * Invariants. Writes that overlap go one after the other: the order of the log is the order on disk. What is logged is noted in
 * the half of the point that is being built; a write that is not logged is told to be copied. Between a point's cut and the
 * reading of what travels with it nothing of that is overwritten. In the modes "memory" and "sync" a write is answered only
 * when the remote has it (in memory, durably), and in "memory" a flush when the remote has durably what was answered before it:
 * unless the link is down and the policy is to go on. With the policy to stop, nothing is answered either while something is
 * to be copied: what the remote's log has then would be of no use to it without that.
 *
 * A discard becomes a write of zeroes: what a disk shows that was discarded, nobody knows.
 */
import { Operation, Request, type Layer } from "../../ublk/request.ts";
import type { Target, TargetContext } from "../../ublk/target.ts";
import { HeldWrites } from "../cow/held-writes.ts";
import { ActiveWrites } from "./active-writes.ts";
import type { DirtyBlocks } from "./dirty-blocks.ts";
import type { MirrorMode, MirrorPolicy } from "./modes.ts";
import type { OwedChunks } from "./owed-chunks.ts";
import { SECTOR_BYTES } from "./transfer.ts";
import type { TransferWriter } from "./transfer-ring.ts";

/** Parts that are read for a point at once, and the most bytes of each. */
export const POINT_READS = 8;
export const POINT_READ_BYTES = 256 * 1024;

export interface MirrorParts {
  readonly writer: TransferWriter;
  /** The points that are being built, and being sent: in turns. */
  readonly halves: readonly [DirtyBlocks, DirtyBlocks];
  readonly owed: OwedChunks;
  readonly chunkBytes: number;
  readonly mode: MirrorMode;
  readonly policy: MirrorPolicy;
}

/** What a cut has found. */
export interface Cut {
  /** The half that the point consists of. */
  readonly half: DirtyBlocks;
  /** Transfers before this one belong to it. */
  readonly endTransfer: number;
  /** It reproduces this moment: nothing was to be copied. */
  readonly isClosed: boolean;
}

/** Told with 0 and the bytes, valid until it returns, or with a negative errno. */
export type PointRead = (result: number, bytes: Uint8Array) => void;

/** The same of what is compared: a bit besides for each block that is on its way to the remote. */
export type Look = (result: number, bytes: Uint8Array, onTheirWay: Uint8Array) => void;

/** A part of the volume that is to be compared with what the remote has. */
interface Looked {
  readonly sector: number;
  readonly sectors: number;
  readonly done: Look;
}

/** What is below a mirror is opened with: room for its own reads, the last of them for what is compared. */
export function belowMirror<T extends TargetContext>(context: T): T {
  return { ...context, depth: context.depth + POINT_READS + 1 };
}

export class MirrorTarget implements Target, Layer {
  readonly #parts: MirrorParts;
  readonly #next: Target;
  readonly #context: TargetContext;
  readonly #depth: number;
  readonly #held: HeldWrites;
  readonly #active: ActiveWrites;
  /** By slot: what the last write of it was. */
  readonly #transfers: Uint32Array;
  readonly #halfOf: Int8Array;
  readonly #wasDiscard: Uint8Array;
  /** Each request's data, as long as the last time: a new view for each would be garbage. */
  readonly #views: Uint8Array[];
  /** Writes and flushes that wait for the remote. */
  readonly #waiting: Request[];
  #waitingCount = 0;
  #mode: MirrorMode;
  #policy: MirrorPolicy;
  #isHeldBack = false;
  #isLogging = false;
  #isLinked = false;
  /** A closed point was committed since logging began: all that was answered before is at the remote. */
  #isInStep = false;
  /** So many blocks of a point may have to travel. */
  #partialsMax = Infinity;
  /** Of the remote: transfers before these are in its memory, and durable there. */
  #received = 0;
  #durable = 0;
  /** The half that is being built; the other one is frozen while a point is sent. */
  #half = 0;
  #isFrozen = false;
  /** Logged writes under way by half, and those that are in no log. */
  readonly #inFlight = [0, 0];
  #unlogged = 0;
  #whenDrained: (() => void) | undefined;
  readonly #reads: Request[];
  readonly #readers = new Array<PointRead | undefined>(POINT_READS).fill(undefined);
  /** What is to be compared; and what is being read for that, with how many points were committed when that began. */
  #look: Looked | undefined;
  #reading: Looked | undefined;
  #commitsBefore = 0;
  #commits = 0;
  readonly #mayGo = (request: Request): boolean => this.#isFree(request);
  readonly #go = (request: Request): void => this.#issue(request);
  /** What the host has asked; writes that were held, and how often the log was full. */
  requests = 0;
  heldWrites = 0;
  overflows = 0;
  /** Told when nothing is logged any more since the log was full. */
  whenOverflowed: () => void = () => undefined;

  /** `next` has been opened with `belowMirror(context)`. */
  constructor(parts: MirrorParts, next: Target, context: TargetContext) {
    const { depth } = context;
    this.#parts = parts;
    this.#next = next;
    this.#context = context;
    this.#depth = depth;
    this.#mode = parts.mode;
    this.#policy = parts.policy;
    this.#held = new HeldWrites(depth);
    this.#active = new ActiveWrites(depth);
    this.#transfers = new Uint32Array(depth);
    this.#halfOf = new Int8Array(depth);
    this.#wasDiscard = new Uint8Array(depth);
    this.#views = new Array<Uint8Array>(depth).fill(new Uint8Array(0));
    this.#waiting = new Array<Request>(depth);
    const memory = context.ring.memory((POINT_READS + 1) * POINT_READ_BYTES);
    this.#reads = Array.from({ length: POINT_READS + 1 }, (_, index) => {
      const at = index * POINT_READ_BYTES;
      return new Request(depth + index, new Uint8Array(memory.buffer, at, POINT_READ_BYTES), memory.address + at);
    });
    context.afterBatch(() => {
      this.#turn();
    });
  }

  submit(request: Request): void {
    this.requests++;
    if (request.operation === Operation.READ) {
      this.#next.submit(request);
      return;
    }
    if (request.operation === Operation.FLUSH) {
      this.#halfOf[request.slot] = this.#half;
      this.#transfers[request.slot] = this.#parts.writer.transfer;
      request.pass(this.#next, this);
      return;
    }
    if (!this.#held.overlaps(request) && this.#isFree(request)) {
      this.#issue(request);
      return;
    }
    this.heldWrites++;
    this.#held.hold(request);
  }

  /** Nothing stands in its way, but maybe older writes that are held. */
  #isFree(request: Request): boolean {
    if (this.#isHeldBack) return false;
    if (this.#active.overlaps(request)) return false;
    const sector = request.offset / SECTOR_BYTES;
    const sectors = request.length / SECTOR_BYTES;
    if (this.#isFrozen && this.#frozen.hasUnread(sector, sectors)) return false;
    if (this.#policy === "continue") return true;
    const data = request.operation === Operation.WRITE ? sectors : 0;
    return this.#isLogging && this.#hasRoom(sector, sectors) && this.#parts.writer.admits(data);
  }

  /** Of the points: what was cut may have to go into the next one. */
  #hasRoom(sector: number, sectors: number): boolean {
    const building = this.#building;
    const partials = building.partials + (this.#isFrozen ? this.#frozen.partials : 0);
    // Of a write, the first block and the last one may be written in part.
    if (partials + 2 > this.#partialsMax) return false;
    return building.admits(sector, sectors, this.#isFrozen ? this.#frozen.count : 0);
  }

  get #building(): DirtyBlocks {
    return this.#parts.halves[this.#half] as DirtyBlocks;
  }

  get #frozen(): DirtyBlocks {
    return this.#parts.halves[1 - this.#half] as DirtyBlocks;
  }

  #issue(request: Request): void {
    const { slot } = request;
    this.#wasDiscard[slot] = request.operation === Operation.DISCARD ? 1 : 0;
    if (request.operation === Operation.DISCARD) request.operation = Operation.WRITE_ZEROES;
    this.#active.add(request);
    if (this.#isLogging && this.#log(request)) {
      this.#halfOf[slot] = this.#half;
      this.#inFlight[this.#half] = (this.#inFlight[this.#half] as number) + 1;
    } else this.#countUnlogged(request);
    request.pass(this.#next, this);
  }

  #countUnlogged(request: Request): void {
    const { chunkBytes, owed } = this.#parts;
    const last = request.offset + request.length - 1;
    this.#halfOf[request.slot] = -1;
    this.#unlogged++;
    owed.unlogged(Math.floor(request.offset / chunkBytes), Math.floor(last / chunkBytes));
    if (!this.#isLogging) return;
    this.overflows++;
    this.stopLogging();
    // It may be logging again when this returns: this write is none of what is logged then.
    this.whenOverflowed();
  }

  /** False where there is no room, and nothing was done. */
  #log(request: Request): boolean {
    const { writer } = this.#parts;
    const building = this.#building;
    const sector = request.offset / SECTOR_BYTES;
    const sectors = request.length / SECTOR_BYTES;
    if (!this.#hasRoom(sector, sectors)) return false;
    if (request.operation === Operation.WRITE_ZEROES) {
      if (!writer.appendZeroes(sector, sectors)) return false;
      building.wroteZeroes(sector, sectors);
    } else {
      if (!writer.appendData(sector, this.#dataOf(request))) return false;
      building.wroteData(sector, sectors, writer.transfer, writer.place);
    }
    this.#transfers[request.slot] = writer.transfer;
    return true;
  }

  #dataOf({ slot, buffer, length }: Request): Uint8Array {
    const view = this.#views[slot] as Uint8Array;
    if (view.length === length && view.buffer === buffer.buffer) return view;
    return (this.#views[slot] = buffer.subarray(0, length));
  }

  answered(request: Request, result: number): void {
    if (request.slot >= this.#depth) this.#hasRead(request, result);
    else if (request.operation === Operation.FLUSH) this.#flushed(request, result);
    else this.#written(request, result);
  }

  #written(request: Request, result: number): void {
    const half = this.#halfOf[request.slot] as number;
    if (half < 0) this.#unlogged--;
    else {
      if (result < 0) {
        const written = this.#parts.halves[half] as DirtyBlocks;
        written.wroteUnknown(request.offset / SECTOR_BYTES, request.length / SECTOR_BYTES);
      }
      this.#inFlight[half] = (this.#inFlight[half] as number) - 1;
    }
    this.#active.remove(request);
    if (this.#wasDiscard[request.slot] === 1) request.operation = Operation.DISCARD;
    if (result >= 0 && this.#mustWait(request)) this.#waiting[this.#waitingCount++] = request;
    else request.answer(result);
    this.#drained();
    this.#release();
  }

  #flushed(request: Request, result: number): void {
    if (result === 0 && this.#mode === "memory" && this.#mustWait(request)) {
      this.#waiting[this.#waitingCount++] = request;
    } else request.answer(result);
  }

  /** Whether the remote has not all yet that this request waits for. */
  #mustWait(request: Request): boolean {
    if (this.#mode === "async") return false;
    const isLogged = (this.#halfOf[request.slot] as number) >= 0;
    if (this.#policy === "continue") {
      if (!this.#isLinked) return false;
      // It is in no log. The link goes down for it, and whoever minds knows that this side goes on alone before it is answered.
      if (!isLogged) return true;
    } else {
      if (!this.#isInStep) return true;
      if (!isLogged) return false;
    }
    const inMemory = this.#mode === "memory" && request.operation !== Operation.FLUSH;
    const position = inMemory ? this.#received : this.#durable;
    return ((position - (this.#transfers[request.slot] as number)) | 0) <= 0;
  }

  /** Answers those of the waiting that wait no more. */
  #answerWaiting(): void {
    const count = this.#waitingCount;
    this.#waitingCount = 0;
    for (let index = 0; index < count; index++) {
      const request = this.#waiting[index] as Request;
      if (this.#mustWait(request)) this.#waiting[this.#waitingCount++] = request;
      else request.succeed();
    }
  }

  #release(): void {
    if (this.#held.count > 0) this.#held.release(this.#mayGo, this.#go);
  }

  #drained(): void {
    const whenDrained = this.#whenDrained;
    if (whenDrained === undefined) return;
    if (this.#unlogged > 0 || (this.#inFlight[1 - this.#half] as number) > 0) return;
    this.#whenDrained = undefined;
    whenDrained();
  }

  #turn(): void {
    if (this.#parts.writer.isWanted) this.#parts.writer.close();
  }

  /** The remote has transfers before `received` in memory, and those before `durable` durably. */
  acknowledged(received: number, durable: number): void {
    this.#received = received;
    this.#durable = durable;
    this.#answerWaiting();
  }

  /** Whether the remote is waited for, where it would be. */
  set isLinked(isLinked: boolean) {
    if (isLinked === this.#isLinked) return;
    this.#isLinked = isLinked;
    this.#answerWaiting();
  }

  get mode(): MirrorMode {
    return this.#mode;
  }

  set mode(mode: MirrorMode) {
    this.#mode = mode;
    this.#answerWaiting();
  }

  get policy(): MirrorPolicy {
    return this.#policy;
  }

  set policy(policy: MirrorPolicy) {
    this.#policy = policy;
    this.#answerWaiting();
    this.#release();
  }

  /** While it is, no write goes on that comes, and so none is answered that comes; what has gone on already comes to its end. */
  get isHeldBack(): boolean {
    return this.#isHeldBack;
  }

  set isHeldBack(isHeldBack: boolean) {
    this.#isHeldBack = isHeldBack;
    this.#release();
  }

  /** The points that are being built, and being sent, in turns. */
  get halves(): readonly [DirtyBlocks, DirtyBlocks] {
    return this.#parts.halves;
  }

  /** What has been written since the last point was cut, in blocks. */
  get written(): number {
    return this.#building.count;
  }

  /** Blocks of the point that was cut, and is not committed yet. */
  get onTheirWay(): number {
    return this.#isFrozen ? this.#frozen.count : 0;
  }

  get isLogging(): boolean {
    return this.#isLogging;
  }

  /**
   * Logs from now on, behind a point that is cut before anything is logged: it consists of nothing. `done` is called with it when
   * no write is under way that is in no log, so that what is read may be copied. Of a point, `partialsMax` blocks may have to travel
   * at most.
   */
  startLogging(done: (cut: Cut) => void, partialsMax = Infinity): void {
    this.#partialsMax = partialsMax;
    this.#isFrozen = false;
    this.#building.clear();
    this.#isLogging = true;
    this.cut(done);
    this.#release();
  }

  /** Logs no more: all that is owed has to be copied. There is no point any more that was cut. */
  stopLogging(): void {
    this.#isLogging = false;
    this.#isInStep = false;
    this.#isFrozen = false;
    this.#whenDrained = undefined;
    // What is under way was logged in vain.
    this.#halfOf.fill(-1);
    this.#unlogged += (this.#inFlight[0] as number) + (this.#inFlight[1] as number);
    this.#inFlight.fill(0);
    this.#parts.owed.endClosed(false);
    this.#parts.owed.copyAll();
    this.#answerWaiting();
    this.#release();
  }

  /** Cuts a point: none may be cut already. `done` is called when all the writes that it consists of have ended here. */
  cut(done: (cut: Cut) => void): void {
    const { writer, owed } = this.#parts;
    writer.close();
    const isClosed = owed.toCopy === 0;
    if (isClosed) owed.cutClosed();
    const cut = { half: this.#building, endTransfer: writer.open, isClosed };
    this.#half = 1 - this.#half;
    this.#building.clear();
    this.#isFrozen = true;
    this.#whenDrained = () => {
      done(cut);
    };
    this.#drained();
  }

  /**
   * The remote has committed the point that was cut; or it never will, and what it consists of goes into the next one. One that
   * was cut as closed, and is not so at the remote, settles nothing.
   */
  endPoint(isCommitted: boolean, isClosed: boolean): void {
    const { owed } = this.#parts;
    this.#isFrozen = false;
    owed.endClosed(isCommitted && isClosed);
    if (isCommitted) this.#commits++;
    if (isCommitted && isClosed) {
      this.#isInStep = true;
      this.#answerWaiting();
    }
    if (!isCommitted) this.#building.absorb(this.#frozen);
    this.#release();
  }

  /** Reads what the store has there, at most POINT_READ_BYTES; false where all reads are under way. */
  read(sector: number, sectors: number, done: PointRead): boolean {
    const index = this.#readers.indexOf(undefined);
    if (index < 0) return false;
    this.#readers[index] = done;
    const request = this.#reads[index] as Request;
    request.operation = Operation.READ;
    request.offset = sector * SECTOR_BYTES;
    request.length = sectors * SECTOR_BYTES;
    request.pass(this.#next, this);
    return true;
  }

  #hasRead(request: Request, result: number): void {
    const index = request.slot - this.#depth;
    if (index === POINT_READS) {
      this.#hasLooked(request, result);
      return;
    }
    const done = this.#readers[index] as PointRead;
    this.#readers[index] = undefined;
    done(Math.min(result, 0), request.buffer.subarray(0, request.length));
  }

  /**
   * Reads whole blocks to be compared with what the remote has, POINT_READ_BYTES at most, and tells which of them are on their way
   * to it: written since the last point that it has committed, or to be copied. All others are there as they were read. Whoever
   * asks anew is answered in place of who asked before.
   */
  look(sector: number, sectors: number, done: Look): void {
    this.#look = { sector, sectors, done };
    if (this.#reading === undefined) this.#readToLook(this.#look);
  }

  #readToLook(look: Looked): void {
    const request = this.#reads[POINT_READS] as Request;
    this.#reading = look;
    this.#commitsBefore = this.#commits;
    request.operation = Operation.READ;
    request.offset = look.sector * SECTOR_BYTES;
    request.length = look.sectors * SECTOR_BYTES;
    request.pass(this.#next, this);
  }

  #hasLooked(request: Request, result: number): void {
    const look = this.#look;
    const isOvertaken = this.#reading !== look || this.#commitsBefore !== this.#commits;
    this.#reading = undefined;
    if (look === undefined) return;
    // What was written before the point that was committed meanwhile is noted nowhere any more, and may have been read or not.
    if (isOvertaken) {
      this.#readToLook(look);
      return;
    }
    this.#look = undefined;
    look.done(Math.min(result, 0), request.buffer.subarray(0, request.length), this.#onTheirWay(look));
  }

  #onTheirWay({ sector, sectors }: Looked): Uint8Array {
    const { owed, chunkBytes } = this.#parts;
    const building = this.#building;
    const { blockSectors } = building;
    const chunkSectors = chunkBytes / SECTOR_BYTES;
    const bits = new Uint8Array(Math.ceil(sectors / blockSectors / 8));
    for (let index = 0; index * blockSectors < sectors; index++) {
      const first = sector + index * blockSectors;
      const block = first / blockSectors;
      const last = Math.min(first + blockSectors, sector + sectors) - 1;
      const isWritten = building.has(block) || (this.#isFrozen && this.#frozen.has(block));
      const isCopied = owed.isToCopy(Math.floor(first / chunkSectors), Math.floor(last / chunkSectors));
      if (isWritten || isCopied) bits[index >>> 3] = (bits[index >>> 3] as number) | (1 << (index & 7));
    }
    return bits;
  }

  /** What travels with the point that was cut has been read there: it may be overwritten. */
  hasRead(block: number, blocks: number): void {
    this.#frozen.markRead(block, blocks);
    this.#release();
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  close(): void {
    this.#look = undefined;
    const isIdle = (): boolean => this.#readers.every((reader) => reader === undefined) && this.#reading === undefined;
    this.#context.ring.waitUntil(isIdle);
    this.#next.close?.();
  }
}
