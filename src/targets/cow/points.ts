/** The points in time that originals are kept for, as the engine sees them at this moment. */
import type { Point, PointState } from "./catalog.ts";
import { Passed } from "./passed.ts";

/** Blocks from `first` to before `end`. */
export interface BlockRun {
  readonly first: number;
  readonly end: number;
}

export class Points {
  /** In the order of their epochs. */
  #all: Point[];
  /** Epochs that originals are kept for, ascending: of points that are valid, or leaving. */
  #valid: Uint32Array;
  /**
   * Epochs of points that the catalogue is about to leave out, or to call invalid. If originals were given up before that
   * is durable, a crash would bring back a point that shows what was written later.
   */
  readonly #leaving = new Set<number>();
  /** By epoch of a copy's point: what the copy has behind it. */
  readonly #passed = new Map<number, Passed>();
  /** The same, by the place of the epoch in `#valid`; undefined for what wants all originals. */
  #passedOf: readonly (Passed | undefined)[] = [];
  readonly #volumeBlocks: number;
  /**
   * By epoch: the mark of a point that has one, once that is durable. If originals were not kept before, a crash would bring
   * back a point without its mark, and what was written after the mark would be taken for originals.
   */
  readonly #marks = new Map<number, number>();
  /** The same, by the place of the epoch in `#valid`; Infinity for what has none. */
  #markOf = new Float64Array(0);
  /** Epochs of points that are being taken: what they show is not durable yet. */
  readonly #joining = new Set<number>();
  #lastEpoch: number;

  constructor(points: readonly Point[], lastEpoch: number, volumeBlocks: number) {
    this.#all = [...points].sort((one, other) => one.epoch - other.epoch);
    this.#lastEpoch = lastEpoch;
    this.#volumeBlocks = volumeBlocks;
    this.#valid = new Uint32Array(0);
    for (const { epoch, mark } of points) if (mark !== 0) this.#marks.set(epoch, mark);
    this.#changed();
  }

  get all(): readonly Point[] {
    return this.#all;
  }

  /** Those that the catalogue may tell of. */
  get joined(): readonly Point[] {
    return this.#all.filter(({ epoch }) => !this.#joining.has(epoch));
  }

  /** No point has this epoch, or a larger one, unless it is given out here. */
  get lastEpoch(): number {
    return this.#lastEpoch;
  }

  /** Of the newest point that originals of this block are kept for from now on; 0 where there is none. */
  newestFor(block: number): number {
    for (let index = this.#valid.length - 1; index >= 0; index--) {
      if (this.#markOf[index] === Infinity && this.#needs(index, block)) return this.#valid[index] as number;
    }
    return 0;
  }

  #needs(index: number, block: number): boolean {
    const passed = this.#passedOf[index];
    return passed === undefined || !passed.has(block);
  }

  /** The copy of a point has passed the blocks from `first` to before `end`: it never reads them again. */
  pass(epoch: number, first: number, end: number): void {
    const passed = this.#passed.get(epoch) ?? new Passed(this.#volumeBlocks);
    this.#passed.set(epoch, passed);
    passed.add(first, end);
    this.#changed();
  }

  /** The oldest that is valid, and another than the one of this epoch. */
  oldestValid(spared: number): Point | undefined {
    return this.#all.find(({ state, epoch }) => state === "valid" && epoch !== spared);
  }

  #changed(): void {
    const valid = this.#all.filter(({ state }) => state === "valid").map(({ epoch }) => epoch);
    this.#valid = Uint32Array.from([...valid, ...this.#leaving]).sort();
    this.#passedOf = Array.from(this.#valid, (epoch) => this.#passed.get(epoch));
    this.#markOf = Float64Array.from(this.#valid, (epoch) => this.#marks.get(epoch) ?? Infinity);
  }

  /** Whether a block's version of epoch `epoch` is wanted, when its next older one has epoch `before` (0 for none). */
  isWanted(block: number, before: number, epoch: number): boolean {
    const valid = this.#valid;
    let low = 0;
    let high = valid.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((valid[middle] as number) > before) high = middle;
      else low = middle + 1;
    }
    for (; low < valid.length && (valid[low] as number) <= epoch; low++) {
      if (epoch < (this.#markOf[low] as number) && this.#needs(low, block)) return true;
    }
    return false;
  }

  /** Whether originals are kept for the point. */
  isKept(epoch: number): boolean {
    return this.#valid.includes(epoch);
  }

  /** Originals are kept for it from now on; the catalogue tells of it after `join`. */
  add(point: Omit<Point, "epoch">): Point {
    const added = { ...point, epoch: ++this.#lastEpoch };
    this.#joining.add(added.epoch);
    this.#all.push(added);
    this.#changed();
    return added;
  }

  /** The point gets a mark, as far as the catalogue goes; it counts after `endMarking`. Gives the mark. */
  mark(epoch: number): number {
    const mark = ++this.#lastEpoch;
    this.#all = this.#all.map((point) => (point.epoch === epoch ? { ...point, mark } : point));
    return mark;
  }

  /** The mark is durable. */
  endMarking(epoch: number, mark: number): void {
    // It may have gone meanwhile.
    if (this.isKept(epoch)) this.#marks.set(epoch, mark);
    this.#changed();
  }

  join(epoch: number): void {
    this.#joining.delete(epoch);
  }

  /** Is no more, as far as the catalogue goes; originals are kept until `endLeaving`. */
  remove(epoch: number): void {
    if (this.isKept(epoch)) this.#leaving.add(epoch);
    this.#all = this.#all.filter((point) => point.epoch !== epoch);
    this.#joining.delete(epoch);
    this.#changed();
  }

  /** Gives up the points that are valid and `chosen`; originals are kept until `endLeaving`. Says how many. */
  giveUp(state: PointState, chosen: (point: Point) => boolean): number {
    let count = 0;
    this.#all = this.#all.map((point) => {
      if (point.state !== "valid" || !chosen(point)) return point;
      this.#leaving.add(point.epoch);
      count++;
      return { ...point, state };
    });
    this.#changed();
    return count;
  }

  /** What has left is durable by now: nothing is kept for it any more. */
  endLeaving(epochs: readonly number[]): void {
    for (const epoch of epochs) {
      this.#leaving.delete(epoch);
      this.#passed.delete(epoch);
      this.#marks.delete(epoch);
    }
    this.#changed();
  }

  /** Epochs that are leaving. */
  get leaving(): readonly number[] {
    return [...this.#leaving];
  }
}
