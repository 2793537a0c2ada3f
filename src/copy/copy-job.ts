/**
 * Copies a volume as it was at a point, segment by segment, while its host goes on writing.
 *
 * Invariants. A segment is passed (its originals are not kept any more) only when it is durable at the destination, and that
 * it is so is durable in the journal: whatever dies, the job goes on from its journal and never wants back what it has passed.
 * A destination that is slow or stands still holds the job and nobody else: at most BUFFERS segments wait for it.
 */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { HeatMap } from "../targets/cow/heat.ts";
import { Pace } from "./pace.ts";
import { SegmentList, type CopyOrder, type Run, type Segment } from "./segment-list.ts";

/** Segments in memory at once: some are read while one is written. */
const BUFFERS = 4;
/** Bytes that are written between two barriers: so much is copied again after a crash, and is kept aside longer. */
const SYNC_BYTES = 32 * 2 ** 20;
/** The same while the job waits for its pace: a barrier costs it nothing then. */
const WAITING_SYNC_BYTES = 4 * 2 ** 20;
/** What was written waits no longer for its barrier: a slow job passes its segments, and hears of a destination that fails. */
const SYNC_MS = 10_000;
/** Hot segments are looked for again each time that this part of the volume has been copied. */
const REORDER_SHARE = 1 / 16;

/** What a copy of a volume can be in the units of is known by the bits of its journal: at most so many. */
const UNITS_MAX = 2 ** 22;

/** Bytes of the units in which it is known what is copied: blocks of the volume, as many as there is room for. */
export function unitBytesFor(volumeBytes: number, blockBytes: number): number {
  return Math.max(blockBytes, 2 ** Math.ceil(Math.log2(volumeBytes / UNITS_MAX)));
}

/** Undefined where it succeeded. */
export type Ended = (error: Error | undefined) => void;

/** A point of a volume. */
export interface CopySource {
  /** Reads what the point shows into shared memory, one range behind the other. */
  read(ranges: readonly ByteRange[], into: SharedArrayBuffer, ended: Ended): void;
  /** What lies there will not be read again. */
  pass(ranges: readonly ByteRange[]): void;
  heat(found: (heat: HeatMap) => void): void;
}

export interface CopyDestination {
  /** One write or sync at a time. `ended` is never called before this returns: nor by the others. */
  write(offset: number, bytes: Uint8Array, ended: Ended): void;
  /** What was written is durable. */
  sync(ended: Ended): void;
  /** All of it is written and durable: whatever is to stand at its end follows. */
  finish(ended: Ended): void;
}

export interface CopyJournal {
  /** Durably notes which units are copied: a bit each. */
  save(copied: Uint8Array, ended: Ended): void;
}

export interface CopyClock {
  nowMs(): number;
  after(ms: number, then: () => void): void;
}

export interface CopyPlan {
  readonly volumeBytes: number;
  /** Bytes of a unit: what is copied is known by the unit. */
  readonly unitBytes: number;
  /** At most so much is read and written at once: a power of two, at least a unit. */
  readonly segmentBytes: number;
  readonly order: CopyOrder;
  readonly bytesPerSecond: number | null;
  /** What an earlier process has copied; undefined for a new job. */
  readonly copied: Uint8Array | undefined;
}

export interface CopyParts {
  readonly source: CopySource;
  readonly destinations: readonly CopyDestination[];
  readonly journal: CopyJournal;
  readonly clock: CopyClock;
}

/** "failed" may go on when its reason is mended. "over": complete, or cancelled. */
export type CopyState = "running" | "paused" | "failed" | "complete" | "cancelled";

/** A segment in memory. */
interface Held {
  readonly shared: SharedArrayBuffer;
  readonly segment: Segment;
}

export class CopyJob {
  readonly #plan: CopyPlan;
  readonly #parts: CopyParts;
  readonly #list: SegmentList;
  readonly #pace: Pace;
  readonly #idle: SharedArrayBuffer[];
  /** Segments that have been read, in that order. */
  readonly #read: Held[] = [];
  /** Written, but not known to be durable. */
  #written: Segment[] = [];
  #writtenUnits = 0;
  /** When the oldest of it was written. */
  #writtenAtMs = 0;
  #reading = 0;
  #isStoring = false;
  #isWaiting = false;
  #state: CopyState = "running";
  #error: Error | undefined;
  #reorderAt = 0;
  /** Told once, when all of it is durable. */
  whenComplete: () => void = () => undefined;
  /** Told when it fails; `resume` goes on. */
  whenFailed: (error: Error) => void = () => undefined;

  constructor(plan: CopyPlan, parts: CopyParts) {
    const units = Math.ceil(plan.volumeBytes / plan.unitBytes);
    this.#plan = plan;
    this.#parts = parts;
    this.#list = new SegmentList(units, plan.copied);
    this.#pace = new Pace(plan.bytesPerSecond, parts.clock.nowMs());
    this.#idle = Array.from({ length: BUFFERS }, () => new SharedArrayBuffer(plan.segmentBytes));
  }

  get state(): CopyState {
    return this.#state;
  }

  /** Why it failed. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** The source has been asked, and has not answered. */
  get isReading(): boolean {
    return this.#reading > 0;
  }

  /** What is durable at the destination. */
  get copiedBytes(): number {
    return Math.min(this.#list.copiedUnits * this.#plan.unitBytes, this.#plan.volumeBytes);
  }

  get bytesPerSecond(): number | null {
    return this.#pace.bytesPerSecond;
  }

  /** What is still to be copied, in bytes; at most `most` ranges. */
  toCopy(most: number): ByteRange[] {
    return this.#rangesOf(this.#list.toCopy(most));
  }

  #rangesOf(segment: Segment): ByteRange[] {
    return segment.map((run) => this.#bytesOf(run));
  }

  #bytesOf({ first, end }: Run): ByteRange {
    const { unitBytes, volumeBytes } = this.#plan;
    const offset = first * unitBytes;
    return { offset, length: Math.min(end * unitBytes, volumeBytes) - offset };
  }

  /** Begins, or goes on from what an earlier process has copied: the source is told of that first. */
  start(): void {
    this.#passAll();
    this.#go();
  }

  #passAll(): void {
    const copied: Run[] = [];
    let first = 0;
    for (const range of [...this.#list.toCopy(Infinity), { first: this.#list.units, end: 0 }]) {
      if (range.first > first) copied.push({ first, end: range.first });
      first = range.end;
    }
    if (copied.length > 0) this.#pass(copied);
  }

  #pass(segment: Segment): void {
    this.#parts.source.pass(this.#rangesOf(segment));
  }

  /** What was begun is written; nothing else is. */
  pause(): void {
    if (this.#state === "running") this.#state = "paused";
    this.#go();
  }

  /** Goes on after a pause, or after a failure whose reason is mended. */
  resume(): void {
    if (this.#state !== "paused" && this.#state !== "failed") return;
    this.#state = "running";
    this.#error = undefined;
    this.#go();
  }

  /** Nothing is written any more from now on, except what is being written. */
  cancel(): void {
    if (this.#state !== "complete") this.#state = "cancelled";
  }

  limit(bytesPerSecond: number | null): void {
    this.#pace.limit(bytesPerSecond, this.#parts.clock.nowMs());
  }

  /** Units that hold any of these bytes come next. */
  prioritize(offset: number, length: number): void {
    const { unitBytes } = this.#plan;
    this.#list.want({ first: Math.floor(offset / unitBytes), end: Math.ceil((offset + length) / unitBytes) });
  }

  #fail(error: Error): void {
    if (this.#state === "cancelled") return;
    this.#state = "failed";
    this.#error = error;
    this.whenFailed(error);
  }

  #go(): void {
    if (this.#plan.order === "hot-first" && this.#list.copiedUnits >= this.#reorderAt && this.#state === "running") {
      this.#reorderAt = this.#list.copiedUnits + Math.max(1, this.#list.units * REORDER_SHARE);
      this.#parts.source.heat((heat) => {
        this.#list.orderByHeat(heat, this.#plan.unitBytes);
        this.#readAhead();
      });
    } else this.#readAhead();
    this.#store();
  }

  #readAhead(): void {
    const { segmentBytes, unitBytes } = this.#plan;
    while (this.#state === "running" && this.#idle.length > 0 && !this.#isWaiting) {
      const segment = this.#list.next(segmentBytes / unitBytes);
      if (segment.length === 0) return;
      const waitMs = this.#pace.take(unitsOf(segment) * unitBytes, this.#parts.clock.nowMs());
      if (waitMs > 0) {
        this.#list.giveBack(segment);
        this.#waitFor(waitMs);
      } else this.#readSegment({ shared: this.#idle.pop() as SharedArrayBuffer, segment });
    }
  }

  #waitFor(ms: number): void {
    this.#isWaiting = true;
    this.#parts.clock.after(ms, () => {
      this.#isWaiting = false;
      this.#readAhead();
    });
  }

  #readSegment(held: Held): void {
    this.#reading++;
    this.#parts.source.read(this.#rangesOf(held.segment), held.shared, (error) => {
      this.#reading--;
      if (error === undefined) this.#read.push(held);
      else {
        this.#idle.push(held.shared);
        this.#list.giveBack(held.segment);
        this.#fail(error);
      }
      this.#store();
    });
  }

  /** Writes what has been read, or makes durable what has been written: one thing at a time. */
  #store(): void {
    if (this.#isStoring || this.#state === "cancelled") return;
    const held = this.#read[0];
    if (held !== undefined && this.#state !== "failed") {
      this.#isStoring = true;
      this.#write(held, 0, 0, 0);
    } else if (this.#isSyncDue) {
      this.#isStoring = true;
      this.#sync(this.#written, 0);
    } else if (this.#list.isComplete && this.#state === "running") {
      this.#isStoring = true;
      this.#finish(0);
    }
  }

  #finish(at: number): void {
    const destination = this.#parts.destinations[at];
    if (destination === undefined) {
      this.#state = "complete";
      this.whenComplete();
      return;
    }
    destination.finish((error) => {
      if (error === undefined) this.#finish(at + 1);
      else this.#storeFailed(error);
    });
  }

  get #isSyncDue(): boolean {
    if (this.#written.length === 0 || this.#state === "failed") return false;
    const bytes = this.#writtenUnits * this.#plan.unitBytes;
    if (bytes >= SYNC_BYTES || (this.#isWaiting && bytes >= WAITING_SYNC_BYTES)) return true;
    if (this.#parts.clock.nowMs() - this.#writtenAtMs >= SYNC_MS) return true;
    const isAllWritten = this.#list.copiedUnits + this.#writtenUnits === this.#list.units;
    return isAllWritten || (this.#state === "paused" && this.#reading === 0);
  }

  /** Run by run, whose bytes begin at `from`, to one destination after the other. */
  #write(held: Held, to: number, index: number, from: number): void {
    const { shared, segment } = held;
    const destination = this.#parts.destinations[to];
    const run = segment[index];
    if (destination === undefined) {
      this.#read.shift();
      this.#idle.push(shared);
      if (this.#written.length === 0) this.#writtenAtMs = this.#parts.clock.nowMs();
      this.#written.push(segment);
      this.#writtenUnits += unitsOf(segment);
      this.#stored();
      return;
    }
    if (run === undefined) {
      this.#write(held, to + 1, 0, 0);
      return;
    }
    const { offset, length } = this.#bytesOf(run);
    destination.write(offset, new Uint8Array(shared, from, length), (error) => {
      if (error === undefined) this.#write(held, to, index + 1, from + length);
      else this.#storeFailed(error);
    });
  }

  #sync(written: readonly Segment[], at: number): void {
    const destination = this.#parts.destinations[at];
    if (destination === undefined) {
      this.#save(written);
      return;
    }
    destination.sync((error) => {
      if (error === undefined) this.#sync(written, at + 1);
      else this.#writtenForNothing(written, error);
    });
  }

  #save(written: readonly Segment[]): void {
    for (const segment of written) this.#list.end(segment);
    this.#writtenUnits = 0;
    this.#parts.journal.save(this.#list.copied, (error) => {
      if (error !== undefined) {
        this.#writtenForNothing(written, error);
        return;
      }
      if (this.#state === "cancelled") return;
      this.#written = [];
      for (const segment of written) this.#pass(segment);
      this.#stored();
    });
  }

  /** Nobody knows what of it is there, or a later process would not know: all of it is written anew. */
  #writtenForNothing(written: readonly Segment[], error: Error): void {
    for (const segment of written) this.#list.giveBack(segment);
    this.#written = [];
    this.#writtenUnits = 0;
    this.#storeFailed(error);
  }

  #stored(): void {
    this.#isStoring = false;
    this.#go();
  }

  #storeFailed(error: Error): void {
    this.#isStoring = false;
    this.#fail(error);
  }
}

function unitsOf(segment: Segment): number {
  return segment.reduce((sum, { first, end }) => sum + end - first, 0);
}
