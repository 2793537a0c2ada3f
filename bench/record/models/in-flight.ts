/**
 * The writes that are under way: the same number of them for every model that may not let go of what they touch.
 *
 * Invariant. A write ends before any that began after it, at most IN_FLIGHT_WRITES are under way.
 */

/** A write has been copied to the remote when so many more have begun. */
export const IN_FLIGHT_WRITES = 32;

/** Writes as ranges of units, chunks or extents. */
export class InFlight {
  readonly #firsts = new Float64Array(IN_FLIGHT_WRITES);
  readonly #lasts = new Float64Array(IN_FLIGHT_WRITES);
  readonly #ended: (first: number, last: number) => void;
  #begun = 0;
  #done = 0;

  constructor(ended: (first: number, last: number) => void) {
    this.#ended = ended;
  }

  /** Ends the oldest write if no more may be under way. */
  makeRoom(): void {
    if (this.#begun - this.#done === IN_FLIGHT_WRITES) this.endOldest();
  }

  /** False when nothing is under way. */
  endOldest(): boolean {
    if (this.#begun === this.#done) return false;
    const index = this.#done++ % IN_FLIGHT_WRITES;
    this.#ended(this.#firsts[index] as number, this.#lasts[index] as number);
    return true;
  }

  begin(first: number, last: number): void {
    const index = this.#begun++ % IN_FLIGHT_WRITES;
    this.#firsts[index] = first;
    this.#lasts[index] = last;
  }
}
