/**
 * Moves blocks to the store: reads them, appends them, and has the map find them.
 *
 * Invariants. A block that is on its way is pending in the map, and nobody changes it in the volume until it is settled. What
 * cannot be read is entered as lost: whoever wants that block is told so, and nobody else. Blocks are appended in the order in
 * which they were taken. One append is under way at a time; the next one waits for the reads that are under way when it could
 * begin, and no longer: what they bring shares it, and its barrier. A disk that has more to do than it can thus writes less.
 */
import { crc32 } from "node:zlib";
import { OPCODE } from "../../ublk/abi.ts";
import type { CompletionHandler } from "../../ublk/io.ts";
import { Operation, type Layer, type Request, type Submission } from "../../ublk/request.ts";
import type { TargetContext } from "../../ublk/target.ts";
import { COW_COUNT, type CowCounts } from "./cow-counts.ts";
import { FROM_VOLUME, Moves, NO_SLOT } from "./moves.ts";
import type { OriginalStore } from "./original-store.ts";
import type { Points } from "./points.ts";
import { ENTRY_FLAG } from "./table-sector.ts";
import type { Tuning } from "./tuning.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** Appends' worth of blocks that may be on their way: one that is written, and those that are read meanwhile. */
export const APPENDS = 3;

export interface MoverParts {
  readonly store: OriginalStore;
  readonly map: VersionMap;
  readonly points: Points;
  readonly next: Submission;
  readonly volumeBytes: number;
  readonly tuning: Tuning;
  readonly counts: CowCounts;
  /** The first of its slots in `next`. */
  readonly firstSlot: number;
}

export class Mover implements Layer, CompletionHandler {
  readonly #parts: MoverParts;
  readonly #io: TargetContext["ring"];
  readonly #handler: number;
  readonly #blockBytes: number;
  /** Blocks that one append takes at most. */
  readonly #appendMost: number;
  readonly #moves: Moves;
  /** The place of the oldest that is on its way; how many are, how many of them are read or being read, and appended. */
  #first = 0;
  #count = 0;
  #started = 0;
  #appending = 0;
  /** So many of the oldest are to be read before the next append; 0 while none of them is. */
  #awaited = 0;
  /** Blocks that have ever been taken, and have ended. */
  taken = 0;
  ended = 0;
  readonly #appended = (result: number): void => this.#end(result);
  /** Told when an append has ended, with 0 or a negative errno: its blocks are settled, or are pending no more. */
  whenMoved: (result: number) => void = () => undefined;

  constructor(parts: MoverParts, context: TargetContext) {
    const { groupBlocks } = parts.tuning;
    this.#parts = parts;
    this.#io = context.ring;
    this.#handler = context.ring.addHandler(this);
    this.#blockBytes = parts.store.layout.geometry.blockBytes;
    // An append fills one segment at most before the next: the store has two tables in memory.
    this.#appendMost = Math.min(groupBlocks, parts.store.layout.geometry.slotsPerSegment);
    this.#moves = new Moves(context.ring, APPENDS * groupBlocks, this.#blockBytes, parts.firstSlot);
  }

  /** Another block can be taken. */
  get hasRoom(): boolean {
    return this.#count < this.#moves.places;
  }

  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Slots of the store that are spoken for, but not taken yet. What is being appended has its slots. */
  get promised(): number {
    return this.#count - this.#appending;
  }

  /** Takes a block of the volume, which is pending in the map. */
  takeOriginal(block: number, epoch: number): void {
    this.#take(block, FROM_VOLUME, epoch);
  }

  /** Takes a version that is to be copied within the store. */
  takeStored(block: number, epoch: number, slot: number): void {
    this.#take(block, slot, epoch);
  }

  #take(block: number, source: number, epoch: number): void {
    this.#moves.set(this.#placeAfter(this.#count++), block, source, epoch);
    this.taken++;
  }

  /** The place of the block that so many were taken before, of those that are on their way. */
  #placeAfter(count: number): number {
    return (this.#first + count) % this.#moves.places;
  }

  /** Reads what was taken. */
  start(): void {
    while (this.#started < this.#count) {
      const at = this.#placeAfter(this.#started);
      const length = this.#runFrom(at, Math.min(this.#count - this.#started, this.#moves.places - at));
      this.#started += length;
      this.#read(at, length);
    }
  }

  /** Appends what has been read, unless an append is under way, or reads are that it waits for. */
  append(): void {
    // A store that has failed ends each append at once.
    while (this.#appending === 0) {
      const count = this.#countRead();
      if (count === 0) return;
      if (this.#awaited === 0) this.#awaited = this.#appendable;
      if (count < this.#awaited) return;
      this.#awaited = 0;
      this.#appending = count;
      this.#parts.store.append(this.#moves, this.#first, count, this.#parts.points.lastEpoch, this.#appended);
    }
  }

  /** Of the oldest, so many can be appended at once when they have been read. */
  get #appendable(): number {
    return Math.min(this.#started, this.#appendMost, this.#moves.places - this.#first);
  }

  /** So many of them have been. */
  #countRead(): number {
    const { isRead } = this.#moves;
    const most = this.#appendable;
    let count = 0;
    while (count < most && isRead[this.#first + count] === 1) count++;
    return count;
  }

  /** Blocks from `at` on that can be read at once. */
  #runFrom(at: number, most: number): number {
    const { sources, blocks } = this.#moves;
    if (sources[at] !== FROM_VOLUME) return 1;
    const block = blocks[at] as number;
    const end = Math.min(most, this.#appendMost);
    let length = 1;
    while (length < end && sources[at + length] === FROM_VOLUME && blocks[at + length] === block + length) length++;
    return length;
  }

  #read(at: number, count: number): void {
    const { next, store, volumeBytes } = this.#parts;
    const { sources, blocks, address, reads, views } = this.#moves;
    const source = sources[at] as number;
    if (source !== FROM_VOLUME) {
      this.#io.transfer(
        OPCODE.READ,
        store.file,
        store.layout.slotOffset(source),
        address + at * this.#blockBytes,
        this.#blockBytes,
        0,
        this.#handler,
        at,
      );
      return;
    }
    const request = reads[at] as Request;
    request.operation = Operation.READ;
    request.offset = (blocks[at] as number) * this.#blockBytes;
    request.length = Math.min(count * this.#blockBytes, volumeBytes - request.offset);
    // The volume's last block may be no whole one.
    if (request.length < count * this.#blockBytes) (views[at + count - 1] as Uint8Array).fill(0);
    this.#parts.counts.add(COW_COUNT.readBytes, request.length);
    request.pass(next, this);
  }

  /** A read of the volume has ended. */
  answered(request: Request, result: number): void {
    const at = request.slot - this.#parts.firstSlot;
    const count = Math.ceil(request.length / this.#blockBytes);
    if (result < 0 && count > 1) {
      for (let each = at; each < at + count; each++) this.#read(each, 1);
      return;
    }
    if (result < 0) this.#lose(at);
    this.#moves.isRead.fill(1, at, at + count);
  }

  /** A read of the store has ended. */
  completed(at: number, result: number): void {
    const { map } = this.#parts;
    const { blocks, epochs, sources, isRead } = this.#moves;
    const version = map.findExactly(blocks[at] as number, epochs[at] as number);
    // What is not there any more may have been overwritten while it was read: nobody wants it.
    const isStillThere = version !== NONE && map.slot(version) === sources[at];
    if (isStillThere && (result !== this.#blockBytes || !this.#isWhole(at, version))) this.#lose(at);
    isRead[at] = 1;
  }

  #isWhole(at: number, version: number): boolean {
    if ((this.#parts.map.flags(version) & ENTRY_FLAG.LOST) !== 0) return false;
    return crc32(this.#moves.views[at] as Uint8Array) === this.#parts.map.checksum(version);
  }

  #lose(at: number): void {
    this.#parts.counts.add(COW_COUNT.lost);
    this.#moves.flags[at] = ENTRY_FLAG.LOST;
    (this.#moves.views[at] as Uint8Array).fill(0);
  }

  #end(result: number): void {
    const count = this.#appending;
    for (let at = this.#first; at < this.#first + count; at++) {
      if (this.#moves.sources[at] === FROM_VOLUME) this.#endOriginal(at, result);
      else this.#endStored(at, result);
    }
    this.#first = this.#placeAfter(count);
    this.#count -= count;
    this.#started -= count;
    this.#appending = 0;
    this.ended += count;
    this.whenMoved(result);
  }

  /** Gives back what was taken and is not being read. */
  abandon(): void {
    const { map } = this.#parts;
    const { sources, blocks } = this.#moves;
    for (; this.#count > this.#started; this.#count--) {
      const at = this.#placeAfter(this.#count - 1);
      if (sources[at] === FROM_VOLUME) map.remove(map.newest(blocks[at] as number));
    }
  }

  #endOriginal(at: number, result: number): void {
    const { map, points } = this.#parts;
    const { blocks, slots, epochs, checksums, flags } = this.#moves;
    const version = map.newest(blocks[at] as number);
    const epoch = epochs[at] as number;
    const older = map.older(version);
    if (result === 0) {
      this.#parts.counts.add(COW_COUNT.moved);
      map.settle(version, epoch, slots[at] as number, checksums[at] as number, flags[at] as number);
      // Whoever wanted it may have gone meanwhile.
      if (points.isWanted(map.block(version), older === NONE ? 0 : map.epoch(older), epoch)) return;
    }
    map.remove(version);
    this.#giveBack(at);
  }

  #giveBack(at: number): void {
    const { segments, layout } = this.#parts.store;
    const slot = this.#moves.slots[at] as number;
    if (slot !== NO_SLOT) segments.unwant(layout.segmentOf(slot));
  }

  #endStored(at: number, result: number): void {
    const { map, store } = this.#parts;
    const { blocks, slots, epochs, checksums, flags, sources } = this.#moves;
    const version = map.findExactly(blocks[at] as number, epochs[at] as number);
    const source = sources[at] as number;
    const slot = slots[at] as number;
    const isStillThere = version !== NONE && map.slot(version) === source;
    if (result !== 0 || !isStillThere) {
      this.#giveBack(at);
      return;
    }
    this.#parts.counts.add(COW_COUNT.relocated);
    map.move(version, slot, flags[at] as number, checksums[at] as number);
    store.segments.unwant(store.layout.segmentOf(source));
  }
}
