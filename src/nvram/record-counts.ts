/** What the record counts, in memory that another thread may read. */

const NAMES = [
  /** Writes, discards and zeroes of the host. */
  "writes",
  /** Of those, the ones that had to wait for an update. */
  "held",
  /** Updates of the durable record: one barrier each. */
  "updates",
  /** Chunks added because a write wanted them. */
  "wanted",
  /** Chunks added because they were predicted. */
  "predicted",
  /** Chunks taken out to make room. */
  "removed",
  /** Of those, predictions that were never written. */
  "wasted",
  /** Times that writes found no room, everything being owed to the remote. */
  "stalls",
  /** Flushes of our own, so that chunks could be taken out. */
  "flushes",
  /** Updates that failed. */
  "failures",
] as const;

export type RecordCount = (typeof NAMES)[number];
export type RecordNumbers = Readonly<Record<RecordCount, number>>;

/** Index of each count. */
export const COUNT = Object.fromEntries(NAMES.map((name, index) => [name, index])) as Record<RecordCount, number>;

export class RecordCounts {
  readonly shared: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(shared = new SharedArrayBuffer(NAMES.length * Float64Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#values = new Float64Array(shared);
  }

  add(index: number, by = 1): void {
    this.#values[index] = (this.#values[index] as number) + by;
  }

  read(): RecordNumbers {
    return Object.fromEntries(NAMES.map((name, index) => [name, this.#values[index]])) as Record<RecordCount, number>;
  }
}
