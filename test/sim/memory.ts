/**
 * Simulated non-volatile bytes: persistent memory behind a processor's cache, or a file behind a disk's.
 *
 * What is written is `working`; what surely survives is `durable`. A power cut leaves of each unit (8 bytes of memory, a
 * sector of a file) one or the other.
 */
import type { ByteStorage } from "../../src/nvram/byte-storage.ts";
import type { Random } from "./random.ts";

export class SimMemory implements ByteStorage {
  working: Uint8Array;
  durable: Uint8Array;
  readonly #unitBytes: number;
  readonly #step: (what: string) => void;

  /** `step` is called before anything happens: the process may die there. */
  constructor(unitBytes: number, step: (what: string) => void) {
    this.#unitBytes = unitBytes;
    this.#step = step;
    this.working = new Uint8Array(0);
    this.durable = new Uint8Array(0);
  }

  get sizeBytes(): number {
    return this.working.length;
  }

  read(offset: number, lengthBytes: number): Uint8Array {
    return this.working.slice(offset, offset + lengthBytes);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#step("nvram write");
    if (offset + bytes.length > this.working.length) this.#grow(offset + bytes.length);
    // It may die in the middle, at any unit.
    for (let at = 0; at < bytes.length; at += SECTOR) {
      this.working.set(bytes.subarray(at, at + SECTOR), offset + at);
      if (at % (8 * SECTOR) === 0) this.#step("nvram write, a part");
    }
  }

  #grow(sizeBytes: number): void {
    const grow = (bytes: Uint8Array): Uint8Array => {
      const larger = new Uint8Array(sizeBytes);
      larger.set(bytes);
      return larger;
    };
    this.working = grow(this.working);
    this.durable = grow(this.durable);
  }

  sync(): void {
    this.#step("nvram sync");
    this.durable.set(this.working);
  }

  /** Writes a range back, as a processor does with cache lines. */
  persist(offset: number, lengthBytes: number): void {
    for (let at = offset; at < offset + lengthBytes; at += 64) {
      this.#step("nvram persist");
      this.durable.set(this.working.subarray(at, at + 64), at);
    }
  }

  cutPower(random: Random): void {
    const unit = this.#unitBytes;
    for (let at = 0; at < this.working.length; at += unit) {
      let differs = false;
      for (let byte = at; byte < at + unit; byte++) differs ||= this.working[byte] !== this.durable[byte];
      if (differs && random.chance(0.5)) this.durable.set(this.working.subarray(at, at + unit), at);
    }
    this.working.set(this.durable);
  }

  /** A bit turns over. */
  rot(offset: number, bit: number): void {
    this.working[offset] = (this.working[offset] as number) ^ (1 << bit);
    this.durable[offset] = this.working[offset];
  }
}

const SECTOR = 512;
