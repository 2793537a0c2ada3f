/**
 * The source's side of a mirror behind the handshake: sends the log as it grows, and consistency points, and tells the volume
 * what the receiver has.
 *
 * Invariants. What belongs to a point is sent before it. A transfer is let go of when the receiver has it durably. Nothing is
 * sent that was not granted. One point is under way at a time; one that was cut and not committed when the connection ends goes
 * into the next one. Where the receiver does not go on from what the log still has, all that is owed is copied; what is equal
 * there is not sent, if that is wanted. So it is where the receiver's log is full of what never came to its end: a log begins
 * with a point that needs no room there, and makes all of it. No point ends while something is being compared: the receiver
 * compares with what its image is between two points.
 */
import { UblkError } from "../ublk/errors.ts";
import { Comparison } from "./comparison.ts";
import { CopyPace } from "./copy-pace.ts";
import { CopyShare } from "./copy-share.ts";
import type { DirtyBlocks } from "../targets/mirror/dirty-blocks.ts";
import type { ChunkRun } from "../targets/mirror/owed-chunks.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import type { TransferReader, TransferRingSize } from "../targets/mirror/transfer-ring.ts";
import { FRAME, type FrameType } from "./frame.ts";
import type { Welcome } from "./handshake.ts";
import { chargeOf, decodeAck, decodePointCommitted, type Granted } from "./messages.ts";
import { OutgoingPoint } from "./outgoing-point.ts";
import { decodeItems, runSectors, type BlockGeometry } from "./point-items.ts";
import { PointParts } from "./point-parts.ts";
import { limitsFor, type SourceLimits } from "./source-limits.ts";
import { NO_TRANSFER, type TransferId } from "./transfer-id.ts";
import { Verification, type VerificationStatus } from "./verification.ts";

const NUMBERS = 2 ** 32;

/** A point that was cut. */
export interface SourceCut {
  readonly half: DirtyBlocks;
  /** Transfers before this one belong to it. */
  readonly endTransfer: number;
  readonly isClosed: boolean;
  /** Chunks that are to be copied with it. */
  readonly copies: readonly ChunkRun[];
}

/** `result` is 0, or a negative errno; the bytes are valid until it returns; a bit for each block that is on its way to the remote. */
export type LookDone = (result: number, bytes: Uint8Array, onTheirWay: Uint8Array) => void;

/** The volume that is mirrored, as MirrorTarget has it; it may live in another thread. */
export interface SourceVolume {
  /** What the host has asked of it in all, in a number that goes round. */
  readonly hostRequests: number;
  /** Whether its host waits for what the receiver has in memory, as in the mode "memory". */
  readonly awaitsMemory: boolean;
  /**
   * Logs anew: all that is owed is copied; `isFull`: all that there is. Of a point, `partialsMax` blocks may have to travel.
   * `done` gets a point that was cut before anything was logged: it consists of nothing.
   */
  restart(isFull: boolean, partialsMax: number, done: (cut: SourceCut) => void): void;
  /** The receiver has transfers before these in memory, and durably. */
  acknowledged(received: number, durable: number): void;
  /**
   * At most `copyChunks` chunks are to be copied with the point. `isHeld`: only while the host is held back; `done` gets undefined
   * where it is not.
   */
  cut(copyChunks: number, isHeld: boolean, done: (cut: SourceCut | undefined) => void): void;
  /** Reads what the store has there, POINT_READS parts at once at most; `done` gets 0 and bytes that are valid until it returns, or a negative errno. */
  read(sector: number, sectors: number, done: (result: number, bytes: Uint8Array) => void): void;
  /** Reads whole blocks to be compared, one part at a time: a later one is answered in place of an earlier one. */
  look(sector: number, sectors: number, done: LookDone): void;
  /** These blocks have been read for the point that was cut. */
  hasRead(block: number, blocks: number): void;
  /**
   * The point is committed, with what was copied for it; or it never will be, and is given back. It is closed, and what the
   * remote was owed is settled, or it has not become so.
   */
  endPoint(isCommitted: boolean, isClosed: boolean): void;
  /** The remote lacks what it was told that it has there, in sectors. */
  lacks(sector: number, sectors: number): void;
}

export interface SenderParts {
  readonly volume: SourceVolume;
  readonly ring: TransferReader;
  readonly incarnation: number;
  readonly geometry: BlockGeometry;
  readonly chunkSectors: number;
  /** The source's own log. */
  readonly ringSize: TransferRingSize;
  /** What is copied is compared first, and sent only where the receiver has it otherwise. */
  readonly isComparing: boolean;
  readonly nowMs: () => number;
  /** Calls `action` after a while. */
  readonly later: (ms: number, action: () => void) => void;
}

/** A point that is cut while the host is held back. */
export interface HeldCut {
  /** What its moment is called. */
  readonly createdMs: number;
  /** Gets its number; undefined where the host was held back no more, and there is none. */
  readonly answer: (point: number | undefined) => void;
}

/** Whoever wants to know. */
export interface SenderEvents {
  /** What is logged now is what the receiver gets: a write is there when it is acknowledged. */
  ready(): void;
  /** The receiver has committed a point, with which so many chunks were copied. */
  committed(point: CommittedPoint, copiedChunks: number): void;
  /** Of the point that was cut no more can be sent, ever: the log is to begin anew. */
  stuck(): void;
}

/** Of a point that the receiver has. */
export interface CommittedPoint {
  readonly point: number;
  /** The moment that it shows, where it is closed, in milliseconds since 1970. */
  readonly createdMs: number;
  readonly isClosed: boolean;
}

/** Sends a frame whose payload lies in pieces. */
export type SendPieces = (type: FrameType, ...pieces: readonly Uint8Array[]) => void;

/** In bytes, since the link began. */
export interface CompareCounts {
  /** Of what was to be copied: what was compared first, and what of it was equal, and not sent. */
  readonly copied: { readonly comparedBytes: number; readonly equalBytes: number };
  /** By comparing all of the volume. */
  readonly verified: { readonly comparedBytes: number; readonly differentBytes: number };
}

export class Sender {
  readonly #parts: SenderParts;
  readonly #events: SenderEvents;
  readonly #copyShare = new CopyShare();
  readonly #copyPace: CopyPace;
  readonly #comparison: Comparison;
  #verification: Verification | undefined;
  #verifications = 0;
  readonly #copied = { comparedBytes: 0, equalBytes: 0 };
  readonly #verified = { comparedBytes: 0, differentBytes: 0 };
  #limits: SourceLimits = { aheadBytes: 0, partialsMax: 0, copyBytesMax: 0 };
  #send: SendPieces | undefined;
  #granted: Granted = { transferBytes: 0, itemBytes: 0 };
  #used = { transferBytes: 0, itemBytes: 0 };
  /** What the receiver had taken when it was at rest; undefined while it is not. */
  #rested: Granted | undefined;
  /** Something of the point that was cut waits for being granted. */
  #isWaiting = false;
  /** The next transfer to be sent, and the last one that the receiver has or was sent. */
  #next = 0;
  #lastSent: TransferId = NO_TRANSFER;
  /** The first transfer of what is logged now, and the last one that the receiver had before it. */
  #base = 0;
  #beforeBase: TransferId = NO_TRANSFER;
  /** Transfers before this one belong to points that are committed. */
  #since = 0;
  /** Transfers before this one belong to points that were cut; and what those behind it that were sent count as. */
  #cutEnd = 0;
  #ahead = 0;
  /** All of the volume is being copied, from this point on; 0 while it is not. */
  #fullFrom = 0;
  /** What is logged now is what the receiver gets. */
  #isReady = false;
  #isCutting = false;
  #point: OutgoingPoint | undefined;
  #lastPoint = 0;
  #isShown = false;
  /** Points that were sent, and mean nothing any more since the log began anew: they may be committed all the same. */
  readonly #overtaken = new Set<number>();
  /** Grows with each connection and its end, so that what was begun in an earlier one is known. */
  #connections = 0;

  constructor(parts: SenderParts, events: SenderEvents) {
    this.#parts = parts;
    this.#events = events;
    const { nowMs, later, volume } = parts;
    this.#copyPace = new CopyPace({ nowMs, later, hostRequests: () => volume.hostRequests }, () => {
      this.pump();
    });
    this.#comparison = new Comparison(parts.geometry);
  }

  get #blockBytes(): number {
    return this.#parts.geometry.blockSectors * SECTOR_BYTES;
  }

  get #chunkBytes(): number {
    return this.#parts.chunkSectors * SECTOR_BYTES;
  }

  /** A point is on its way, or is being cut. */
  get isBusy(): boolean {
    return this.#isCutting || this.#point !== undefined;
  }

  /** The first point that can show what was written before now. */
  get nextPoint(): number {
    const next = numberAfter(this.#lastPoint);
    return this.#isCutting ? numberAfter(next) : next;
  }

  /** The last point that the receiver has committed is of what is logged now, and closed: it is what the receiver shows. */
  get isShown(): boolean {
    return this.#isShown;
  }

  /** So much was logged since the last cut that the next point is wanted at once. */
  get isFilling(): boolean {
    return this.#ahead > this.#limits.aheadBytes / 2;
  }

  get compareCounts(): CompareCounts {
    return { copied: { ...this.#copied }, verified: { ...this.#verified } };
  }

  /** Of the comparison of all the volume that was begun last; undefined where there was none. */
  get verification(): VerificationStatus | undefined {
    return this.#verification?.status;
  }

  /** Begins to compare all of the volume with what the receiver has. Gives the number of it. Throws EBUSY while that is done. */
  verify(isRepairing: boolean): number {
    const { state } = this.#verification?.status ?? { state: "done" };
    if (state !== "done") throw new UblkError("EBUSY", "the mirror is being verified already");
    const { volume, geometry } = this.#parts;
    this.#verification = new Verification({
      ...{ number: ++this.#verifications, isRepairing, volume, geometry, comparison: this.#comparison },
      totals: this.#verified,
      mayLook: () => this.#mayLook,
      nextPoint: () => this.nextPoint,
    });
    this.#verification.pump();
    return this.#verifications;
  }

  /** Ends it where it is; nothing happens where it is done. */
  endVerification(): void {
    this.#verification?.end();
    this.#verification = undefined;
  }

  /** A point that is being sent goes first: it cannot end while something is being compared. */
  get #mayLook(): boolean {
    const isFree = this.#point === undefined || this.#point.hasEnded;
    return this.#isReady && this.#send !== undefined && isFree && this.#comparison.hasRoom;
  }

  /** Begins with a receiver that has welcomed this source. Throws ESIZE where its log is too small for this one. */
  connect(welcome: Welcome, send: SendPieces): void {
    const { ring, incarnation, ringSize } = this.#parts;
    const { lastTransfer, lastPoint, granted, logBytes } = welcome;
    this.#limits = limitsFor(logBytes, ringSize, this.#blockBytes, this.#chunkBytes);
    this.#send = send;
    this.#comparison.connect(send);
    this.#connections++;
    this.#overtaken.clear();
    this.#lastSent = lastTransfer;
    this.#granted = granted;
    this.#used = { transferBytes: 0, itemBytes: 0 };
    this.#rested = undefined;
    const isCommitted = this.#point !== undefined && this.#point.hasEnded && lastPoint >= this.#point.number;
    if (isCommitted && this.#point !== undefined) {
      this.#since = this.#point.cut.endTransfer;
      this.#isShown = this.#point.isClosed;
    }
    this.#endPoint(isCommitted);
    this.#lastPoint = Math.max(this.#lastPoint, lastPoint);
    // What was copied to it before the connection was lost is there: it goes on.
    const isFull = welcome.wants === "full" && (this.#fullFrom === 0 || lastPoint < this.#fullFrom);
    if (isFull) this.#fullFrom = this.#lastPoint + 1;
    const next = (lastTransfer.counter + 1) % NUMBERS;
    const goesOn =
      this.#isReady && lastTransfer.incarnation === incarnation && ring.ageOf(next) <= ring.ageOf(ring.end);
    if (welcome.wants !== "recorded" && !isFull && goesOn) {
      // What is sent again counts once.
      this.#ahead -= this.#chargeOf(isBefore(next, this.#cutEnd) ? this.#cutEnd : next, this.#next);
      this.#next = next;
      this.#events.ready();
      this.pump();
    } else this.#restart(isFull);
  }

  #restart(isFull: boolean): void {
    this.#isReady = false;
    this.#isShown = false;
    if (this.#point?.hasEnded === true) this.#overtaken.add(this.#point.number);
    this.#point?.close();
    this.#point = undefined;
    this.#isCutting = false;
    const connection = this.#connections;
    const askedMs = this.#parts.nowMs();
    this.#parts.volume.restart(isFull, this.#limits.partialsMax, (cut) => {
      this.#next = cut.endTransfer;
      this.#base = cut.endTransfer;
      this.#since = cut.endTransfer;
      this.#ahead = 0;
      this.#beforeBase = this.#lastSent;
      this.#parts.ring.beginAt(cut.endTransfer);
      this.#isReady = true;
      if (connection === this.#connections) this.#events.ready();
      this.#hasCut(cut, connection, askedMs, askedMs);
    });
  }

  #hasCut(cut: SourceCut, connection: number, askedMs: number, createdMs: number): void {
    this.#point = this.#newPoint(cut, askedMs, createdMs);
    this.#cutEnd = cut.endTransfer;
    this.#ahead = this.#chargeOf(cut.endTransfer, this.#next);
    if (connection !== this.#connections) this.#endPoint(false);
    else this.pump();
  }

  disconnect(): void {
    this.#send = undefined;
    this.#comparison.disconnect();
    this.#verification?.interrupted();
    this.#connections++;
  }

  /** The log begins anew: it has overflowed, or there is no other way to go on. */
  beginAnew(): void {
    if (this.#send !== undefined) this.#restart(false);
    else this.#isReady = false;
  }

  /** Has a point cut, unless one is under way. What becomes of the connection meanwhile, `held` is not told. */
  cut(held?: HeldCut): void {
    if (!this.#isReady || this.#isCutting || this.#point !== undefined || this.#send === undefined) return;
    this.#isCutting = true;
    const askedMs = this.#parts.nowMs();
    const connection = this.#connections;
    this.#parts.volume.cut(this.#copyChunks, held !== undefined, (cut) => {
      if (!this.#isCutting) return;
      this.#isCutting = false;
      if (cut === undefined) {
        held?.answer(undefined);
        return;
      }
      this.#copyPace.copies(this.#copiedBytes(cut));
      if (connection === this.#connections) held?.answer(numberAfter(this.#lastPoint));
      this.#hasCut(cut, connection, askedMs, held?.createdMs ?? askedMs);
    });
  }

  /** In bytes a second, for what is copied; null for no limit. */
  limitCopying(bytesPerSecond: number | null): void {
    this.#copyPace.limit(bytesPerSecond);
  }

  /** Milliseconds until something may be copied with a point: 0 where it may now. Points go on meanwhile. */
  get copyWaitMs(): number {
    return this.#copyPace.waitMs;
  }

  /** To be copied with a point that is cut now: one at least, where any may be. */
  get #copyChunks(): number {
    if (this.copyWaitMs > 0) return 0;
    const { pointBytesMax } = this.#copyPace;
    const bytes = Math.min(this.#copyShare.bytes(this.#limits.copyBytesMax), pointBytesMax);
    return Math.max(1, Math.floor(bytes / this.#chunkBytes));
  }

  #copiedBytes(cut: SourceCut): number {
    return copiedChunks(cut) * this.#chunkBytes;
  }

  /** Of those from `first` to before `end` that are in the log here still. */
  #chargeOf(first: number, end: number): number {
    let charge = 0;
    for (let number = first; isBefore(number, end); number = (number + 1) % NUMBERS) {
      if (this.#parts.ring.has(number)) charge += chargeOf(this.#parts.ring.bytesOf(number));
    }
    return charge;
  }

  #newPoint(cut: SourceCut, askedMs: number, createdMs: number): OutgoingPoint {
    this.#lastPoint = numberAfter(this.#lastPoint);
    const { volume, geometry, chunkSectors } = this.#parts;
    const whenRead = (): void => {
      this.pump();
    };
    const comparison = this.#parts.isComparing ? this.#comparison : null;
    const compared = this.#copied;
    const options = { volume, geometry, chunkSectors, comparison, compared, pace: this.#copyPace, whenRead };
    const parts = new PointParts(options, cut, this.#since);
    return new OutgoingPoint({ number: this.#lastPoint, askedMs, createdMs, cut, parts });
  }

  /** Sends what there is and what was granted. */
  pump(): void {
    if (!this.#isReady || this.#send === undefined) return;
    this.#isWaiting = false;
    this.#sendTransfers(this.#send);
    const point = this.#point;
    const isSending = point !== undefined && !point.hasEnded;
    if (isSending && !isBefore(this.#next, point.cut.endTransfer)) this.#sendPoint(this.#send, point);
    if (this.#isStuck) this.#events.stuck();
    else this.#verification?.pump();
  }

  /** What waits for being granted waits for a point to be committed, and no point can be before it is sent. */
  get #isStuck(): boolean {
    if (!this.#isWaiting || this.#overtaken.size > 0) return false;
    const { transferBytes, itemBytes } = this.#used;
    return this.#rested?.transferBytes === transferBytes && this.#rested.itemBytes === itemBytes;
  }

  #sendTransfers(send: SendPieces): void {
    const { ring, volume } = this.#parts;
    while (ring.has(this.#next)) {
      const transfer = ring.take(this.#next, volume.awaitsMemory);
      const charge = chargeOf(ring.bytesOf(this.#next));
      const isOfNext = !isBefore(this.#next, this.#cutEnd);
      if (this.#used.transferBytes + charge > this.#granted.transferBytes) {
        if (!isOfNext) this.#isWaiting = true;
        return;
      }
      // A point that has begun goes out whole; of the next one only so much that it has room as well.
      if (isOfNext && this.#ahead + charge > this.#limits.aheadBytes) return;
      if (isOfNext) this.#ahead += charge;
      this.#used.transferBytes += charge;
      send(FRAME.TRANSFER, transfer.table, ...transfer.pieces);
      this.#lastSent = { incarnation: this.#parts.incarnation, counter: this.#next };
      this.#next = (this.#next + 1) % NUMBERS;
    }
  }

  #sendPoint(send: SendPieces, point: OutgoingPoint): void {
    const { incarnation, ring } = this.#parts;
    const { endTransfer } = point.cut;
    const isLogged = endTransfer !== this.#base;
    const cut = isLogged ? { incarnation, counter: (endTransfer - 1 + NUMBERS) % NUMBERS } : this.#beforeBase;
    const way = { send, takeGrant: this.#takeItems, mayEnd: () => this.#comparison.isIdle };
    point.pump(way, { cut, log: ring.log });
  }

  readonly #takeItems = (charge: number): boolean => {
    const isGranted = this.#used.itemBytes + charge <= this.#granted.itemBytes;
    if (isGranted) this.#used.itemBytes += charge;
    else this.#isWaiting = true;
    return isGranted;
  };

  /** Takes a frame of the receiver. Throws EPROTOCOL for what it may not send. */
  take(type: FrameType, payload: Uint8Array): void {
    switch (type) {
      case FRAME.ACK:
        this.#takeAck(payload);
        break;
      case FRAME.NAK:
        this.#takeNak(payload);
        break;
      case FRAME.POINT_COMMITTED:
        this.#takeCommitted(decodePointCommitted(payload));
        break;
      case FRAME.SUMS_REPLY:
        this.#comparison.take(payload);
        this.pump();
        break;
      case FRAME.PONG:
        break;
      default:
        throw new UblkError("EPROTOCOL", `a receiver sends no frame of type ${type} now`);
    }
  }

  #takeAck(payload: Uint8Array): void {
    const { received, durable, granted, taken, isAtRest } = decodeAck(payload);
    const { ring, volume, incarnation } = this.#parts;
    this.#granted = granted;
    this.#rested = isAtRest ? taken : undefined;
    if (this.#isReady && durable.incarnation === incarnation) {
      const end = (durable.counter + 1) % NUMBERS;
      if (ring.ageOf(end) <= ring.ageOf(this.#next)) {
        ring.release(end);
        volume.acknowledged((received.counter + 1) % NUMBERS, end);
      }
    }
    this.pump();
  }

  #takeNak(payload: Uint8Array): void {
    const { geometry, volume } = this.#parts;
    if (this.#point !== undefined) this.#point.isLacking = true;
    for (const run of decodeItems(payload, geometry).runs) {
      volume.lacks(run.block * geometry.blockSectors, runSectors(run, geometry));
    }
  }

  #takeCommitted(number: number): void {
    // It brings its image to the point now, and tells when that has made room.
    this.#rested = undefined;
    if (this.#overtaken.delete(number)) return;
    if (this.#point?.number !== number || !this.#point.hasEnded) {
      throw new UblkError("EPROTOCOL", `point ${number} was not sent, and cannot be committed`);
    }
    const { cut, askedMs, createdMs, isClosed } = this.#point;
    this.#since = cut.endTransfer;
    const copied = this.#copiedBytes(cut);
    if (copied > 0) this.#copyShare.took(copied, this.#parts.nowMs() - askedMs);
    this.#isShown = isClosed;
    if (isClosed) this.#fullFrom = 0;
    this.#endPoint(true);
    if (isClosed) this.#verification?.closed(number);
    this.#events.committed({ point: number, createdMs, isClosed }, copiedChunks(cut));
    this.pump();
  }

  #endPoint(isCommitted: boolean): void {
    const point = this.#point;
    if (point === undefined) return;
    point.close();
    this.#point = undefined;
    this.#parts.volume.endPoint(isCommitted, point.isClosed);
  }
}

/** Points of a source have even numbers: the one behind each is the receiver's, for what its log had behind that point. */
function numberAfter(point: number): number {
  return point + 2 - (point % 2);
}

/** Numbers go round: what counts is how far apart they are. */
function isBefore(number: number, other: number): boolean {
  return ((number - other) | 0) < 0;
}

function copiedChunks({ copies }: SourceCut): number {
  return copies.reduce((sum, { count }) => sum + count, 0);
}
