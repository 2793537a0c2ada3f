/**
 * An ordinary file: its part is kept in memory, and pages of it are written durably (RWF_DSYNC) through the queue's own
 * ring; all pages of a commit are one barrier.
 */
import { OPCODE, RWF_DSYNC } from "../ublk/abi.ts";
import { ERRNO } from "../ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../ublk/io.ts";
import type { Persistence } from "./persistence.ts";
import { LINE_BYTES } from "./record-lines.ts";

/** What is written at once: the page cache's page, and no less than a disk's sector. */
export const PAGE_BYTES = 4096;
const LINES_PER_PAGE = PAGE_BYTES / LINE_BYTES;

export class FilePersistence implements Persistence, CompletionHandler {
  readonly kind = "ordinary file (durable writes)";
  readonly bytes: Uint8Array;
  readonly #io: Io;
  readonly #file: number;
  readonly #offset: number;
  readonly #memory: IoMemory;
  readonly #handler: number;
  /** Pages of the commit that is under way, ascending. */
  readonly #pages: Int32Array;
  readonly #isDirty: Uint8Array;
  #outstanding = 0;
  #result = 0;
  #done: (result: number) => void = () => undefined;

  /** `file` is the index of the file in the ring, `offset` (a multiple of PAGE_BYTES) where the part begins that holds `content`. */
  constructor(io: Io, file: number, offset: number, content: Uint8Array) {
    const pages = Math.ceil(content.length / PAGE_BYTES);
    this.#io = io;
    this.#file = file;
    this.#offset = offset;
    this.#memory = io.memory(pages * PAGE_BYTES);
    this.bytes = new Uint8Array(this.#memory.buffer, 0, content.length);
    this.bytes.set(content);
    this.#handler = io.addHandler(this);
    this.#pages = new Int32Array(pages);
    this.#isDirty = new Uint8Array(pages);
  }

  commit(lines: Int32Array, count: number, done: (result: number) => void): void {
    this.#done = done;
    this.#result = 0;
    const pages = this.#collectPages(lines, count);
    this.#outstanding = 1;
    for (let index = 0; index < pages;) {
      const first = this.#pages[index] as number;
      let length = 1;
      while (index + length < pages && this.#pages[index + length] === first + length) length++;
      this.#write(first * PAGE_BYTES, length * PAGE_BYTES);
      index += length;
    }
    this.#settle();
  }

  #collectPages(lines: Int32Array, count: number): number {
    let pages = 0;
    for (let index = 0; index < count; index++) {
      const page = Math.floor((lines[index] as number) / LINES_PER_PAGE);
      if (this.#isDirty[page] === 1) continue;
      this.#isDirty[page] = 1;
      this.#pages[pages++] = page;
    }
    this.#pages.subarray(0, pages).sort();
    for (let index = 0; index < pages; index++) this.#isDirty[this.#pages[index] as number] = 0;
    return pages;
  }

  #write(at: number, length: number): void {
    this.#outstanding++;
    const address = this.#memory.address + at;
    this.#io.transfer(OPCODE.WRITE, this.#file, this.#offset + at, address, length, RWF_DSYNC, this.#handler, length);
  }

  /** `length` is that of the write, by which a short one is known: what it left out is not durable. */
  completed(length: number, result: number): void {
    if (result !== length) this.#result = result < 0 ? result : -ERRNO.EIO;
    this.#settle();
  }

  #settle(): void {
    if (--this.#outstanding === 0) this.#done(this.#result);
  }
}
