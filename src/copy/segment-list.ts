/**
 * The units of a copy that are still to be copied, and which of them come next.
 *
 * Invariant: each unit is given out once, and again only after it was given back. What was asked for by hand comes before
 * everything else, in the order of asking.
 */
import { HEAT_MAX, type HeatMap } from "../targets/cow/heat.ts";

/** "linear": from the first on. "hot-first": what is written to most first, so that it need not be moved aside. */
export const COPY_ORDERS = ["linear", "hot-first"] as const;
export type CopyOrder = (typeof COPY_ORDERS)[number];

const State = { TO_COPY: 0, UNDER_WAY: 1, COPIED: 2 } as const;

/** Units from `first` to before `end`. */
export interface Run {
  readonly first: number;
  readonly end: number;
}

/** What is read and written together: runs in the order of their places, with something between each and the next. */
export type Segment = readonly Run[];

export class SegmentList {
  readonly units: number;
  readonly #states: Uint8Array;
  #copied = 0;
  /** Those asked for by hand; `first` moves on. */
  #wanted: { first: number; readonly end: number }[] = [];
  /** The order of all others; undefined for the linear one. */
  #order: Uint32Array | undefined;
  /** How many of that order have been looked at. */
  #at = 0;

  /** `copied` has a bit for each unit that has been copied before: see `copied`. */
  constructor(units: number, copied: Uint8Array | undefined) {
    this.units = units;
    this.#states = new Uint8Array(units);
    if (copied === undefined) return;
    for (let unit = 0; unit < units; unit++) {
      if (((copied[unit >>> 3] as number) & (1 << (unit & 7))) !== 0) this.end([{ first: unit, end: unit + 1 }]);
    }
  }

  get copiedUnits(): number {
    return this.#copied;
  }

  get isComplete(): boolean {
    return this.#copied === this.units;
  }

  /** A bit for each unit that is copied, from the lowest bit of the first byte on. */
  get copied(): Uint8Array {
    const bits = new Uint8Array(Math.ceil(this.units / 8));
    for (let unit = 0; unit < this.units; unit++) {
      if (this.#states[unit] === State.COPIED) bits[unit >>> 3] = (bits[unit >>> 3] as number) | (1 << (unit & 7));
    }
    return bits;
  }

  /** Gives the next segment out, of at most so many units: of none when all have been. */
  next(most: number): Segment {
    const runs: Run[] = [];
    for (let left = most; left > 0;) {
      const run = this.#nextRun(left);
      if (run === undefined) break;
      runs.push(run);
      left -= run.end - run.first;
    }
    return joined(runs);
  }

  #nextRun(most: number): Run | undefined {
    for (let range = this.#wanted[0]; range !== undefined; range = this.#wanted[0]) {
      while (range.first < range.end) {
        const first = range.first++;
        if (!this.#take(first)) continue;
        while (range.first < range.end && range.first - first < most && this.#take(range.first)) range.first++;
        return { first, end: range.first };
      }
      this.#wanted.shift();
    }
    while (this.#at < this.units) {
      const first = this.#unitAt(this.#at++);
      if (!this.#take(first)) continue;
      let end = first + 1;
      while (this.#at < this.units && end - first < most && this.#unitAt(this.#at) === end && this.#take(end)) {
        this.#at++;
        end++;
      }
      return { first, end };
    }
    return undefined;
  }

  #unitAt(at: number): number {
    return this.#order === undefined ? at : (this.#order[at] as number);
  }

  #take(unit: number): boolean {
    if (this.#states[unit] !== State.TO_COPY) return false;
    this.#states[unit] = State.UNDER_WAY;
    return true;
  }

  /** A segment could not be copied, or not be noted as copied: it is the next. */
  giveBack(segment: Segment): void {
    for (const { first, end } of segment) {
      for (let unit = first; unit < end; unit++) {
        if (this.#states[unit] === State.COPIED) this.#copied--;
        this.#states[unit] = State.TO_COPY;
      }
    }
    this.#wanted.unshift(...segment.map((run) => ({ ...run })));
  }

  /** A segment that was given out is copied. */
  end(segment: Segment): void {
    for (const { first, end } of segment) {
      this.#states.fill(State.COPIED, first, end);
      this.#copied += end - first;
    }
  }

  /** These come next, after what was asked for before. */
  want({ first, end }: Run): void {
    this.#wanted.push({ first, end: Math.min(end, this.units) });
  }

  /** The hottest come first, from now on; what is equally hot in the order of its places. */
  orderByHeat({ counts, placeBytes }: HeatMap, unitBytes: number): void {
    const heatOf = (unit: number): number => {
      const end = Math.min(Math.ceil(((unit + 1) * unitBytes) / placeBytes), counts.length);
      let heat = 0;
      for (let place = Math.floor((unit * unitBytes) / placeBytes); place < end; place++)
        heat = Math.max(heat, counts[place] as number);
      return heat;
    };
    // Sorted by counting: where those of each heat begin, the hottest at 0.
    const starts = new Uint32Array(HEAT_MAX + 2);
    const add = (place: number, count: number): number => {
      const start = starts[place] as number;
      starts[place] = start + count;
      return start;
    };
    for (let unit = 0; unit < this.units; unit++) add(HEAT_MAX + 1 - heatOf(unit), 1);
    for (let place = 1; place < starts.length; place++) add(place, starts[place - 1] as number);
    const order = new Uint32Array(this.units);
    for (let unit = 0; unit < this.units; unit++) order[add(HEAT_MAX - heatOf(unit), 1)] = unit;
    this.#order = order;
    this.#at = 0;
  }

  /** What is still to be copied, in the order of its places; at most `most` ranges. */
  toCopy(most: number): Run[] {
    const ranges: Run[] = [];
    for (let unit = 0; unit < this.units && ranges.length < most; unit++) {
      if (this.#states[unit] === State.COPIED) continue;
      const first = unit;
      while (unit + 1 < this.units && this.#states[unit + 1] !== State.COPIED) unit++;
      ranges.push({ first, end: unit + 1 });
    }
    return ranges;
  }
}

/** In the order of their places; those that touch are one. */
function joined(runs: Run[]): Segment {
  const found: { first: number; end: number }[] = [];
  for (const run of runs.sort((one, other) => one.first - other.first)) {
    const last = found.at(-1);
    if (last?.end === run.first) last.end = run.end;
    else found.push({ ...run });
  }
  return found;
}
