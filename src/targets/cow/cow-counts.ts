/** What copy-on-write counts, in memory that another thread may read. */

const NAMES = [
  /** Writes, discards and zeroes that had to wait. */
  "held",
  /** Of those, held at this moment. */
  "holding",
  /** Originals moved to the store. */
  "moved",
  /** Bytes of the volume that were read for it. */
  "readBytes",
  /** Bytes written to the store, tables included. */
  "writtenBytes",
  /** Blocks copied within the store to make room. */
  "relocated",
  /** Originals that could not be read, and are lost to the points that want them. */
  "lost",
  /** Points given up, for want of room or because the store failed. */
  "givenUp",
  /** Slots that hold what is wanted, and slots that can be filled without making room. */
  "usedSlots",
  "freeSlots",
] as const;

export type CowCount = (typeof NAMES)[number];
export type CowNumbers = Readonly<Record<CowCount, number>>;

/** Index of each count. */
export const COW_COUNT = Object.fromEntries(NAMES.map((name, index) => [name, index])) as Record<CowCount, number>;

export class CowCounts {
  readonly shared: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(shared = new SharedArrayBuffer(NAMES.length * Float64Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#values = new Float64Array(shared);
  }

  set(index: number, value: number): void {
    this.#values[index] = value;
  }

  add(index: number, by = 1): void {
    this.#values[index] = (this.#values[index] as number) + by;
  }

  read(): CowNumbers {
    return Object.fromEntries(NAMES.map((name, index) => [name, this.#values[index]])) as Record<CowCount, number>;
  }
}
