/** Persistent memory: lines are written back by the processor, with a fence; no system call is made. */
import type { Persistence } from "./persistence.ts";
import { LINE_BYTES } from "./record-lines.ts";

export class DaxPersistence implements Persistence {
  readonly kind = "persistent memory (DAX)";
  readonly bytes: Uint8Array;
  readonly #persist: (at: number, lengthBytes: number) => void;

  /** `bytes` is the part of the file, mapped with MAP_SYNC. `persist` writes a range of it back and fences. */
  constructor(bytes: Uint8Array, persist: (at: number, lengthBytes: number) => void) {
    this.bytes = bytes;
    this.#persist = persist;
  }

  commit(lines: Int32Array, count: number, done: (result: number) => void): void {
    for (let index = 0; index < count;) {
      const first = lines[index] as number;
      let length = 1;
      while (index + length < count && lines[index + length] === first + length) length++;
      this.#persist(first * LINE_BYTES, length * LINE_BYTES);
      index += length;
    }
    done(0);
  }
}
