/** Counts by name, in memory that another thread may read. One thread writes. */

/** Index of each count. */
export function indexOf<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name, index) => [name, index])) as Record<Name, number>;
}

export class SharedCounts<Name extends string> {
  readonly shared: SharedArrayBuffer;
  readonly #names: readonly Name[];
  readonly #values: Float64Array;

  constructor(names: readonly Name[], shared = new SharedArrayBuffer(names.length * Float64Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#names = names;
    this.#values = new Float64Array(shared);
  }

  set(index: number, value: number): void {
    this.#values[index] = value;
  }

  add(index: number, by = 1): void {
    this.#values[index] = (this.#values[index] as number) + by;
  }

  read(): Readonly<Record<Name, number>> {
    return Object.fromEntries(this.#names.map((name, index) => [name, this.#values[index]])) as Record<Name, number>;
  }
}
