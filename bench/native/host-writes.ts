/** A host without a kernel: writes to a target from this process, as many at a time as there are slots. */
import { MappedMemory } from "../../src/ublk/memory.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import type { Target } from "../../src/ublk/target.ts";

export class HostWrites implements Layer, Disposable {
  readonly #memory: MappedMemory;
  readonly #idle: Request[];
  readonly #writeBytes: number;
  /** By slot: when it was begun; Infinity where none is under way. */
  readonly #beganMs: Float64Array;
  /** Told of each write that has ended. */
  whenEnded: (beganMs: number, endedMs: number) => void = () => undefined;
  ended = 0;

  constructor(depth: number, writeBytes: number) {
    this.#writeBytes = writeBytes;
    this.#memory = MappedMemory.anonymous(depth * writeBytes);
    this.#idle = Array.from({ length: depth }, (_, slot) => {
      const buffer = new Uint8Array(this.#memory.buffer, slot * writeBytes, writeBytes);
      return new Request(slot, buffer, this.#memory.address + slot * writeBytes);
    });
    this.#beganMs = new Float64Array(depth).fill(Infinity);
  }

  /** Of the oldest write that is under way; Infinity where there is none. */
  get oldestBeganMs(): number {
    return Math.min(...this.#beganMs);
  }

  /** Begins as many writes as there are idle slots, but no more than `most`; each at the next offset. */
  begin(target: Target, most: number, nextOffset: () => number): void {
    // What is answered at once is written again at the next call.
    for (let count = Math.min(this.#idle.length, most); count > 0; count--) {
      const request = this.#idle.shift() as Request;
      request.operation = Operation.WRITE;
      request.offset = nextOffset();
      request.length = this.#writeBytes;
      this.#beganMs[request.slot] = performance.now();
      request.pass(target, this);
    }
  }

  answered(request: Request, result: number): void {
    if (result !== this.#writeBytes) throw new Error(`a write at ${request.offset} ended with ${result}`);
    this.#idle.push(request);
    this.ended++;
    const beganMs = this.#beganMs[request.slot] as number;
    this.#beganMs[request.slot] = Infinity;
    this.whenEnded(beganMs, performance.now());
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}
