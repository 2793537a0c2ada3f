/**
 * DRBD's activity log: extents of 4 MiB, the least recently used of which leaves when another is needed and its number is
 * reached; never one with a write under way. One transaction for each write that finds an extent missing.
 *
 * Invariant. The active extents form one ring in the order of their use, through a head that is no extent.
 */
import { InFlight } from "./in-flight.ts";
import type { RecordModel } from "./model.ts";

export const EXTENT_BYTES = 4 * 2 ** 20;
/** `al-extents`: the least, the default, and the most that the default size of the log allows. */
export const AL_EXTENTS = { least: 67, default: 1237, most: 6433 } as const;
const INACTIVE = -1;

export class ActivityLog implements RecordModel {
  readonly #limit: number;
  /** Writes under way by extent. */
  readonly #writes: Int32Array;
  /** The extent that was used before each, and after each. */
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  readonly #head: number;
  readonly #inFlight = new InFlight((first, last) => {
    for (let extent = first; extent <= last; extent++) this.#writes[extent] = (this.#writes[extent] as number) - 1;
  });
  #active = 0;
  updates = 0;

  constructor(volumeBytes: number, limit: number) {
    this.#limit = limit;
    this.#head = Math.ceil(volumeBytes / EXTENT_BYTES);
    this.#writes = new Int32Array(this.#head);
    this.#older = new Int32Array(this.#head + 1).fill(INACTIVE);
    this.#newer = new Int32Array(this.#head + 1).fill(INACTIVE);
    this.#older[this.#head] = this.#newer[this.#head] = this.#head;
  }

  get sizeBytes(): number {
    return this.#active * EXTENT_BYTES;
  }

  write(offsetBytes: number, lengthBytes: number): void {
    const first = Math.floor(offsetBytes / EXTENT_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / EXTENT_BYTES);
    this.#inFlight.makeRoom();
    let missing = false;
    for (let extent = first; extent <= last; extent++) {
      if (this.#newer[extent] === INACTIVE) missing = true;
      else this.#takeOut(extent);
      this.#putIn(extent);
      this.#writes[extent] = (this.#writes[extent] as number) + 1;
    }
    while (this.#active > this.#limit) if (!this.#evict()) this.#inFlight.endOldest();
    if (missing) this.updates++;
    this.#inFlight.begin(first, last);
  }

  /** As the one that was used last. */
  #putIn(extent: number): void {
    const before = this.#older[this.#head] as number;
    this.#older[extent] = before;
    this.#newer[extent] = this.#head;
    this.#newer[before] = this.#older[this.#head] = extent;
    this.#active++;
  }

  #takeOut(extent: number): void {
    const older = this.#older[extent] as number;
    const newer = this.#newer[extent] as number;
    this.#newer[older] = newer;
    this.#older[newer] = older;
    this.#newer[extent] = INACTIVE;
    this.#active--;
  }

  #evict(): boolean {
    for (let extent = this.#newer[this.#head] as number; extent !== this.#head; extent = this.#newer[extent] as number)
      if (this.#writes[extent] === 0) {
        this.#takeOut(extent);
        return true;
      }
    return false;
  }
}
