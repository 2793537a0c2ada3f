/**
 * Which blocks were written since the last consistency point, and where the remote has the newest bytes of each already.
 *
 * Invariant: the last write to a block decides. A block that was last written as a whole is a reference to that write, which
 * the remote has in its log, or is zeroes; one that was last written in part has to travel as data, whatever was known of
 * it before. A later write of all of it makes it a reference again.
 *
 * Bounded: there is room for so many blocks, and where it ends a consistency point has to be begun. The memory may be
 * shared, so that another thread plans the point while this one fills the next half.
 */
import { UblkError } from "../../ublk/errors.ts";

/** How many blocks may have been written between two points at most: a plan sorts them by numbers below 2^53. */
export const DIRTY_BLOCKS_MAX = 2 ** 20;
/** Sectors of data in a transfer at most: with its table it is a frame of at most 4 MiB (docs/protocol.md). */
export const TRANSFER_SECTORS_MAX = 8192 - 64;
/** How many transfers may lie between two points at most. */
export const TRANSFERS_MAX = 2 ** 20;

/** In place of the sector in a transfer: no reference. */
const PARTIAL = 0xffff;
const ZERO = 0xfffe;
/** Partial, and what it holds at the point's cut has been read. */
const PARTIAL_READ = 0xfffd;

const NOBODY = -1;

export interface DirtyBlocksOptions {
  /** Room for so many blocks, at most DIRTY_BLOCKS_MAX. */
  readonly capacity: number;
  /** Of the volume, whose last block may be a short one. */
  readonly volumeSectors: number;
  readonly blockSectors: number;
}

/** The size of what a DirtyBlocks lies in. */
export function dirtyBlocksBytes(capacity: number): number {
  return 8 + 4 * capacity + 4 * capacity + 4 * hashSlots(capacity) + 2 * capacity;
}

function hashSlots(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(capacity * 2));
}

export class DirtyBlocks {
  readonly capacity: number;
  readonly blockSectors: number;
  readonly #volumeSectors: number;
  /** Blocks, and those of them that have to travel. */
  readonly #count: Int32Array;
  readonly #blocks: Uint32Array;
  readonly #transfers: Uint32Array;
  readonly #places: Uint16Array;
  /** Entry of a block, by its hash; open addressing, and never more than half full. */
  readonly #slots: Int32Array;
  readonly #shift: number;

  /** `memory` of dirtyBlocksBytes(), as whoever used it last left it: `clear` empties it. Throws ESIZE for what is out of bounds. */
  constructor(memory: ArrayBufferLike, { capacity, volumeSectors, blockSectors }: DirtyBlocksOptions) {
    if (volumeSectors / blockSectors > 2 ** 32) {
      throw new UblkError(
        "ESIZE",
        `${volumeSectors} sectors are more than 2^32 blocks of ${blockSectors}: take larger ones`,
      );
    }
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > DIRTY_BLOCKS_MAX) {
      throw new UblkError("ESIZE", `Room for ${capacity} blocks: wanted 1 to ${DIRTY_BLOCKS_MAX}`);
    }
    const slots = hashSlots(capacity);
    this.capacity = capacity;
    this.blockSectors = blockSectors;
    this.#volumeSectors = volumeSectors;
    this.#count = new Int32Array(memory, 0, 2);
    this.#blocks = new Uint32Array(memory, 8, capacity);
    this.#transfers = new Uint32Array(memory, 8 + 4 * capacity, capacity);
    this.#slots = new Int32Array(memory, 8 + 8 * capacity, slots);
    this.#places = new Uint16Array(memory, 8 + 8 * capacity + 4 * slots, capacity);
    this.#shift = 32 - Math.log2(slots);
  }

  clear(): void {
    this.#count.fill(0);
    this.#slots.fill(NOBODY);
  }

  get count(): number {
    return this.#count[0] as number;
  }

  /** How many blocks have to travel. */
  get partials(): number {
    return this.#count[1] as number;
  }

  /** Whether there is room for a write, however many of its blocks are new, and for so many blocks besides. */
  admits(sector: number, sectors: number, besides = 0): boolean {
    const touched = Math.floor((sector + sectors - 1) / this.blockSectors) - Math.floor(sector / this.blockSectors) + 1;
    return this.count + touched + besides <= this.capacity;
  }

  /** A write whose data are in a transfer, from the sector `place` of its data on; there must be room (`admits`). */
  wroteData(sector: number, sectors: number, transfer: number, place: number): void {
    this.#wrote(sector, sectors, transfer, place);
  }

  /** Zeroes were written, or the range was discarded and reads as zeroes. */
  wroteZeroes(sector: number, sectors: number): void {
    this.#wrote(sector, sectors, 0, ZERO);
  }

  /** What a write left there is not known: it failed. All that it touched has to travel. */
  wroteUnknown(sector: number, sectors: number): void {
    this.#wrote(sector, sectors, 0, PARTIAL);
  }

  #wrote(sector: number, sectors: number, transfer: number, place: number): void {
    const end = sector + sectors;
    for (let block = Math.floor(sector / this.blockSectors); block * this.blockSectors < end; block++) {
      const begin = block * this.blockSectors;
      const entry = this.#entryFor(block);
      if (begin < sector || this.#endOf(begin) > end || place === PARTIAL) {
        this.#setPlace(entry, PARTIAL);
        continue;
      }
      this.#transfers[entry] = transfer;
      this.#setPlace(entry, place === ZERO ? ZERO : place + (begin - sector));
    }
  }

  #setPlace(entry: number, place: number): void {
    if (this.isPartial(entry)) this.#count[1] = this.partials - 1;
    this.#places[entry] = place;
    if (this.isPartial(entry)) this.#count[1] = this.partials + 1;
  }

  #endOf(begin: number): number {
    return Math.min(begin + this.blockSectors, this.#volumeSectors);
  }

  #entryFor(block: number): number {
    const slot = this.#slotOf(block);
    const entry = this.#slots[slot] as number;
    return entry === NOBODY ? this.#add(block, slot) : entry;
  }

  /** Where the entry of a block is, or would be. */
  #slotOf(block: number): number {
    const mask = this.#slots.length - 1;
    let slot = Math.imul(block, 0x9e3779b1) >>> this.#shift;
    for (;;) {
      const entry = this.#slots[slot] as number;
      if (entry === NOBODY || this.#blocks[entry] === block) return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** Whether a block was written. */
  has(block: number): boolean {
    return (this.#slots[this.#slotOf(block)] as number) !== NOBODY;
  }

  /** Whether any block of a range has to travel, and what it holds now has not been read yet. */
  hasUnread(sector: number, sectors: number): boolean {
    const end = sector + sectors;
    for (let block = Math.floor(sector / this.blockSectors); block * this.blockSectors < end; block++) {
      const entry = this.#slots[this.#slotOf(block)] as number;
      if (entry !== NOBODY && this.#places[entry] === PARTIAL) return true;
    }
    return false;
  }

  /** What these blocks hold has been read. */
  markRead(block: number, blocks: number): void {
    for (let each = block; each < block + blocks; each++) {
      const entry = this.#slots[this.#slotOf(each)] as number;
      if (entry !== NOBODY && this.#places[entry] === PARTIAL) this.#places[entry] = PARTIAL_READ;
    }
  }

  /** Takes over what was written before what is here, for which there must be room; what was written since stays as it is. */
  absorb(older: DirtyBlocks): void {
    for (let index = 0; index < older.count; index++) {
      const slot = this.#slotOf(older.blockOf(index));
      if (this.#slots[slot] !== NOBODY) continue;
      const entry = this.#add(older.blockOf(index), slot);
      this.#transfers[entry] = older.transferOf(index);
      this.#setPlace(entry, older.isPartial(index) ? PARTIAL : older.placeOf(index));
    }
  }

  #add(block: number, slot: number): number {
    const entry = this.count;
    if (entry === this.capacity) throw new UblkError("EFULL", `There is room for ${entry} written blocks, and no more`);
    this.#blocks[entry] = block;
    // What an earlier block has left here counts for nothing.
    this.#places[entry] = ZERO;
    this.#slots[slot] = entry;
    this.#count[0] = entry + 1;
    return entry;
  }

  /** Entries are 0 to `count - 1`, in the order in which their blocks were first written. */
  blockOf(entry: number): number {
    return this.#blocks[entry] as number;
  }

  /** It has to travel as data. */
  isPartial(entry: number): boolean {
    const place = this.#places[entry];
    return place === PARTIAL || place === PARTIAL_READ;
  }

  isZero(entry: number): boolean {
    return this.#places[entry] === ZERO;
  }

  /** Number of the transfer, and the first sector in its data, of an entry that is neither. */
  transferOf(entry: number): number {
    return this.#transfers[entry] as number;
  }

  placeOf(entry: number): number {
    return this.#places[entry] as number;
  }
}
