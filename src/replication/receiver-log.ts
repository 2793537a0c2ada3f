/**
 * The log of a receiver on its own disk: transfers as they come, and the lists of consistency points, in a ring of fixed size.
 *
 * Invariants. What is told to be durable is found by every recovery (log-recovery.ts), until it is released. Space is used
 * again only when a superblock with a tail behind it is durable. All is bounded: by the window what is appended and not yet
 * durable, by the ring what is kept; where there is no room, an append is refused and changes nothing.
 *
 * One commit is under way at a time: it writes all that was appended before it began, durably. What is appended meanwhile
 * shares the next. A commit that failed has lost nothing, since memory has all of it until it is durable: the next one writes
 * it again.
 */
import { crc32 } from "node:zlib";
import { OPCODE, RWF_DSYNC } from "../ublk/abi.ts";
import { ERRNO, UblkError } from "../ublk/errors.ts";
import type { CompletionHandler, IoMemory } from "../ublk/io.ts";
import { logPayloadMax, offsetOf, roomAt, type LogGeometry, type LogPlace } from "./log-geometry.ts";
import type { LogIo } from "./log-io.ts";
import { LogReader } from "./log-reader.ts";
import {
  encodeRecordHeader,
  LOG_RECORD,
  lowerHalf,
  RECORD_HEADER_BYTES,
  recordBytes,
  upperHalf,
  type LogRecordKind,
} from "./log-record.ts";
import type { RecoveredLog } from "./log-recovery.ts";
import { LogStateFile } from "./log-state-file.ts";
import type { LastPoints } from "./log-superblock.ts";

/** An append was refused: there is no room in the ring until something is released. */
export const LOG_FULL = -1;
/** An append was refused: the window is full until a commit has ended. */
export const LOG_BUSY = -2;

export class ReceiverLog implements CompletionHandler {
  readonly #geometry: LogGeometry;
  readonly #salt: number;
  readonly #life: number;
  readonly #io: LogIo;
  readonly #file: number;
  readonly #handler: number;
  readonly #state: LogStateFile;
  readonly #reader: LogReader;
  /** The window: a position lies at `position % windowBytes`. */
  readonly #memory: IoMemory;
  readonly #bytes: Uint8Array;
  #head: number;
  #link: number;
  #durable: number;
  /** Of the commit that is under way: how far it goes, and what it waits for. */
  #upTo = 0;
  #isCommitting = false;
  #outstanding = 0;
  #result = 0;
  /** Who waits for the commit that is under way, and for the one after it. */
  #served: ((result: number) => void)[] = [];
  #waiting: ((result: number) => void)[] = [];

  /** `file` is the log's index in the ring. */
  constructor({ superblock, head }: RecoveredLog, io: LogIo, file: number) {
    const { geometry, salt, state } = superblock;
    this.#geometry = geometry;
    this.#salt = salt;
    this.#life = state.life;
    this.#io = io;
    this.#file = file;
    this.#handler = io.addHandler(this);
    this.#state = new LogStateFile(superblock, io, file);
    this.#reader = new LogReader(geometry, salt, io, file);
    this.#memory = io.memory(geometry.windowBytes);
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#head = head.position;
    this.#link = head.link;
    this.#durable = head.position;
  }

  /** Where the next record goes. Right after the end of a point was appended, it is what that point lets the tail move to. */
  get head(): LogPlace {
    return { position: this.#head, link: this.#link };
  }

  /** The first record that is kept. */
  get tail(): LogPlace {
    return this.#state.durable.tail;
  }

  /** All before this position is durable. */
  get durable(): number {
    return this.#durable;
  }

  /** Something is lost that had been durable, from this position on; 0 for nothing. */
  get lostFrom(): number {
    return this.#state.durable.lostFrom;
  }

  /** The last points that a durable superblock tells of. */
  get points(): LastPoints {
    const { committed, applied } = this.#state.durable;
    return { committed, applied };
  }

  /**
   * Appends a transfer, copying its payload, whose CRC-32 may be known already. Returns its position, or LOG_FULL or LOG_BUSY.
   * Throws ESIZE.
   */
  appendTransfer(incarnation: number, counter: number, payload: Uint8Array, checksum?: number): number {
    return this.#append(LOG_RECORD.TRANSFER, incarnation, counter, payload, checksum);
  }

  /** Appends a part of the list of a point, as `appendTransfer`. */
  appendPointItems(point: number, payload: Uint8Array, checksum?: number): number {
    return this.#append(LOG_RECORD.POINT_ITEMS, upperHalf(point), lowerHalf(point), payload, checksum);
  }

  /** Appends the end of the list of a point, as `appendTransfer`: when it is durable, the point is committed. */
  appendPointEnd(point: number, payload: Uint8Array): number {
    return this.#append(LOG_RECORD.POINT_END, upperHalf(point), lowerHalf(point), payload);
  }

  #append(kind: LogRecordKind, high: number, low: number, payload: Uint8Array, checksum = crc32(payload)): number {
    const { sectorBytes, windowBytes } = this.#geometry;
    const { length } = payload;
    const max = logPayloadMax(this.#geometry);
    if (length > max) throw new UblkError("ESIZE", `A record of the log has room for ${max} bytes, not ${length}`);
    const bytes = recordBytes(length, sectorBytes);
    const position = this.#head;
    if (bytes > roomAt(this.#geometry, this.tail.position, position)) return LOG_FULL;
    if (position + bytes - this.#durable > windowBytes) return LOG_BUSY;
    const header = {
      position,
      life: this.#life,
      link: this.#link,
      kind,
      length,
      high,
      low,
      durable: this.#durable,
      payloadChecksum: checksum,
    };
    // A sector holds a header whole, so it does not reach over the end of the window.
    const at = position % windowBytes;
    this.#link = encodeRecordHeader(this.#bytes.subarray(at, at + RECORD_HEADER_BYTES), this.#salt, header);
    this.#copy(payload, at + RECORD_HEADER_BYTES);
    // The zeros behind the payload are of its last sector, so they do not reach over it either.
    const zeros = bytes - RECORD_HEADER_BYTES - length;
    const zerosAt = (position + bytes - zeros) % windowBytes;
    this.#bytes.fill(0, zerosAt, zerosAt + zeros);
    this.#head = position + bytes;
    return position;
  }

  /** Copies a payload to the window, which begins again at its end. */
  #copy(payload: Uint8Array, at: number): void {
    const first = Math.min(payload.length, this.#geometry.windowBytes - at);
    this.#bytes.set(payload.subarray(0, first), at);
    this.#bytes.set(payload.subarray(first), 0);
  }

  /**
   * `done` is called once: with 0 when all that has been appended by now is durable, or with a negative errno when nobody knows
   * how much of it is: whoever still wants it asks again.
   */
  sync(done: (result: number) => void): void {
    this.#waiting.push(done);
    if (!this.#isCommitting) this.#commit();
  }

  #commit(): void {
    this.#served = this.#waiting;
    this.#waiting = [];
    this.#upTo = this.#head;
    this.#isCommitting = true;
    this.#result = 0;
    this.#outstanding = 1;
    const { windowBytes } = this.#geometry;
    for (let from = this.#durable; from < this.#upTo;) {
      // The ring is made of whole windows: where it begins again, the window does.
      const length = Math.min(this.#upTo - from, windowBytes - (from % windowBytes));
      this.#write(from, length);
      from += length;
    }
    this.#settle();
  }

  #write(position: number, length: number): void {
    this.#outstanding++;
    const address = this.#memory.address + (position % this.#geometry.windowBytes);
    const offset = offsetOf(this.#geometry, position);
    this.#io.transfer(OPCODE.WRITE, this.#file, offset, address, length, RWF_DSYNC, this.#handler, length);
  }

  /** `length` is that of the write, by which a short one is known: what it left out is not written. */
  completed(length: number, result: number): void {
    if (result !== length) this.#result = result < 0 ? result : -ERRNO.EIO;
    this.#settle();
  }

  #settle(): void {
    if (--this.#outstanding > 0) return;
    if (this.#result === 0) this.#durable = this.#upTo;
    this.#isCommitting = false;
    const served = this.#served;
    this.#served = [];
    for (const done of served) done(this.#result);
    if (this.#waiting.length > 0 && !this.isCommitting) this.#commit();
  }

  get isCommitting(): boolean {
    return this.#isCommitting;
  }

  /**
   * Gives up what is before `tail`, which must be where a durable record begins, or the head: points up to `applied` need
   * nothing of it. `done` is called once: with 0 when that is durable, and there is room, or with a negative errno.
   * Throws ERANGE.
   */
  release(tail: LogPlace, points: LastPoints, done: (result: number) => void): void {
    const { wanted } = this.#state;
    if (tail.position < wanted.tail.position || tail.position > this.#durable) {
      const range = `${wanted.tail.position} to ${this.#durable}`;
      throw new UblkError("ERANGE", `The tail of the log can move within ${range}, not to ${tail.position}`);
    }
    const lostFrom = tail.position > wanted.lostFrom ? 0 : wanted.lostFrom;
    const { committed, applied } = points;
    this.#state.save({ life: this.#life, tail, durable: this.#durable, committed, applied, lostFrom }, done);
  }

  /**
   * Reads a durable record with `length` bytes of payload to `at`, a multiple of the sector, of a memory that has room for all
   * of it (`recordBytes`); its payload begins 64 bytes behind `at`. `done` is called once: with 0, with -EBADMSG where the record is damaged, or with
   * the negative errno of the read. Throws ERANGE for a position that is released, or is not durable.
   */
  read(position: number, length: number, memory: IoMemory, at: number, done: (result: number) => void): void {
    const end = position + recordBytes(length, this.#geometry.sectorBytes);
    if (position < this.tail.position || end > this.#durable) {
      const range = `${this.tail.position} to ${this.#durable}`;
      throw new UblkError("ERANGE", `Records ${range} of the log can be read, not ${position} to ${end}`);
    }
    this.#reader.read(position, length, memory, at, done);
  }
}
