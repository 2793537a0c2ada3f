/**
 * Makes room: copies what is still wanted out of the emptiest segment, so that the whole of it can be used again.
 *
 * Invariant: a segment is given back only when the copies are durable (Mover settles them; Segments counts). The cleaner
 * writes to slots that are kept for it: there is always room to make room.
 */
import { OPCODE } from "../../ublk/abi.ts";
import type { CompletionHandler, Io, IoMemory } from "../../ublk/io.ts";
import type { Geometry } from "./layout.ts";
import type { Mover } from "./mover.ts";
import type { OriginalStore } from "./original-store.ts";
import { TableSector, type TableSectorHeader } from "./table-sector.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** Free segments that it tries to keep. */
const FREE_WANTED = 4;
/** Free segments that nobody else may open. */
export const FREE_RESERVED = 2;
/** Of its slots, so many may be wanted in a segment that is worth emptying: while there is time, and when there is none. */
const GOOD_GAIN = 0.5;
const LITTLE_GAIN = 0.9;

/** How much originals find room in a store: what is kept for making room does not count. */
export function roomBytes({ segments, slotsPerSegment, blockBytes }: Geometry): number {
  return (segments - FREE_RESERVED) * slotsPerSegment * blockBytes;
}

export class Cleaner implements CompletionHandler {
  readonly #mover: Mover;
  readonly #store: OriginalStore;
  readonly #map: VersionMap;
  readonly #io: Io;
  readonly #handler: number;
  readonly #salt: number;
  readonly #memory: IoMemory;
  /** The segment that is being emptied; -1 for none. */
  #victim = -1;
  #isReading = false;
  /** What is wanted of the victim, by position; epoch 0 for a position of which nothing is. */
  readonly #blocks: Float64Array;
  readonly #epochs: Uint32Array;
  /** Positions that have been looked at. */
  #next = 0;

  constructor(mover: Mover, store: OriginalStore, map: VersionMap, salt: number, io: Io) {
    const { slotsPerSegment } = store.layout.geometry;
    this.#mover = mover;
    this.#store = store;
    this.#map = map;
    this.#salt = salt;
    this.#io = io;
    this.#handler = io.addHandler(this);
    this.#memory = io.memory(store.layout.tableBytes);
    this.#blocks = new Float64Array(slotsPerSegment);
    this.#epochs = new Uint32Array(slotsPerSegment);
  }

  get isReading(): boolean {
    return this.#isReading;
  }

  /** Room can be made for so many more, in the long run: all but the open segment may be as full as is worth emptying. */
  canMake(blocks: number): boolean {
    const { segments, slotsPerSegment } = this.#store.layout.geometry;
    return this.#map.count + blocks <= LITTLE_GAIN * (segments - FREE_RESERVED - 1) * slotsPerSegment;
  }

  /** Some room can be made, even if it is little. */
  get canGain(): boolean {
    return this.#victim >= 0 || this.#candidate(LITTLE_GAIN) >= 0;
  }

  /** A segment of which no more than that share is wanted, all of which has room elsewhere; -1 for none. */
  #candidate(share: number): number {
    const { segments, layout, room } = this.#store;
    const segment = segments.emptiest(layout.geometry.slotsPerSegment * share);
    return segment >= 0 && segments.wanted(segment) <= room - this.#mover.promised ? segment : -1;
  }

  /**
   * Goes on, at the end of a batch: chooses a segment where free ones are few, and takes into the mover what is wanted of
   * it. `isShort`: somebody waits for room, so that a small gain is worth it.
   */
  turn(isShort: boolean): void {
    if (this.#isReading) return;
    if (this.#victim < 0) {
      this.#choose(isShort);
      return;
    }
    const positions = this.#epochs.length;
    const hasSlots = (): boolean => this.#store.room > this.#mover.promised;
    while (this.#next < positions && this.#mover.hasRoom && hasSlots()) this.#take(this.#next++);
    const { segments } = this.#store;
    const isEmpty = !segments.isSealed(this.#victim) || segments.wanted(this.#victim) === 0;
    // What could not be taken, or not be written, is still where it was.
    const isOver = (this.#next === positions || !hasSlots()) && this.#mover.isIdle;
    if (!isEmpty && !isOver) return;
    this.#victim = -1;
    // At once: where all that is under way waits for room, there is no next batch.
    this.#choose(isShort);
  }

  #choose(isShort: boolean): void {
    const { segments, layout, file } = this.#store;
    if (segments.free >= FREE_WANTED) return;
    this.#victim = this.#candidate(isShort ? LITTLE_GAIN : GOOD_GAIN);
    if (this.#victim < 0) return;
    this.#isReading = true;
    const { address } = this.#memory;
    const offset = layout.tableOffset(this.#victim);
    this.#io.transfer(OPCODE.READ, file, offset, address, layout.tableBytes, 0, this.#handler, 0);
  }

  /** The victim's table has been read. */
  completed(_index: number, result: number): void {
    this.#isReading = false;
    this.#next = 0;
    this.#epochs.fill(0);
    if (result === this.#store.layout.tableBytes) this.#decode();
  }

  #decode(): void {
    const { layout, segments } = this.#store;
    const { sectorBytes } = layout.geometry;
    for (let at = 0; at < layout.tableBytes; at += sectorBytes) {
      const sector = new TableSector(new Uint8Array(this.#memory.buffer, at, sectorBytes), this.#salt);
      const header = sector.read();
      if (header?.sequence === segments.sequence(this.#victim)) this.#collect(sector, header);
    }
  }

  /** Entries may be told twice, by a sector that is full and by what it was before: the map knows which count. */
  #collect(sector: TableSector, { index, count }: TableSectorHeader): void {
    const { layout } = this.#store;
    const first = index * layout.entriesPerSector;
    for (let at = 0; at < count && first + at < this.#epochs.length; at++) {
      if (!this.#isAt(sector.block(at), sector.epoch(at), first + at)) continue;
      this.#blocks[first + at] = sector.block(at);
      this.#epochs[first + at] = sector.epoch(at);
    }
  }

  #slotOf(position: number): number {
    return this.#victim * this.#store.layout.geometry.slotsPerSegment + position;
  }

  #isAt(block: number, epoch: number, position: number): boolean {
    const version = this.#map.findExactly(block, epoch);
    return version !== NONE && this.#map.slot(version) === this.#slotOf(position);
  }

  #take(position: number): void {
    const block = this.#blocks[position] as number;
    const epoch = this.#epochs[position] as number;
    if (epoch !== 0 && this.#isAt(block, epoch, position)) this.#mover.takeStored(block, epoch, this.#slotOf(position));
  }
}
