/**
 * Reads the volume as it was at a point: what was overwritten since from the store, all else from the volume.
 *
 * Invariant: what is read from the volume counts only if the map has no version of it when the read has ended. An overwrite
 * reaches the volume after its version is in the map; so what has none yet had not been overwritten while it was read.
 */
import { crc32 } from "node:zlib";
import { OPCODE } from "../../ublk/abi.ts";
import { ERRNO } from "../../ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../../ublk/io.ts";
import { Operation, Request, type Layer, type Submission } from "../../ublk/request.ts";
import type { Target, TargetContext } from "../../ublk/target.ts";
import type { ByteRange } from "./byte-range.ts";
import type { OriginalStore } from "./original-store.ts";
import type { Points } from "./points.ts";
import { ENTRY_FLAG } from "./table-sector.ts";
import type { Tuning } from "./tuning.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** A request on its way. */
interface Job {
  readonly request: Request;
  readonly epoch: number;
  /** How much of it has been given to pieces. */
  given: number;
  /** Pieces that have not ended. */
  pieces: number;
  result: number;
}

/** A part of a request that is being read, one run of blocks after another. */
class Piece {
  readonly index: number;
  readonly memory: IoMemory;
  readonly bytes: Uint8Array;
  /** For reads of the volume. */
  readonly request: Request;
  job: Job | undefined;
  /** Where in the volume it goes on, and where it ends. */
  offset = 0;
  end = 0;
  /** The run that is being read: from `offset` on; of the store, its slot. */
  runBytes = 0;
  slot = 0;

  constructor(index: number, bytes: number, io: Io, slot: number) {
    this.index = index;
    this.memory = io.memory(bytes);
    this.bytes = new Uint8Array(this.memory.buffer, 0, bytes);
    this.request = new Request(slot, this.bytes, this.memory.address);
    this.request.operation = Operation.READ;
  }
}

export interface ReaderParts {
  readonly store: OriginalStore;
  readonly map: VersionMap;
  readonly points: Points;
  readonly next: Submission;
  readonly tuning: Tuning;
  /** The first of its slots in `next`. */
  readonly firstSlot: number;
}

export class PointReader implements Layer, CompletionHandler {
  readonly #parts: ReaderParts;
  readonly #io: Io;
  readonly #handler: number;
  readonly #blockBytes: number;
  readonly #pieceBytes: number;
  readonly #pieces: readonly Piece[];
  readonly #idle: Piece[];
  /** Requests of which something has not been given to a piece yet, oldest first. */
  readonly #waiting: Job[] = [];

  constructor(parts: ReaderParts, context: TargetContext) {
    this.#parts = parts;
    this.#io = context.ring;
    this.#handler = context.ring.addHandler(this);
    this.#blockBytes = parts.store.layout.geometry.blockBytes;
    this.#pieceBytes = parts.tuning.pieceBytes;
    this.#pieces = Array.from(
      { length: parts.tuning.pieces },
      (_, index) => new Piece(index, this.#pieceBytes, context.ring, parts.firstSlot + index),
    );
    this.#idle = [...this.#pieces];
  }

  get isIdle(): boolean {
    return this.#idle.length === this.#pieces.length && this.#waiting.length === 0;
  }

  /** The volume as it was at a point; read-only. Requests in it are within the size that it had then. */
  view(epoch: number): Target {
    return { submit: (request) => this.#submit(request, epoch) };
  }

  /**
   * Reads what a point shows in some ranges into shared memory, one behind the other. `done` is called with 0 or a negative
   * errno.
   */
  readRanges(
    epoch: number,
    ranges: readonly ByteRange[],
    into: SharedArrayBuffer,
    done: (error: number) => void,
  ): void {
    const view = this.view(epoch);
    let missing = ranges.length;
    let error = 0;
    const answered = (_: Request, result: number): void => {
      if (result < 0) error = result;
      if (--missing === 0) done(error);
    };
    let at = 0;
    for (const { offset, length } of ranges) {
      // Bytes are copied into the request's buffer: it needs no address.
      const request = new Request(0, new Uint8Array(into, at, length), 0);
      request.operation = Operation.READ;
      request.offset = offset;
      request.length = length;
      request.pass(view, { answered });
      at += length;
    }
  }

  #submit(request: Request, epoch: number): void {
    if (request.operation === Operation.FLUSH) request.succeed();
    else if (request.operation !== Operation.READ) request.answer(-ERRNO.EPERM);
    else {
      this.#waiting.push({ request, epoch, given: 0, pieces: 0, result: 0 });
      this.#pump();
    }
  }

  #pump(): void {
    for (let job = this.#waiting[0]; job !== undefined && this.#idle.length > 0; job = this.#waiting[0]) {
      const piece = this.#idle.pop() as Piece;
      const from = job.request.offset + job.given;
      const upTo = Math.min(
        job.request.offset + job.request.length,
        // Pieces end where blocks end, so that no block is read twice.
        (Math.floor(from / this.#pieceBytes) + 1) * this.#pieceBytes,
      );
      piece.job = job;
      piece.offset = from;
      piece.end = upTo;
      job.given += upTo - from;
      job.pieces++;
      if (job.given === job.request.length) this.#waiting.shift();
      this.#proceed(piece);
    }
  }

  /** Reads the next run of a piece, or ends it. */
  #proceed(piece: Piece): void {
    const job = piece.job as Job;
    if (piece.offset === piece.end || job.result !== 0) {
      this.#end(piece, job);
      return;
    }
    if (!this.#parts.points.isKept(job.epoch)) {
      job.result = -ERRNO.EIO;
      this.#end(piece, job);
      return;
    }
    const version = this.#version(piece.offset, job);
    if (version === NONE) this.#readVolume(piece, job);
    else this.#readStore(piece, job, version);
  }

  #version(offset: number, { epoch }: Job): number {
    return this.#parts.map.find(Math.floor(offset / this.#blockBytes), epoch);
  }

  #blockEnd(offset: number): number {
    return (Math.floor(offset / this.#blockBytes) + 1) * this.#blockBytes;
  }

  #readVolume(piece: Piece, job: Job): void {
    let end = this.#blockEnd(piece.offset);
    while (end < piece.end && this.#version(end, job) === NONE) end += this.#blockBytes;
    piece.runBytes = Math.min(end, piece.end) - piece.offset;
    piece.request.offset = piece.offset;
    piece.request.length = piece.runBytes;
    piece.request.pass(this.#parts.next, this);
  }

  /** Reads one block whole, so that its checksum tells whether it is what was written. */
  #readStore(piece: Piece, job: Job, version: number): void {
    const { map, store } = this.#parts;
    if ((map.flags(version) & ENTRY_FLAG.LOST) !== 0) {
      job.result = -ERRNO.EIO;
      this.#end(piece, job);
      return;
    }
    const slot = map.slot(version);
    piece.runBytes = Math.min(this.#blockEnd(piece.offset), piece.end) - piece.offset;
    piece.slot = slot;
    this.#io.transfer(
      OPCODE.READ,
      store.file,
      store.layout.slotOffset(slot),
      piece.memory.address,
      this.#blockBytes,
      0,
      this.#handler,
      piece.index,
    );
  }

  /** A read of the volume has ended. */
  answered(request: Request, result: number): void {
    const piece = this.#pieces[request.slot - this.#parts.firstSlot] as Piece;
    const job = piece.job as Job;
    if (result < 0 || !this.#parts.points.isKept(job.epoch)) {
      job.result = result < 0 ? result : -ERRNO.EIO;
      this.#end(piece, job);
      return;
    }
    // Only what is still not overwritten counts; the rest is in the store by now.
    let end = piece.offset;
    while (end < piece.offset + piece.runBytes && this.#version(end, job) === NONE) end = this.#blockEnd(end);
    const good = Math.min(end, piece.offset + piece.runBytes) - piece.offset;
    this.#deliver(piece, job, 0, good);
    this.#proceed(piece);
  }

  /** A read of the store has ended. */
  completed(index: number, result: number): void {
    const piece = this.#pieces[index] as Piece;
    const job = piece.job as Job;
    const { map } = this.#parts;
    const version = this.#version(piece.offset, job);
    // What has been moved within the store, or dropped, may have been overwritten while it was read: it is looked for again.
    if (version !== NONE && map.slot(version) === piece.slot) {
      const isWhole =
        result === this.#blockBytes && crc32(piece.bytes.subarray(0, this.#blockBytes)) === map.checksum(version);
      if (isWhole) this.#deliver(piece, job, piece.offset % this.#blockBytes, piece.runBytes);
      else job.result = result < 0 ? result : -ERRNO.EIO;
    }
    this.#proceed(piece);
  }

  #deliver(piece: Piece, { request }: Job, from: number, length: number): void {
    request.buffer.set(piece.bytes.subarray(from, from + length), piece.offset - request.offset);
    piece.offset += length;
  }

  #end(piece: Piece, job: Job): void {
    piece.job = undefined;
    this.#idle.push(piece);
    job.pieces--;
    const isAllGiven = job.given === job.request.length;
    if (job.pieces === 0 && (isAllGiven || job.result !== 0)) {
      if (!isAllGiven) this.#waiting.splice(this.#waiting.indexOf(job), 1);
      job.request.answer(job.result === 0 ? job.request.length : job.result);
    }
    this.#pump();
  }
}
