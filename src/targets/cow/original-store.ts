/**
 * Where originals go: an append-only log of blocks, in segments that are used again when nothing in them is wanted any more.
 *
 * Invariants. One append is under way at a time; when it has ended with 0, its blocks and the table entries that find them
 * are durable. No place is written to that holds the only word of something durable: a table sector that is not full goes to
 * the other of two places than the time before. What an append was interrupted in is known by the blocks' checksums.
 */
import { crc32 } from "node:zlib";
import { OPCODE, RWF_DSYNC } from "../../ublk/abi.ts";
import { ERRNO } from "../../ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../../ublk/io.ts";
import { LAST_EPOCH, type Moves } from "./moves.ts";
import type { Layout } from "./layout.ts";
import type { Segments } from "./segments.ts";
import { TableSector } from "./table-sector.ts";

/** The table of an open segment, in memory. */
interface Table {
  readonly memory: IoMemory;
  readonly sectors: readonly TableSector[];
}

export class OriginalStore implements CompletionHandler {
  readonly layout: Layout;
  readonly segments: Segments;
  readonly #io: Io;
  readonly #file: number;
  readonly #handler: number;
  /** Two, as an append may fill one segment and begin the next. */
  readonly #tables: readonly [Table, Table];
  #turn = 0;
  #segment = -1;
  /** Slots of the open segment that are taken, and those that are durable. */
  #used = 0;
  #durable = 0;
  #partialPlace = 0;
  /** Entries of the segment before the open one: those that are durable, and all. */
  #durableBefore: number;
  #entriesBefore: number;
  #settled: number;
  #outstanding = 0;
  #result = 0;
  #done: (result: number) => void = () => undefined;
  /** Something that recovery found torn has not been appended again: until then, what is before it must be looked at again. */
  hasRepairs = false;
  /** Bytes written so far, tables included. */
  writtenBytes = 0;

  /** `file` is the store's index in the ring; `settled` is what recovery found. */
  constructor(
    layout: Layout,
    salt: number,
    io: Io,
    file: number,
    found: { segments: Segments; settled: number; entriesBefore: number },
  ) {
    this.layout = layout;
    this.segments = found.segments;
    this.#settled = found.settled;
    this.#durableBefore = found.entriesBefore;
    this.#entriesBefore = found.entriesBefore;
    this.#io = io;
    this.#file = file;
    this.#handler = io.addHandler(this);
    this.#tables = [newTable(io, layout, salt), newTable(io, layout, salt)];
  }

  get file(): number {
    return this.#file;
  }

  /** Slots that can be filled before a segment must become free. */
  get room(): number {
    const { slotsPerSegment } = this.layout.geometry;
    const open = this.#segment < 0 ? 0 : slotsPerSegment - this.#used;
    return open + this.segments.free * slotsPerSegment;
  }

  /**
   * Appends `length` blocks from the place `first` on; those that have no epoch yet get `epoch`. There must be room. `done` is
   * called once, with 0 when all of it is durable, or with a negative errno when nobody knows how much of it is. Its slots
   * count as wanted from now on. After an append that has failed there is no other: it would tell of what is not there.
   */
  append(moves: Moves, first: number, length: number, epoch: number, done: (result: number) => void): void {
    this.#done = done;
    this.#outstanding = 1;
    for (let at = first; at < first + length && this.#result === 0;) {
      if (this.#segment < 0 || this.#used === this.layout.geometry.slotsPerSegment) this.#openNext();
      const count = Math.min(first + length - at, this.layout.geometry.slotsPerSegment - this.#used);
      this.#write(moves, at, count, epoch);
      at += count;
    }
    this.#settle();
  }

  #openNext(): void {
    if (this.#segment >= 0) {
      this.#durableBefore = this.#durable;
      this.#entriesBefore = this.#used;
      this.segments.seal(this.#segment);
    }
    this.#segment = this.segments.open();
    this.#used = 0;
    this.#durable = 0;
    this.#turn = 1 - this.#turn;
  }

  #write(moves: Moves, at: number, count: number, epoch: number): void {
    const { layout } = this;
    const { blockBytes, slotsPerSegment } = layout.geometry;
    const first = this.#used;
    const firstSlot = this.#segment * slotsPerSegment + first;
    const table = this.#tables[this.#turn] as Table;
    for (let index = at; index < at + count; index++) {
      if (moves.epochs[index] === LAST_EPOCH) moves.epochs[index] = epoch;
      moves.slots[index] = firstSlot + index - at;
      moves.checksums[index] = crc32(moves.views[index] as Uint8Array);
      this.segments.want(this.#segment);
      this.#enter(table, first + index - at, moves, index);
    }
    this.#used += count;
    this.#transfer(layout.slotOffset(firstSlot), moves.address + at * blockBytes, count * blockBytes);
    this.#writeTable(table, first);
  }

  #enter(table: Table, entry: number, moves: Moves, index: number): void {
    const { entriesPerSector } = this.layout;
    const sector = table.sectors[Math.floor(entry / entriesPerSector)] as TableSector;
    sector.setEntry(
      entry % entriesPerSector,
      moves.blocks[index] as number,
      moves.flags[index] as number,
      moves.epochs[index] as number,
      moves.checksums[index] as number,
    );
  }

  /** Writes the table sectors that hold entries from `first` on. */
  #writeTable(table: Table, first: number): void {
    const { layout } = this;
    const { sectorBytes } = layout.geometry;
    const from = Math.floor(first / layout.entriesPerSector);
    let index = from;
    for (let start = index * layout.entriesPerSector; start < this.#used; start += layout.entriesPerSector, index++) {
      const count = Math.min(this.#used - start, layout.entriesPerSector);
      const sequence = this.segments.sequence(this.#segment);
      const sector = table.sectors[index] as TableSector;
      sector.seal(sequence, index, count, this.#durable, this.#settled, this.#durableBefore);
      if (count < layout.entriesOf(index)) {
        this.#partialPlace = 1 - this.#partialPlace;
        const place = layout.tableOffset(this.#segment) + this.#partialPlace * sectorBytes;
        this.#transfer(place, table.memory.address + index * sectorBytes, sectorBytes);
        break;
      }
    }
    if (index > from) {
      const address = table.memory.address + from * sectorBytes;
      this.#transfer(layout.fullSectorOffset(this.#segment, from), address, (index - from) * sectorBytes);
    }
  }

  #transfer(offset: number, address: number, length: number): void {
    this.#outstanding++;
    this.writtenBytes += length;
    this.#io.transfer(OPCODE.WRITE, this.#file, offset, address, length, RWF_DSYNC, this.#handler, length);
  }

  /** `length` is that of the write, by which a short one is known: what it left out is not durable. */
  completed(length: number, result: number): void {
    if (result !== length) this.#result = result < 0 ? result : -ERRNO.EIO;
    this.#settle();
  }

  #settle(): void {
    if (--this.#outstanding > 0) return;
    if (this.#result === 0) {
      this.#durable = this.#used;
      this.#durableBefore = this.#entriesBefore;
      if (!this.hasRepairs) this.#settled = this.segments.sequence(this.#segment) - 1;
    }
    this.#done(this.#result);
  }
}

function newTable(io: Io, layout: Layout, salt: number): Table {
  const { sectorBytes } = layout.geometry;
  const memory = io.memory(layout.fullSectors * sectorBytes);
  const sectors = Array.from(
    { length: layout.fullSectors },
    (_, index) => new TableSector(new Uint8Array(memory.buffer, index * sectorBytes, sectorBytes), salt),
  );
  return { memory, sectors };
}
