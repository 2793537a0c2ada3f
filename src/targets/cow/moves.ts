/**
 * Blocks on their way to the store: a ring of places, each with its part of one piece of memory, into which the block is read and
 * from which it is written.
 */
import type { Io } from "../../ublk/io.ts";
import { Request } from "../../ublk/request.ts";

/** A block that the volume holds, not the store. */
export const FROM_VOLUME = -1;
/** It has none in the store, yet. */
export const NO_SLOT = -1;
/** A block gets the last epoch that there is when it is written. */
export const LAST_EPOCH = 0;

export class Moves {
  readonly address: number;
  readonly blockBytes: number;
  /** Each block's own bytes by its place. */
  readonly views: readonly Uint8Array[];
  /** Reads that begin at a place; each may go on to the end of the memory. */
  readonly reads: readonly Request[];
  /** By place. */
  readonly blocks: Float64Array;
  /** The slot that it is read from, or FROM_VOLUME. */
  readonly sources: Int32Array;
  /** The epoch that it is to get, or LAST_EPOCH; since the append, the one that it has. */
  readonly epochs: Uint32Array;
  /** ENTRY_FLAG of the table. */
  readonly flags: Uint8Array;
  /** Since the append: where it lies, and its checksum; NO_SLOT before, and where it was not appended. */
  readonly slots: Int32Array;
  readonly checksums: Uint32Array;
  /** 1 where it has been read. */
  readonly isRead: Uint8Array;

  /** `firstSlot` is the slot of its first request; it has one for each block. */
  constructor(io: Io, blocks: number, blockBytes: number, firstSlot: number) {
    const memory = io.memory(blocks * blockBytes);
    this.address = memory.address;
    this.blockBytes = blockBytes;
    const bytes = new Uint8Array(memory.buffer, 0, blocks * blockBytes);
    this.views = Array.from({ length: blocks }, (_, at) => bytes.subarray(at * blockBytes, (at + 1) * blockBytes));
    this.reads = this.views.map(
      (_, at) => new Request(firstSlot + at, bytes.subarray(at * blockBytes), this.address + at * blockBytes),
    );
    this.blocks = new Float64Array(blocks);
    this.sources = new Int32Array(blocks);
    this.epochs = new Uint32Array(blocks);
    this.flags = new Uint8Array(blocks);
    this.slots = new Int32Array(blocks);
    this.checksums = new Uint32Array(blocks);
    this.isRead = new Uint8Array(blocks);
  }

  get places(): number {
    return this.blocks.length;
  }

  set(at: number, block: number, source: number, epoch: number): void {
    this.blocks[at] = block;
    this.sources[at] = source;
    this.epochs[at] = epoch;
    this.flags[at] = 0;
    this.slots[at] = NO_SLOT;
    this.isRead[at] = 0;
  }
}
