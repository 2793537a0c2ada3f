/** Persistent memory: the file is mapped with MAP_SYNC, lines are written back by the processor, and no system call is made. */
import type { MappedMemory } from "../ublk/memory.ts";
import { native } from "../ublk/native.ts";
import type { Persistence } from "./persistence.ts";
import { LINE_BYTES } from "./record-lines.ts";

export class DaxPersistence implements Persistence {
  readonly kind = "persistent memory (DAX)";
  readonly bytes: Uint8Array;
  readonly #address: number;

  /** `offset` and `lengthBytes` are those of the part within the mapped file. */
  constructor(file: MappedMemory, offset: number, lengthBytes: number) {
    this.bytes = new Uint8Array(file.buffer, offset, lengthBytes);
    this.#address = file.address + offset;
  }

  commit(lines: Int32Array, count: number, done: (result: number) => void): void {
    for (let index = 0; index < count;) {
      const first = lines[index] as number;
      let length = 1;
      while (index + length < count && lines[index + length] === first + length) length++;
      native.persist(this.#address + first * LINE_BYTES, length * LINE_BYTES);
      index += length;
    }
    done(0);
  }
}
