/**
 * The receiver's side of a mirror behind the handshake: keeps transfers in its log, commits consistency points, and brings the
 * image from one to the next.
 *
 * Invariants. R6: what the receiver shows is the last closed point, or is on its way to it with all that it needs in the log:
 * a point is committed by one record, and before anything of it is written to the image, what the image was is kept. What is
 * acknowledged is what the log has: in memory, durably. No frame is believed to be the next one, or to refer to what is there,
 * without having been looked at. Bounded: what is granted has room in the log, and is granted once. What the source wants compared
 * is compared with the image when all points are in it that were committed, and no other one is committed until it is answered.
 */
import { crc32 } from "node:zlib";
import { UblkError } from "../ublk/errors.ts";
import { decodeTransfer, SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { encodePointRecord, type PointRecord } from "./committed-point.ts";
import { FRAME, type FrameType } from "./frame.ts";
import { NO_GENERATION, type Generation } from "./generations.ts";
import type { ImageComparer } from "./image-comparer.ts";
import type { LogGeometry } from "./log-geometry.ts";
import type { LogReplay } from "./log-replay.ts";
import {
  ACK_BYTES,
  chargeOf,
  decodePing,
  decodePointBegin,
  decodePointEnd,
  encodeAck,
  encodePing,
  encodePointCommitted,
  PING_BYTES,
  POINT_COMMITTED_BYTES,
  type Granted,
  type PointBegin,
} from "./messages.ts";
import type { PointApplier } from "./point-applier.ts";
import {
  decodeItems,
  encodeRuns,
  RUN_KIND,
  RUNS_MAX,
  runSectors,
  type BlockGeometry,
  type PointRun,
} from "./point-items.ts";
import type { ReceiverLog } from "./receiver-log.ts";
import { decodeSums, encodeSumsReply, SUMS_AHEAD_MAX, type Sums } from "./sums.ts";
import type { Logged, TransferIndex } from "./transfer-index.ts";
import { isBefore, type TransferId } from "./transfer-id.ts";

/** Of the log, room that transfers never take: the lists of a point have it. */
const ITEMS_SHARE = 1 / 4;
/** Room for the ends of points, and for the record that the ring keeps free. */
const SLACK_BYTES = 4 * 4096;

export type SendFrame = (type: FrameType, payload: Uint8Array) => void;

/** What is mirrored, beside its bytes, which the applier writes. */
export interface ReceiverImage {
  /** Keeps what the image is now, the closed point `point`, durably and whatever is written then. Does nothing for one that is kept. */
  keep(point: number, done: (result: number) => void): void;
  /** The image is the closed point `point`: those that were kept before are history. */
  reached(point: number): void;
}

/** A point that is committed, and not in the image yet. */
export interface CommittedPoint extends PointRecord {
  readonly point: number;
  readonly records: readonly Logged[];
}

export interface ReceiverParts {
  readonly log: ReceiverLog;
  readonly logGeometry: LogGeometry;
  readonly index: TransferIndex;
  readonly applier: PointApplier;
  readonly replay: LogReplay;
  readonly comparer: ImageComparer;
  readonly image: ReceiverImage;
  readonly geometry: BlockGeometry;
  /** In milliseconds since 1970. */
  readonly nowMs: () => number;
}

/** Where it is when it begins: what its log has told. */
export interface ReceiverState {
  readonly last: TransferId;
  /** Committed, and to be applied, in their order. */
  readonly committed: readonly CommittedPoint[];
  readonly lastPoint: number;
  /** The last closed point that the image was brought to, or is being brought away from; 0 for none. */
  readonly lastClosed: number;
  /** The last point whose end the log has; null for none. */
  readonly lastEnd: CommittedPoint | null;
}

/** A point whose list is being received. */
interface Building {
  readonly begin: PointBegin;
  readonly records: Logged[];
  readonly tail: { readonly position: number; readonly link: number };
  checksum: number;
  isWhole: boolean;
}

export interface SourceConnection {
  readonly send: SendFrame;
  readonly incarnation: number;
  /** Of the source, with each closed point that it commits. */
  readonly generation: Generation;
  /** What may differ here from what the source knows of: it is asked for. Runs without data. */
  readonly lacks: readonly PointRun[];
}

export class Receiver {
  readonly #parts: ReceiverParts;
  #connection: SourceConnection | undefined;
  /** What is to be asked for with the first point of the connection. */
  #lacks: readonly PointRun[] = [];
  #received: TransferId;
  #durable: TransferId;
  #lastPoint: number;
  #lastClosed: number;
  /** The last closed point whose end is in the log, committed or not: a source that logs anew does not wait for it. */
  #lastEnded: number;
  /** The last point whose end is in the log, closed or open. */
  #lastEnd: CommittedPoint | null;
  #building: Building | undefined;
  readonly #committed: CommittedPoint[];
  /** Points whose end has come, and is not durable yet. */
  #ending = 0;
  /** Of the connection: what is to be compared. */
  #sums: Sums[] = [];
  /** A point is to be made of the log before this one, when so many of the first sums have been compared; 0 for none. */
  #makeBefore = 0;
  #sumsBefore = 0;
  #isComparing = false;
  #isApplying = false;
  #whenAtRest: () => void = () => undefined;
  #isSyncing = false;
  #hasNews = false;
  /** Of what has come since the last acknowledgement, something is waited for until it is in memory. */
  #isAwaited = false;
  /** By chargeOf, since the connection began: what was promised, and what has come. */
  #granted: Granted = { transferBytes: 0, itemBytes: 0 };
  #taken = { transferBytes: 0, itemBytes: 0 };
  /** Told of each point when it is committed, before the source is. */
  whenCommitted: (point: CommittedPoint) => void = () => undefined;
  /** Told when the log or the image has failed, with a negative errno: nothing goes on from there. */
  whenFailed: (result: number) => void = () => undefined;
  #isFailed = false;

  constructor(parts: ReceiverParts, { last, committed, lastPoint, lastClosed, lastEnd }: ReceiverState) {
    this.#parts = parts;
    this.#received = last;
    this.#durable = last;
    this.#lastPoint = lastPoint;
    this.#lastClosed = lastClosed;
    this.#lastEnded = committed.reduce((last, each) => (each.isClosed ? each.point : last), lastClosed);
    this.#lastEnd = lastEnd;
    this.#committed = [...committed];
    this.#applyNext();
  }

  /** The last transfer that is in the log, with all before it; an acknowledgement tells when it is durable there. */
  get last(): TransferId {
    return this.#received;
  }

  /** The last point whose end is in the log, closed or open; null where the log is new. */
  get lastEnd(): CommittedPoint | null {
    return this.#lastEnd;
  }

  get lastPoint(): number {
    return this.#lastPoint;
  }

  /**
   * Before a source is welcomed: `done` is called when what an earlier one has sent is durable, and the last point and the last
   * transfer are known for that. Fails by whenFailed.
   */
  settle(done: () => void): void {
    this.disconnect();
    this.#parts.log.sync((result) => {
      if (result < 0) this.#fail(result);
      else done();
    });
  }

  /** Begins with a source that was welcomed; what an earlier one has not ended is given up. Gives what is granted. */
  connect(connection: SourceConnection): Granted {
    this.#connection = connection;
    this.#lacks = connection.lacks;
    this.#building = undefined;
    this.#sums = [];
    this.#sumsBefore = 0;
    this.#makeBefore = 0;
    this.#granted = { transferBytes: 0, itemBytes: 0 };
    this.#taken = { transferBytes: 0, itemBytes: 0 };
    // A source that was granted too little to send anything hears how it stands all the same.
    this.#hasNews = true;
    return this.#grant();
  }

  disconnect(): void {
    this.#connection = undefined;
    this.#building = undefined;
    this.#sums = [];
    this.#sumsBefore = 0;
    this.#makeBefore = 0;
  }

  /** Promises what there is room for, beside what is promised already. */
  #grant(): Granted {
    const { log, logGeometry } = this.#parts;
    const owedTransfers = this.#granted.transferBytes - this.#taken.transferBytes;
    const owedItems = this.#granted.itemBytes - this.#taken.itemBytes;
    const { position } = log.head;
    const ring = logGeometry.ringBytes - (position - log.tail.position) - SLACK_BYTES;
    const window = logGeometry.windowBytes - (position - log.durable) - SLACK_BYTES;
    // Half of the window is for items, and a part of the ring: a point never waits for what only a point makes room for.
    const itemsOfRing = logGeometry.ringBytes * ITEMS_SHARE;
    const transfers = Math.min(
      ring - Math.max(itemsOfRing, owedItems),
      window / 2 - Math.max(0, owedItems - window / 2),
    );
    const items = Math.min(itemsOfRing, ring - owedTransfers, window - Math.max(owedTransfers, window / 2));
    this.#granted = {
      transferBytes: this.#taken.transferBytes + Math.max(owedTransfers, wholeCharges(transfers)),
      itemBytes: this.#taken.itemBytes + Math.max(owedItems, wholeCharges(items)),
    };
    return this.#granted;
  }

  /**
   * Takes a frame of the connection, and the CRC-32 of its payload where that is known. Throws EPROTOCOL for what the source may
   * not send: the connection is to be closed then.
   */
  take(type: FrameType, payload: Uint8Array, checksum?: number): void {
    if (this.#connection === undefined) throw new UblkError("EPROTOCOL", "a frame without a connection");
    switch (type) {
      case FRAME.TRANSFER:
        this.#takeTransfer(this.#connection, payload, checksum);
        break;
      case FRAME.POINT_BEGIN:
        this.#takeBegin(this.#connection, payload);
        break;
      case FRAME.POINT_ITEMS:
        this.#takeItems(this.#connection, payload, checksum);
        break;
      case FRAME.POINT_END:
        this.#takeEnd(this.#connection, payload);
        break;
      case FRAME.SUMS:
        this.#takeSums(payload);
        break;
      case FRAME.PING:
        this.#answerPing(this.#connection, decodePing(payload));
        break;
      default:
        throw new UblkError("EPROTOCOL", `a source sends no frame of type ${type} now`);
    }
  }

  /**
   * All of a piece of the stream has been taken: what came is made durable, and acknowledged then; before that as well, where
   * somebody waits for it to be in memory.
   */
  endBatch(): void {
    if (!this.#hasNews) return;
    this.#hasNews = false;
    if (this.#isAwaited) this.#acknowledge();
    this.#sync();
  }

  #acknowledge(): void {
    this.#isAwaited = false;
    if (this.#connection === undefined) return;
    const payload = new Uint8Array(ACK_BYTES);
    encodeAck(payload, {
      received: this.#received,
      durable: this.#durable,
      granted: this.#grant(),
      taken: this.#taken,
      isAtRest: this.#isAtRest,
    });
    this.#connection.send(FRAME.ACK, payload);
  }

  /** Nothing makes room in the log but another point. */
  get #isAtRest(): boolean {
    const { log } = this.#parts;
    return this.#ending === 0 && this.#committed.length === 0 && log.durable >= log.head.position;
  }

  #sync(): void {
    if (this.#isSyncing || this.#isFailed) return;
    this.#isSyncing = true;
    const received = this.#received;
    this.#parts.log.sync((result) => {
      this.#isSyncing = false;
      if (result < 0) {
        this.#fail(result);
        return;
      }
      this.#durable = received;
      this.#acknowledge();
      // What came meanwhile may be durable as well, and is not acknowledged yet.
      if (received !== this.#received || this.#parts.log.durable < this.#parts.log.head.position) this.#sync();
    });
  }

  #fail(result: number): void {
    if (this.#isFailed) return;
    this.#isFailed = true;
    this.whenFailed(result);
  }

  #takeTransfer({ incarnation }: SourceConnection, payload: Uint8Array, checksum?: number): void {
    const { log, index, geometry } = this.#parts;
    const transfer = decodeTransfer(payload, geometry.volumeSectors);
    const id = { incarnation: transfer.incarnation, counter: transfer.number };
    // What is left out the source knows to be lost: frames come in their order, and all of them.
    if (id.incarnation !== incarnation || !isBefore(this.#received, id)) {
      throw new UblkError("EPROTOCOL", `transfer ${textOf(id)} after ${textOf(this.#received)}`);
    }
    this.#taken.transferBytes += chargeOf(payload.length);
    if (this.#taken.transferBytes > this.#granted.transferBytes) throw tooMuch("transfers");
    const place = log.head;
    const position = appended(log.appendTransfer(incarnation, id.counter, payload, checksum));
    const dataSectors = transfer.data.length / SECTOR_BYTES;
    index.add(id, { position, length: payload.length, dataSectors, log: transfer.log, place });
    this.#received = id;
    this.#hasNews = true;
    if (transfer.isAwaited) this.#isAwaited = true;
  }

  #takeBegin({ send }: SourceConnection, payload: Uint8Array): void {
    const begin = decodePointBegin(payload);
    if (begin.point <= this.#lastPoint) {
      throw new UblkError("EPROTOCOL", `wanted a point after ${this.#lastPoint}, found ${begin.point}`);
    }
    if (isBefore(this.#received, begin.cut)) {
      throw new UblkError(
        "EPROTOCOL",
        `point ${begin.point} is up to transfer ${textOf(begin.cut)}, which is not here`,
      );
    }
    const { index, log } = this.#parts;
    // When it is applied, what later points need is all that is needed: what they consist of comes behind this.
    const tail = index.firstAfter(begin.cut)?.place ?? log.head;
    this.#building = { begin, tail, records: [], checksum: 0, isWhole: this.#lacks.length === 0 };
    for (let at = 0; at < this.#lacks.length; at += RUNS_MAX) {
      send(FRAME.NAK, encodeRuns(this.#lacks.slice(at, at + RUNS_MAX)));
    }
    // The image is about to leave what is whole: what the log has behind the last closed point is made one. Sums that came before
    // are those of what the image was, and those that come with this point of what it is then.
    if (!begin.isClosed || this.#lacks.length > 0) this.#makeBefore = begin.point;
    this.#sumsBefore = this.#sums.length;
    this.#lacks = [];
    this.#makeIfDue();
  }

  #makeIfDue(): void {
    if (this.#makeBefore === 0 || this.#sumsBefore > 0) return;
    this.#makePoint(this.#makeBefore);
    this.#makeBefore = 0;
  }

  #takeItems({ incarnation, send }: SourceConnection, payload: Uint8Array, checksum?: number): void {
    const building = this.#building;
    if (building === undefined) throw new UblkError("EPROTOCOL", "items without a point");
    const { log, geometry } = this.#parts;
    const { runs } = decodeItems(payload, geometry);
    const missing = runs.filter((run) => run.kind === RUN_KIND.REFERENCE && !this.#has(incarnation, run));
    this.#taken.itemBytes += chargeOf(payload.length);
    if (this.#taken.itemBytes > this.#granted.itemBytes) throw tooMuch("items");
    building.checksum = crc32(payload, building.checksum);
    if (missing.length > 0) {
      building.isWhole = false;
      send(FRAME.NAK, encodeRuns(missing));
    }
    const position = appended(log.appendPointItems(building.begin.point, payload, checksum));
    building.records.push({ position, length: payload.length });
    // What is not durable holds what could be granted, and nothing else may come before more of it was granted.
    this.#hasNews = true;
  }

  /** Whether the log has all that a run refers to. */
  #has(incarnation: number, run: PointRun): boolean {
    const transfer = this.#parts.index.find({ incarnation, counter: run.transfer });
    return transfer !== undefined && run.place + runSectors(run, this.#parts.geometry) <= transfer.dataSectors;
  }

  #takeEnd({ generation, incarnation }: SourceConnection, payload: Uint8Array): void {
    const building = this.#building;
    const { point, items, checksum } = decodePointEnd(payload);
    if (building?.begin.point !== point)
      throw new UblkError("EPROTOCOL", `the end of point ${point}, which was not begun`);
    if (items !== building.records.length || checksum !== building.checksum) {
      throw new UblkError("EPROTOCOL", `point ${point} has not the items that its end tells of`);
    }
    if (this.#sums.length > 0) {
      throw new UblkError("EPROTOCOL", `the end of point ${point}, while something is being compared`);
    }
    this.#building = undefined;
    const { begin, tail, records, isWhole } = building;
    const { cut, createdMs } = begin;
    const isClosed = begin.isClosed && isWhole;
    // It has become open only now.
    if (!isClosed) this.#makePoint(point);
    // With open points the image is on its way, and nobody knows where: what is here is of the last closed one.
    const of = isClosed ? generation : (this.#lastEnd?.generation ?? NO_GENERATION);
    const what = { cut, lists: records.length, isClosed, isReplay: false, createdMs, generation: of, tail };
    const { log } = begin;
    const next = { incarnation, counter: begin.next };
    this.#end({ ...what, next, log, lastClosed: this.#lastEnded, point, records });
  }

  /** The end of a point, with which it is committed. */
  #end(point: CommittedPoint): void {
    if (point.isClosed) this.#lastEnded = point.point;
    this.#lastEnd = point;
    this.#ending++;
    appended(this.#parts.log.appendPointEnd(point.point, encodePointRecord(point)));
    this.#parts.log.sync((result) => {
      this.#ending--;
      if (result < 0) this.#fail(result);
      else this.#commit(point);
    });
  }

  /**
   * Makes a closed point of the last one, where that is closed, and of what the log has behind it with nothing left out: a
   * moment of the source as well, and a later one. Nothing is done where the log has nothing of that kind, or there is no number
   * for it before that of the next one.
   */
  #makePoint(nextPoint: number): void {
    const last = this.#lastEnd;
    if (last?.isClosed !== true || this.#lastEnded + 1 >= nextPoint) return;
    const cut = this.#parts.index.endOfRun(last.next, last.log);
    if (cut === undefined) return;
    const { generation, tail, log } = last;
    const point = this.#lastEnded + 1;
    const next = { ...cut, counter: cut.counter + 1 };
    const lists = next.counter - last.next.counter;
    const what = { cut, lists, isClosed: true, isReplay: true, createdMs: this.#parts.nowMs(), generation, tail };
    // What it is made of stays: later points may refer to it.
    this.#end({ ...what, next, log, lastClosed: this.#lastEnded, point, records: [] });
  }

  /**
   * Brings the image to the last moment that the log can tell of, behind a source that has gone: a closed point of its own,
   * where there is more than the last one. No source may be connected afterwards, as numbers of points are its own. `done` is
   * called when all that is committed is in the image. Fails by whenFailed.
   */
  finish(done: () => void): void {
    this.settle(() => {
      this.#makePoint(Infinity);
      this.#whenAtRest = done;
      this.#applyNext();
    });
  }

  #takeSums(payload: Uint8Array): void {
    const sums = decodeSums(payload, this.#parts.geometry);
    if (this.#sums.length >= SUMS_AHEAD_MAX) {
      throw new UblkError("EPROTOCOL", `more than ${SUMS_AHEAD_MAX} SUMS without an answer`);
    }
    // The payload's memory is not its own.
    this.#sums.push({ ...sums, sums: sums.sums.slice() });
    this.#compareNext();
  }

  /** Compares when the image is in the last point. */
  #compareNext(): void {
    const [sums] = this.#sums;
    const isBehind = this.#ending > 0 || this.#committed.length > 0;
    if (sums === undefined || this.#isComparing || isBehind || this.#isFailed) return;
    const connection = this.#connection;
    this.#isComparing = true;
    this.#parts.comparer.compare(sums, (differs) => {
      this.#isComparing = false;
      if (connection === this.#connection) {
        this.#sums.shift();
        if (this.#sumsBefore > 0) this.#sumsBefore--;
        this.#makeIfDue();
        connection?.send(FRAME.SUMS_REPLY, encodeSumsReply(sums, differs));
      }
      this.#compareNext();
    });
  }

  #commit(point: CommittedPoint): void {
    this.#lastPoint = point.point;
    this.#committed.push(point);
    this.whenCommitted(point);
    if (this.#connection !== undefined && !point.isReplay) {
      const payload = new Uint8Array(POINT_COMMITTED_BYTES);
      encodePointCommitted(payload, point.point);
      this.#connection.send(FRAME.POINT_COMMITTED, payload);
    }
    this.#applyNext();
  }

  /** Brings the image to the next point that is committed: what it was before is kept first. */
  #applyNext(): void {
    const point = this.#committed[0];
    if (this.#isApplying || this.#isFailed) return;
    if (point === undefined) {
      if (this.#ending > 0) return;
      this.#whenAtRest();
      this.#whenAtRest = () => undefined;
      return;
    }
    this.#isApplying = true;
    const then = (next: () => void) => (result: number) => {
      if (result < 0) this.#fail(result);
      else next();
    };
    const { image, applier, replay, log } = this.#parts;
    const release = then(() => {
      const points = { committed: this.#lastPoint, applied: point.point };
      const applied = then(() => {
        this.#applied(point);
      });
      log.release(point.tail, points, applied);
    });
    const apply = (): void => {
      if (point.isReplay) replay.run(point.cut, point.lists, release);
      else {
        const lists = { incarnation: point.cut.incarnation, lists: point.records, isClosed: point.isClosed };
        applier.apply(lists, release);
      }
    };
    if (this.#lastClosed === 0) apply();
    else image.keep(this.#lastClosed, then(apply));
  }

  #applied(point: CommittedPoint): void {
    const { index, image } = this.#parts;
    this.#isApplying = false;
    this.#committed.shift();
    index.forgetBefore(point.tail.position);
    if (point.isClosed) {
      this.#lastClosed = point.point;
      image.reached(point.point);
    }
    // There is room in the log again.
    this.#acknowledge();
    this.#applyNext();
    this.#compareNext();
  }

  #answerPing({ send }: SourceConnection, token: number): void {
    const payload = new Uint8Array(PING_BYTES);
    encodePing(payload, token);
    send(FRAME.PONG, payload);
  }
}

/** The position of what was appended. There is room for what was granted. */
function appended(position: number): number {
  if (position < 0) throw new UblkError("ELOG", "the log of the receiver has no room for what it has granted");
  return position;
}

function textOf({ incarnation, counter }: TransferId): string {
  return `${incarnation}.${counter}`;
}

function tooMuch(what: string): UblkError {
  return new UblkError("EPROTOCOL", `more ${what} than were granted`);
}

function wholeCharges(bytes: number): number {
  return Math.max(0, bytes - (bytes % chargeOf(0)));
}
