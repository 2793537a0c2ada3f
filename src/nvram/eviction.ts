/**
 * Which chunks leave the record when it is full: those passed by a stream first, then the cold ones, by how often and how
 * lately they were written (least frequently used with ageing). Chunks that are owed to the remote never leave.
 *
 * Victims are chosen many at a time by one pass over the members, and handed out one by one; the cost of a pass is spread
 * over the victims that it finds.
 */
import type { Places } from "./places.ts";
import { VISITS_MAX } from "./places.ts";

const BUCKETS = 64;
/** Stands in the place of the warmth of what may not go. */
const NEVER = BUCKETS;
/** Steps of warmth that a doubling of the visits is worth. */
const STEPS_PER_DOUBLING = 8;
/** Steps of warmth that are lost in each epoch without a visit. */
const STEPS_PER_EPOCH = 1;
/** Warmth of a chunk that was predicted and has not been written yet, in steps: below one that was written once. */
const PREDICTED_STEPS = 3;
/** A pass finds this share of the members. */
const SHARE = 16;

const VISIT_STEPS = Int32Array.from({ length: VISITS_MAX + 1 }, (_, visits) =>
  Math.round(Math.log2(1 + visits) * STEPS_PER_DOUBLING),
);

export class Eviction {
  readonly #places: Places;
  readonly #victims: Int32Array;
  /** Warmth by the position of a member, in the pass that is made. */
  readonly #warmths: Uint8Array;
  readonly #histogram = new Int32Array(BUCKETS + 1);
  #found = 0;
  #next = 0;
  /** How many a pass is to find. */
  #wanted = 0;
  #threshold = 0;
  /** Set when members could not leave because the backing store was not flushed since they were written. */
  lacksFlush = false;

  constructor(places: Places) {
    this.#places = places;
    this.#victims = new Int32Array(Math.ceil(places.chunks / SHARE));
    this.#warmths = new Uint8Array(places.chunks);
  }

  /** The next chunk to go, still a member; -1 when every member is owed or in use. */
  choose(): number {
    for (let passes = 0; passes < 2; passes++) {
      while (this.#next < this.#found) {
        const chunk = this.#victims[this.#next++] as number;
        if (this.#isRemovable(chunk) && this.#warmth(chunk) <= this.#threshold) return chunk;
      }
      if (passes === 0) this.#search();
    }
    return -1;
  }

  #isRemovable(chunk: number): boolean {
    return this.#places.isSpare(chunk) && this.#places.isDurable(chunk);
  }

  /** 0 (coldest) to BUCKETS - 1. */
  #warmth(chunk: number): number {
    const places = this.#places;
    const visits = VISIT_STEPS[places.visits(chunk)] as number;
    const steps = places.isUsed(chunk) ? visits : Math.max(visits, PREDICTED_STEPS);
    const warmth = BUCKETS / 2 + steps - places.age(chunk) * STEPS_PER_EPOCH;
    return warmth < 0 ? 0 : warmth >= BUCKETS ? BUCKETS - 1 : warmth;
  }

  /** Fills the list with the coldest members: all below a warmth that is found first, and as many as fit of that warmth. */
  #search(): void {
    const places = this.#places;
    const histogram = this.#histogram.fill(0);
    for (let position = 0; position < places.count; position++) {
      const chunk = places.member(position);
      const warmth = places.isSpare(chunk) ? this.#warmth(chunk) : NEVER;
      this.#warmths[position] = warmth;
      histogram[warmth] = (histogram[warmth] as number) + 1;
    }
    this.#wanted = Math.ceil(places.count / SHARE);
    let threshold = 0;
    for (let sum = histogram[0] as number; threshold < BUCKETS - 1 && sum < this.#wanted;)
      sum += histogram[++threshold] as number;
    this.#threshold = threshold;
    this.#next = 0;
    this.#found = 0;
    this.lacksFlush = false;
    this.#take(0, threshold - 1);
    this.#take(threshold, threshold);
  }

  /** Takes those into the list whose warmth lies between, as far as they are durable and there is room. */
  #take(coldest: number, warmest: number): void {
    const places = this.#places;
    for (let position = 0; position < places.count && this.#found < this.#wanted; position++) {
      const warmth = this.#warmths[position] as number;
      if (warmth < coldest || warmth > warmest) continue;
      const chunk = places.member(position);
      if (places.isDurable(chunk)) this.#victims[this.#found++] = chunk;
      else this.lacksFlush = true;
    }
  }
}
