/**
 * How often each part of the volume is written to: what is hot is about to be written again.
 *
 * Invariant: bounded memory, one counter for each place, and a constant cost for each write; a count is an estimate and nothing
 * relies on it. What was long ago counts less: a hand goes round, a place every few writes, and halves what it meets.
 */

/** Counters: 4 MiB of memory. */
const PLACES_MAX = 2 ** 22;
/** The hand has gone round when each place could have been written to so often. */
const WRITES_PER_STEP = 8;
export const HEAT_MAX = 0xff;

export interface HeatMap {
  /** By place: writes, of which the older count less. */
  readonly counts: Uint8Array;
  readonly placeBytes: number;
}

export class Heat {
  readonly #counts: Uint8Array;
  readonly #placeBytes: number;
  readonly #placesPerByte: number;
  #hand = 0;
  #untilStep = WRITES_PER_STEP;

  constructor(volumeBytes: number, blockBytes: number) {
    const least = Math.max(blockBytes, volumeBytes / PLACES_MAX);
    this.#placeBytes = 2 ** Math.ceil(Math.log2(least));
    this.#placesPerByte = 1 / this.#placeBytes;
    this.#counts = new Uint8Array(Math.ceil(volumeBytes / this.#placeBytes));
  }

  /** A write begins at `offset`. Its length does not matter: long ones are rarely repeated. */
  written(offset: number): void {
    const place = Math.floor(offset * this.#placesPerByte);
    const count = this.#counts[place] as number;
    if (count < HEAT_MAX) this.#counts[place] = count + 1;
    if (--this.#untilStep === 0) this.#step();
  }

  #step(): void {
    this.#untilStep = WRITES_PER_STEP;
    this.#counts[this.#hand] = (this.#counts[this.#hand] as number) >>> 1;
    if (++this.#hand === this.#counts.length) this.#hand = 0;
  }

  read(): HeatMap {
    return { counts: this.#counts.slice(), placeBytes: this.#placeBytes };
  }
}
