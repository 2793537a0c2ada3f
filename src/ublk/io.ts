/**
 * Input and output as a target sees it: what Ring does on real files, and what the simulator does on a disk that loses,
 * tears and reorders. A target that needs nothing else runs in both.
 */
import type { Address } from "./native.ts";

/** Who is told of a completion. `index` is what the entry was pushed with; `result` is 0, a count, or -errno. */
export interface CompletionHandler {
  completed(index: number, result: number, flags: number): void;
}

export interface IoMemory {
  readonly address: Address;
  readonly buffer: ArrayBuffer;
}

export interface Io {
  /** Adds a receiver of completions; its number goes with what is queued. */
  addHandler(handler: CompletionHandler): number;
  /** Zeroed memory for input and output, which lives as long as the ring. */
  memory(lengthBytes: number): IoMemory;
  /** Enters the kernel and hands over completions until the condition holds: for the end of a target, when nobody serves. */
  waitUntil(condition: () => boolean): void;
  /** Queues a READ or WRITE of `length` bytes at `offset` of a file of the ring; `flags` are RWF_ flags. */
  transfer(
    opcode: number,
    file: number,
    offset: number,
    address: Address,
    length: number,
    flags: number,
    handler: number,
    index: number,
  ): void;
  /** Queues a fallocate(2) of a file of the ring with the given FALLOC mode. */
  allocate(file: number, offset: number, length: number, mode: number, handler: number, index: number): void;
  /** Queues an fdatasync(2) of a file of the ring. */
  syncData(file: number, handler: number, index: number): void;
  /** Queues nothing but a completion: to go on with something after others have had their turn. */
  turn(handler: number, index: number): void;
  /** Queues a discard of a range of a block device that is a file of the ring. */
  discard(file: number, offset: number, length: number, handler: number, index: number): void;
}
