/**
 * The longest runs of a value in an array of bytes, a part of the array at a time.
 *
 * Invariant: no look takes longer than a part has bytes, however large the array is; so "longest" means: of its part. What was
 * found and has changed since is not given out.
 */

/** Bytes behind one another. */
export interface ByteRun {
  readonly first: number;
  readonly count: number;
}

const PART_BYTES = 16_384;
/** Of a part, so many runs are given out before it is looked at again. */
const KEPT = 64;

export class LongestRuns {
  readonly #bytes: Uint8Array;
  #value = 0;
  /** The longest ones first. */
  readonly #firsts = new Float64Array(KEPT);
  readonly #counts = new Float64Array(KEPT);
  #kept = 0;
  #next = 0;
  /** Where the part begins: it is left when it has no such byte any more. */
  #from = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Forgets what was found. */
  clear(): void {
    this.#kept = 0;
    this.#next = 0;
    this.#from = 0;
  }

  /** The next run of bytes that have this value, at most so many of it, and the rest of it the next time; undefined where none has it. */
  take(value: number, most: number): ByteRun | undefined {
    const found = value === this.#value ? this.#takeFound(most) : undefined;
    if (found !== undefined) return found;
    this.#look(value);
    return this.#takeFound(most);
  }

  #takeFound(most: number): ByteRun | undefined {
    for (; this.#next < this.#kept; this.#next++) {
      const end = (this.#firsts[this.#next] as number) + (this.#counts[this.#next] as number);
      const first = this.#bytes.indexOf(this.#value, this.#firsts[this.#next]);
      if (first < 0 || first >= end) continue;
      const count = this.#endOf(first, Math.min(end, first + most)) - first;
      this.#firsts[this.#next] = first + count;
      this.#counts[this.#next] = end - first - count;
      return { first, count };
    }
    return undefined;
  }

  /** Where the run that begins at `first` ends, before `end`. */
  #endOf(first: number, end: number): number {
    let at = first;
    while (at < end && this.#bytes[at] === this.#value) at++;
    return at;
  }

  #look(value: number): void {
    const bytes = this.#bytes;
    this.#value = value;
    this.#kept = 0;
    this.#next = 0;
    let first = bytes.indexOf(value, this.#from);
    if (first < 0) first = bytes.indexOf(value);
    this.#from = first;
    const end = Math.min(first + PART_BYTES, bytes.length);
    while (first >= 0 && first < end) {
      const runEnd = this.#endOf(first, end);
      this.#keep(first, runEnd - first);
      first = bytes.indexOf(value, runEnd);
    }
  }

  /** Keeps it among the longest: of two that are as long, the one that comes first. */
  #keep(first: number, count: number): void {
    if (this.#kept === KEPT && count <= (this.#counts[KEPT - 1] as number)) return;
    let at = Math.min(this.#kept, KEPT - 1);
    for (; at > 0 && (this.#counts[at - 1] as number) < count; at--) {
      this.#firsts[at] = this.#firsts[at - 1] as number;
      this.#counts[at] = this.#counts[at - 1] as number;
    }
    this.#firsts[at] = first;
    this.#counts[at] = count;
    if (this.#kept < KEPT) this.#kept++;
  }
}
