/**
 * How often each part of the volume is written to: what is hot is about to be written again.
 *
 * Invariant: bounded memory, one counter for each place; a count is an estimate and nothing relies on it.
 */

/** Counters: 4 MiB of memory. */
const PLACES_MAX = 2 ** 22;
export const HEAT_MAX = 0xff;

export interface HeatMap {
  /** By place: writes, of which the older count half as much each time that the map is asked for. */
  readonly counts: Uint8Array;
  readonly placeBytes: number;
}

export class Heat {
  readonly #counts: Uint8Array;
  readonly #placeBytes: number;
  readonly #placesPerByte: number;

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
  }

  /** What has been counted; from now on it counts half. */
  read(): HeatMap {
    const counts = this.#counts.slice();
    for (let place = 0; place < counts.length; place++) this.#counts[place] = (counts[place] as number) >>> 1;
    return { counts, placeBytes: this.#placeBytes };
  }
}
