/** Random numbers that are the same in every run: a seed gives one sequence, for good. */

/** Well mixed bits of a whole number, from 0 to 2^32 - 1: where something lies that has no reason to lie anywhere. */
export function scatter(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

const GOLDEN_STEP = 0x9e3779b9;

/** SplitMix in 32 bits: a counter, mixed. */
export class Random {
  #counter: number;

  constructor(seed: number) {
    this.#counter = scatter(seed);
  }

  /** From 0, less than 1. */
  next(): number {
    this.#counter = (this.#counter + GOLDEN_STEP) | 0;
    return scatter(this.#counter) / 2 ** 32;
  }

  /** A whole number from 0, less than `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** A whole number, each doubling between `least` and `most` as likely as any other: sizes of files, roughly. */
  logarithmic(least: number, most: number): number {
    return Math.floor(least * ((most + 1) / least) ** this.next());
  }
}

/** Ranks from 0, the rank r with a weight of (r + 1)^-skew. */
export class Zipf {
  readonly #random: Random;
  readonly #cumulated: Float64Array;

  constructor(random: Random, ranks: number, skew: number) {
    this.#random = random;
    this.#cumulated = new Float64Array(ranks);
    let sum = 0;
    for (let rank = 0; rank < ranks; rank++) this.#cumulated[rank] = sum += (rank + 1) ** -skew;
  }

  /** How likely a rank is. */
  likelihood(rank: number): number {
    const cumulated = this.#cumulated;
    const below = rank === 0 ? 0 : (cumulated[rank - 1] ?? 0);
    return ((cumulated[rank] ?? 0) - below) / (cumulated[cumulated.length - 1] ?? 1);
  }

  next(): number {
    const cumulated = this.#cumulated;
    const sought = this.#random.next() * (cumulated[cumulated.length - 1] ?? 0);
    let low = 0;
    let high = cumulated.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulated[middle] ?? 0) <= sought) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
