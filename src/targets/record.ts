/**
 * Holds every write until the record covers it, and then lets it through.
 *
 * Invariants. R1: nothing that changes the store is passed on before all its chunks are durably in the record. R3: what is
 * covered is passed on at once. Reads and flushes are never held: a held write has not been acknowledged, so no flush has
 * to wait for it. Writes that are held at the end of a batch share one update of the record, oldest first; one that finds
 * no room waits, and those behind it, until the remote has caught up. Where chunks could leave the record if the store were
 * flushed, a flush of our own is sent, one at a time. A write whose update failed is answered with its errno, and the
 * store is untouched.
 */
import type { Drain } from "../nvram/drain.ts";
import { COUNT } from "../nvram/record-counts.ts";
import type { PredictiveRecord } from "../nvram/record.ts";
import type { Io } from "../ublk/io.ts";
import { Operation, Request, type Layer } from "../ublk/request.ts";
import type { Target, TargetContext } from "../ublk/target.ts";

export class RecordTarget implements Target, Layer {
  readonly #record: PredictiveRecord;
  readonly #drain: Drain;
  /** The size of a chunk is a power of two, and its inverse exact. */
  readonly #chunksPerByte: number;
  readonly #next: Target;
  /** Writes that are held, oldest first. */
  readonly #held: Request[];
  /** Flushes of our own, after which more chunks may leave the record. */
  readonly #flush: Request;
  #flushing = false;
  #flushResult = 0;
  /** First and last chunk of a write, by its slot. */
  readonly #firsts: Int32Array;
  readonly #lasts: Int32Array;
  /** The flush period of a flush, by its slot. */
  readonly #periods: Uint16Array;
  readonly #io: Io;
  #heldCount = 0;
  /** How many of them, from the first on, wait for the update that is under way. */
  #wanted = 0;

  constructor(record: PredictiveRecord, drain: Drain, chunkBytes: number, next: Target, context: TargetContext) {
    this.#record = record;
    this.#drain = drain;
    this.#chunksPerByte = 1 / chunkBytes;
    this.#next = next;
    this.#held = new Array<Request>(context.depth);
    this.#flush = new Request(context.depth, new Uint8Array(0), 0);
    this.#flush.operation = Operation.FLUSH;
    this.#firsts = new Int32Array(context.depth);
    this.#lasts = new Int32Array(context.depth);
    this.#periods = new Uint16Array(context.depth + 1);
    this.#io = context.ring;
    record.whenUpdated((result) => this.#updated(result));
    context.afterBatch(() => {
      this.#update();
      record.shrink();
      if (!this.#flushing && record.takeFlushWish()) this.#startFlush();
    });
  }

  submit(request: Request): void {
    if (request.operation === Operation.READ) {
      this.#next.submit(request);
      return;
    }
    if (request.operation === Operation.FLUSH) {
      this.#periods[request.slot] = this.#record.places.beginFlush();
      request.pass(this.#next, this);
      return;
    }
    this.#record.counts.add(COUNT.writes);
    this.#firsts[request.slot] = request.offset * this.#chunksPerByte;
    this.#lasts[request.slot] = (request.offset + request.length - 1) * this.#chunksPerByte;
    if (this.#record.admits(this.#first(request), this.#last(request))) {
      this.#issue(request);
      return;
    }
    this.#record.counts.add(COUNT.held);
    this.#held[this.#heldCount++] = request;
  }

  #first(request: Request): number {
    return this.#firsts[request.slot] as number;
  }

  #last(request: Request): number {
    return this.#lasts[request.slot] as number;
  }

  #issue(request: Request): void {
    this.#record.places.beginWrite(this.#first(request), this.#last(request));
    request.pass(this.#next, this);
  }

  answered(request: Request, result: number): void {
    if (request.operation === Operation.FLUSH) {
      if (result === 0) this.#record.places.endFlush(this.#periods[request.slot] as number);
      if (request !== this.#flush) request.answer(result);
      else this.#flushed(result);
      return;
    }
    const first = this.#first(request);
    const last = this.#last(request);
    this.#record.places.endWrite(first, last);
    this.#drain.written(first, last);
    request.answer(result);
  }

  /** Wants as many of the held writes as there is room for, and starts their update. */
  #update(): void {
    const record = this.#record;
    if (this.#heldCount === 0 || record.isUpdating) return;
    this.#release(0, 0);
    this.#wanted = 0;
    while (this.#wanted < this.#heldCount) {
      const request = this.#held[this.#wanted] as Request;
      if (!record.want(this.#first(request), this.#last(request))) break;
      record.places.pin(this.#first(request), this.#last(request));
      this.#wanted++;
    }
    if (this.#wanted < this.#heldCount) this.#stall();
    record.update();
  }

  #startFlush(): void {
    this.#flushing = true;
    this.#record.counts.add(COUNT.flushes);
    this.submit(this.#flush);
  }

  #flushed(result: number): void {
    this.#flushing = false;
    this.#flushResult = result;
  }

  /** Some writes found no room. Where that is so because a flush failed they fail as well, rather than wait for ever. */
  #stall(): void {
    this.#record.counts.add(COUNT.stalls);
    if (this.#flushResult === 0) return;
    for (let index = this.#wanted; index < this.#heldCount; index++)
      (this.#held[index] as Request).answer(this.#flushResult);
    this.#heldCount = this.#wanted;
    this.#flushResult = 0;
  }

  #updated(result: number): void {
    const wanted = this.#wanted;
    this.#wanted = 0;
    this.#release(wanted, result);
  }

  /** Lets through what is covered by now. Of the first `wanted`, those that are not are answered with `result`. */
  #release(wanted: number, result: number): void {
    const count = this.#heldCount;
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const request = this.#held[index] as Request;
      if (index < wanted) this.#record.places.unpin(this.#first(request), this.#last(request));
      if (this.#record.admits(this.#first(request), this.#last(request))) this.#issue(request);
      else if (index < wanted && result !== 0) request.answer(result);
      else this.#held[kept++] = request;
    }
    this.#heldCount = kept;
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  /** A clean end leaves in the record what is owed, and nothing else. */
  close(): void {
    this.#io.waitUntil(() => !this.#flushing);
    this.#startFlush();
    this.#io.waitUntil(() => !this.#flushing && !this.#record.isUpdating);
    this.#record.retire();
    this.#io.waitUntil(() => !this.#record.isUpdating);
    this.#next.close?.();
  }
}
