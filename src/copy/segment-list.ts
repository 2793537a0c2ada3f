/**
 * The segments of a copy that are still to be copied, and which comes next.
 *
 * Invariant: each segment is given out once, and again only after it was given back. What was asked for by hand comes before
 * everything else, in the order of asking.
 */
import type { HeatMap } from "../targets/cow/heat.ts";

/** "linear": from the first on. "hot-first": what is written to most first, so that it need not be moved aside. */
export const COPY_ORDERS = ["linear", "hot-first"] as const;
export type CopyOrder = (typeof COPY_ORDERS)[number];

const State = { TO_COPY: 0, UNDER_WAY: 1, COPIED: 2 } as const;

/** Segments from `first` to before `end`. */
export interface SegmentRange {
  readonly first: number;
  readonly end: number;
}

export class SegmentList {
  readonly segments: number;
  readonly #states: Uint8Array;
  #copied = 0;
  /** Those asked for by hand; `first` moves on. */
  #wanted: { first: number; readonly end: number }[] = [];
  /** The order of all others; undefined for the linear one. */
  #order: Uint32Array | undefined;
  /** How many of that order have been looked at. */
  #at = 0;

  /** `copied` has a bit for each segment that has been copied before: see `copied`. */
  constructor(segments: number, copied: Uint8Array | undefined) {
    this.segments = segments;
    this.#states = new Uint8Array(segments);
    if (copied === undefined) return;
    for (let segment = 0; segment < segments; segment++) {
      if (((copied[segment >>> 3] as number) & (1 << (segment & 7))) !== 0) this.#end(segment);
    }
  }

  get copiedCount(): number {
    return this.#copied;
  }

  get isComplete(): boolean {
    return this.#copied === this.segments;
  }

  /** A bit for each segment that is copied, from the lowest bit of the first byte on. */
  get copied(): Uint8Array {
    const bits = new Uint8Array(Math.ceil(this.segments / 8));
    for (let segment = 0; segment < this.segments; segment++) {
      if (this.#states[segment] === State.COPIED)
        bits[segment >>> 3] = (bits[segment >>> 3] as number) | (1 << (segment & 7));
    }
    return bits;
  }

  /** Gives the next segment out; -1 when all have been. */
  next(): number {
    for (let range = this.#wanted[0]; range !== undefined; range = this.#wanted[0]) {
      while (range.first < range.end) {
        const segment = range.first++;
        if (this.#take(segment)) return segment;
      }
      this.#wanted.shift();
    }
    while (this.#at < this.segments) {
      const at = this.#at++;
      const segment = this.#order === undefined ? at : (this.#order[at] as number);
      if (this.#take(segment)) return segment;
    }
    return -1;
  }

  #take(segment: number): boolean {
    if (this.#states[segment] !== State.TO_COPY) return false;
    this.#states[segment] = State.UNDER_WAY;
    return true;
  }

  /** A segment could not be copied, or not be noted as copied: it is the next. */
  giveBack(segment: number): void {
    if (this.#states[segment] === State.COPIED) this.#copied--;
    this.#states[segment] = State.TO_COPY;
    this.#wanted.unshift({ first: segment, end: segment + 1 });
  }

  /** A segment that was given out is copied. */
  end(segment: number): void {
    this.#end(segment);
  }

  #end(segment: number): void {
    this.#states[segment] = State.COPIED;
    this.#copied++;
  }

  /** These come next, after what was asked for before. */
  want({ first, end }: SegmentRange): void {
    this.#wanted.push({ first, end: Math.min(end, this.segments) });
  }

  /** The hottest come first, from now on. */
  orderByHeat({ counts, placeBytes }: HeatMap, segmentBytes: number): void {
    const heat = new Float64Array(this.segments);
    for (let segment = 0; segment < this.segments; segment++) {
      const end = Math.min(Math.ceil(((segment + 1) * segmentBytes) / placeBytes), counts.length);
      for (let place = Math.floor((segment * segmentBytes) / placeBytes); place < end; place++)
        heat[segment] = (heat[segment] as number) + (counts[place] as number);
    }
    const order = Uint32Array.from({ length: this.segments }, (_, segment) => segment);
    // The sort is stable: what is equally hot stays in the order of its places.
    this.#order = order.sort((one, other) => (heat[other] as number) - (heat[one] as number));
    this.#at = 0;
  }

  /** What is still to be copied, in the order of its places; at most `most` ranges. */
  toCopy(most: number): SegmentRange[] {
    const ranges: SegmentRange[] = [];
    for (let segment = 0; segment < this.segments && ranges.length < most; segment++) {
      if (this.#states[segment] === State.COPIED) continue;
      const first = segment;
      while (segment + 1 < this.segments && this.#states[segment + 1] !== State.COPIED) segment++;
      ranges.push({ first, end: segment + 1 });
    }
    return ranges;
  }
}
