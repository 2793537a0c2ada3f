/**
 * Reads of the volume that the thread of the link has the thread of the host do, each to a place in the memory that both share.
 *
 * Invariant: a place belongs to one read from when it is ordered until it is told of, whatever has become of whoever asked; what
 * finds no place waits for one. Each read is answered once.
 */
import { POINT_READS } from "../targets/mirror/mirror-target.ts";
import { readPlace } from "../targets/mirror/mirror-server.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";

/** What could not be read is answered after so long: it may be the disk's fault for good, and is asked for again. */
const FAILED_MS = 1000;

interface Wanted {
  readonly sector: number;
  readonly sectors: number;
  readonly done: (result: number, bytes: Uint8Array) => void;
}

/** Orders a read of the thread of the host: `place` is one of POINT_READS. */
export type OrderRead = (place: number, sector: number, sectors: number) => void;

export class SharedReads {
  readonly #memory: Uint8Array;
  readonly #order: OrderRead;
  /** By place. */
  readonly #underWay = new Array<Wanted | undefined>(POINT_READS).fill(undefined);
  readonly #waiting: Wanted[] = [];
  readonly #failures = new Set<NodeJS.Timeout>();

  constructor(memory: SharedArrayBuffer, order: OrderRead) {
    this.#memory = new Uint8Array(memory);
    this.#order = order;
  }

  /** `done` gets 0 and bytes that are valid until it returns, or a negative errno. */
  read(wanted: Wanted): void {
    this.#waiting.push(wanted);
    this.#begin();
  }

  #begin(): void {
    for (;;) {
      const place = this.#underWay.indexOf(undefined);
      const wanted = place < 0 ? undefined : this.#waiting.shift();
      if (wanted === undefined) return;
      this.#underWay[place] = wanted;
      this.#order(place, wanted.sector, wanted.sectors);
    }
  }

  /** The read to a place has ended, with 0 or a negative errno. */
  ended(place: number, result: number): void {
    const wanted = this.#underWay[place];
    if (wanted === undefined) return;
    const at = readPlace(place);
    if (result < 0) this.#fail(wanted, result);
    else wanted.done(0, this.#memory.subarray(at, at + wanted.sectors * SECTOR_BYTES));
    this.#underWay[place] = undefined;
    this.#begin();
  }

  #fail({ done }: Wanted, result: number): void {
    const timer = setTimeout(() => {
      this.#failures.delete(timer);
      done(result, this.#memory.subarray(0, 0));
    }, FAILED_MS);
    this.#failures.add(timer);
  }

  /** Nobody waits for an answer any more. */
  close(): void {
    for (const timer of this.#failures) clearTimeout(timer);
  }
}
