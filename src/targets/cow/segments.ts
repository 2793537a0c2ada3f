/**
 * The segments of a store: which are free, and how many slots of the others are still wanted.
 *
 * Invariant: a segment is written to again only when none of its slots is wanted. Who reads one meanwhile looks afterwards
 * whether the map still says that it was there.
 */

const State = { FREE: 0, OPEN: 1, SEALED: 2 } as const;
type State = (typeof State)[keyof typeof State];

export class Segments {
  readonly #states: Uint8Array;
  /** Grows with each opening; tells what is newer of two things that a store says. */
  readonly #sequences: Uint32Array;
  readonly #wanted: Int32Array;
  /** Free segments, a ring: the one that was freed first is taken first. */
  readonly #free: Int32Array;
  #freeFirst = 0;
  #freeCount = 0;
  #lastSequence: number;

  /** `sequences`: of what a store has in its segments; 0 for one that was never opened. All count as sealed at first. */
  constructor(sequences: Uint32Array) {
    const segments = sequences.length;
    this.#states = new Uint8Array(segments).fill(State.SEALED);
    this.#sequences = sequences.slice();
    this.#lastSequence = sequences.reduce((most, sequence) => Math.max(most, sequence), 0);
    this.#wanted = new Int32Array(segments);
    this.#free = new Int32Array(segments);
  }

  get total(): number {
    return this.#states.length;
  }

  get free(): number {
    return this.#freeCount;
  }

  sequence(segment: number): number {
    return this.#sequences[segment] as number;
  }

  wanted(segment: number): number {
    return this.#wanted[segment] as number;
  }

  isSealed(segment: number): boolean {
    return this.#states[segment] === State.SEALED;
  }

  #pushFree(segment: number): void {
    this.#states[segment] = State.FREE;
    this.#free[(this.#freeFirst + this.#freeCount++) % this.#free.length] = segment;
  }

  /** To be called once, when what is wanted of the segments is counted: all others are free. */
  releaseUnwanted(): void {
    for (let segment = 0; segment < this.total; segment++) this.#releaseIfUnused(segment);
  }

  /** Takes a free segment, to be filled from its start. There must be one. */
  open(): number {
    const segment = this.#free[this.#freeFirst] as number;
    this.#freeFirst = (this.#freeFirst + 1) % this.#free.length;
    this.#freeCount--;
    this.#states[segment] = State.OPEN;
    this.#sequences[segment] = ++this.#lastSequence;
    return segment;
  }

  /** Nothing is added to it any more. */
  seal(segment: number): void {
    this.#states[segment] = State.SEALED;
    this.#releaseIfUnused(segment);
  }

  want(segment: number): void {
    this.#wanted[segment] = (this.#wanted[segment] as number) + 1;
  }

  unwant(segment: number): void {
    this.#wanted[segment] = (this.#wanted[segment] as number) - 1;
    this.#releaseIfUnused(segment);
  }

  #releaseIfUnused(segment: number): void {
    if (this.#states[segment] === State.SEALED && this.#wanted[segment] === 0) this.#pushFree(segment);
  }

  /** The sealed segment with the fewest wanted slots; -1 where there is none that has less than `below`. */
  emptiest(below: number): number {
    let best = -1;
    let fewest = below;
    for (let segment = 0; segment < this.total; segment++) {
      if (this.#states[segment] !== State.SEALED || (this.#wanted[segment] as number) >= fewest) continue;
      best = segment;
      fewest = this.#wanted[segment] as number;
    }
    return best;
  }
}
