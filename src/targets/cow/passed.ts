/**
 * What a copy has behind it, of which it wants no originals any more.
 *
 * Invariant: memory is bounded: a large volume has coarse places, and one counts as passed only when all of it is.
 */

/** One bit each: 1 MiB of memory. */
const PLACES_MAX = 2 ** 23;

/** Blocks that are passed as a whole, in a volume of so many: a power of two. */
function placeBlocks(volumeBlocks: number): number {
  return 2 ** Math.max(0, Math.ceil(Math.log2(volumeBlocks / PLACES_MAX)));
}

export class Passed {
  readonly #blocksPerPlace: number;
  readonly #places: number;
  readonly #volumeBlocks: number;
  readonly #bits: Uint8Array;

  constructor(volumeBlocks: number) {
    this.#volumeBlocks = volumeBlocks;
    this.#blocksPerPlace = placeBlocks(volumeBlocks);
    this.#places = Math.ceil(volumeBlocks / this.#blocksPerPlace);
    this.#bits = new Uint8Array(Math.ceil(this.#places / 8));
  }

  has(block: number): boolean {
    const place = Math.floor(block / this.#blocksPerPlace);
    return ((this.#bits[place >>> 3] as number) & (1 << (place & 7))) !== 0;
  }

  /** Blocks from `first` to before `end` have been passed. */
  add(first: number, end: number): void {
    const endPlace = end >= this.#volumeBlocks ? this.#places : Math.floor(end / this.#blocksPerPlace);
    for (let place = Math.ceil(first / this.#blocksPerPlace); place < endPlace; place++) {
      this.#bits[place >>> 3] = (this.#bits[place >>> 3] as number) | (1 << (place & 7));
    }
  }
}
