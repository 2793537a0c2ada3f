/**
 * The source's log: the host's writes in the order in which they took place, in transfers, in memory that one thread fills (the
 * one that serves the host) and another empties (the one that has the link).
 *
 * Invariants. A transfer that is closed does not change until it is released; one that is open belongs to the writer alone.
 * Nothing is overwritten that has not been released. Bounded: where there is no room, `append` says so and nothing has changed.
 * Transfers are numbered one by one, and the numbers go round after 2^32.
 *
 * A transfer is closed when it is full, or when the link waits for one: so the slower the link, the larger they are.
 */
import { TRANSFER_SECTORS_MAX } from "./dirty-blocks.ts";
import { encodeEntry, encodeHead, ENTRY_KIND, SECTOR_BYTES, tableBytes, type EntryKind } from "./transfer.ts";

/** Writes in one transfer at most. */
export const RING_ENTRIES = 256;

/** Numbers that both threads share, by their place. */
const WORD = {
  /** Transfers before this one are closed. */
  closed: 0,
  /** Transfers before this one are released. */
  released: 1,
  /** The link has taken all that is closed, and waits. */
  isWaiting: 2,
  /** There is something in the transfer that is open. */
  hasOpen: 3,
} as const;
const WORDS = 8;
/** Of a slot, each a Float64: where its data begin, its sequence, its entries, its sectors of data. */
const SLOT = { position: 0, sequence: 1, entries: 2, sectors: 3 } as const;
const SLOT_NUMBERS = 4;
const NUMBERS = 2 ** 32;

export interface TransferRingSize {
  /** Transfers that are kept at most: a power of two. */
  readonly slots: number;
  /** Data that are kept at most: a power of two, and at least two of the host's largest writes. */
  readonly dataBytes: number;
}

/** The size of the memory that a ring lies in; all of it is zero at first. */
export function transferRingBytes({ slots, dataBytes }: TransferRingSize): number {
  return WORDS * 4 + slots * (SLOT_NUMBERS * 8 + tableBytes(RING_ENTRIES)) + dataBytes;
}

/** A closed transfer, as it lies in the ring: valid until it is released. */
export interface ClosedTransfer {
  readonly number: number;
  /** Sequence of the first and of the last write in it. */
  readonly firstSequence: number;
  readonly lastSequence: number;
  /** What goes before the data, as it is on the wire. */
  readonly table: Uint8Array;
  /** The data: two pieces where they go round the end of the ring. */
  readonly pieces: readonly Uint8Array[];
}

/** What both sides see: each makes its own over the same memory. */
class RingMemory {
  readonly words: Int32Array;
  readonly numbers: Float64Array;
  readonly tables: Uint8Array;
  readonly data: Uint8Array;
  readonly slots: number;
  readonly tableBytes = tableBytes(RING_ENTRIES);

  constructor(memory: ArrayBufferLike, { slots, dataBytes }: TransferRingSize) {
    const numbersAt = WORDS * 4;
    const tablesAt = numbersAt + slots * SLOT_NUMBERS * 8;
    const dataAt = tablesAt + slots * this.tableBytes;
    this.slots = slots;
    this.words = new Int32Array(memory, 0, WORDS);
    this.numbers = new Float64Array(memory, numbersAt, slots * SLOT_NUMBERS);
    this.tables = new Uint8Array(memory, tablesAt, slots * this.tableBytes);
    this.data = new Uint8Array(memory, dataAt, dataBytes);
  }

  load(word: number): number {
    return Atomics.load(this.words, word) >>> 0;
  }

  store(word: number, value: number): void {
    Atomics.store(this.words, word, value | 0);
  }

  slotOf(number: number): number {
    return number % this.slots;
  }

  get(number: number, field: number): number {
    return this.numbers[this.slotOf(number) * SLOT_NUMBERS + field] as number;
  }

  set(number: number, field: number, value: number): void {
    this.numbers[this.slotOf(number) * SLOT_NUMBERS + field] = value;
  }

  /** How many transfers lie from `from` to before `to`. */
  static between(from: number, to: number): number {
    return (to - from + NUMBERS) % NUMBERS;
  }
}

/** The side that serves the host. Nothing here allocates, but where data go round the end of the ring. */
export class TransferWriter {
  readonly #ring: RingMemory;
  readonly #tableView: DataView;
  /** Number of the open transfer; it has taken its slot when it has an entry. */
  #number: number;
  #entries = 0;
  #sectors = 0;
  /** Where the next data go: a position that only grows. */
  #position: number;
  #sequence: number;
  /** Where the data of the last append are. */
  transfer = 0;
  place = 0;

  /** `number` is that of the next transfer, `sequence` that of the next write: both go on from there. */
  constructor(
    memory: ArrayBufferLike,
    size: TransferRingSize,
    first: { readonly number: number; readonly sequence: number },
  ) {
    this.#ring = new RingMemory(memory, size);
    this.#number = first.number;
    this.#sequence = first.sequence;
    this.#position = 0;
    const { tables } = this.#ring;
    this.#tableView = new DataView(tables.buffer, tables.byteOffset, tables.byteLength);
    this.#ring.store(WORD.closed, first.number);
    this.#ring.store(WORD.released, first.number);
  }

  /** Number of the transfer that is open: all before it are closed. */
  get open(): number {
    return this.#number;
  }

  /** Sequence of the write that was appended last. */
  get lastSequence(): number {
    return this.#sequence - 1;
  }

  /** Appends a write of these bytes, a whole number of sectors; false where there is no room now. */
  appendData(sector: number, bytes: Uint8Array): boolean {
    const sectors = bytes.length / SECTOR_BYTES;
    if (!this.#makeRoom(sectors)) return false;
    const { data } = this.#ring;
    const at = this.#position % data.length;
    const rest = data.length - at;
    this.transfer = this.#number;
    this.place = this.#sectors;
    if (bytes.length <= rest) data.set(bytes, at);
    else {
      data.set(bytes.subarray(0, rest), at);
      data.set(bytes.subarray(rest), 0);
    }
    this.#enter(ENTRY_KIND.DATA, sector, sectors);
    this.#position += bytes.length;
    this.#sectors += sectors;
    return true;
  }

  /** Appends that zeroes were written; false where there is no room now. */
  appendZeroes(sector: number, sectors: number): boolean {
    if (!this.#makeRoom(0)) return false;
    this.transfer = this.#number;
    this.place = 0;
    this.#enter(ENTRY_KIND.ZEROES, sector, sectors);
    return true;
  }

  /** Whether there is room for a write with so many sectors of data. */
  admits(sectors: number): boolean {
    const ring = this.#ring;
    const released = ring.load(WORD.released);
    const kept = RingMemory.between(released, this.#number);
    // The oldest that is kept may be the open one.
    const from = kept === 0 ? this.#position - this.#sectors * SECTOR_BYTES : ring.get(released, SLOT.position);
    if (this.#position + sectors * SECTOR_BYTES - from > ring.data.length) return false;
    return kept + (this.#isTooFullFor(sectors) ? 2 : 1) <= ring.slots;
  }

  #isTooFullFor(sectors: number): boolean {
    return this.#entries === RING_ENTRIES || this.#sectors + sectors > TRANSFER_SECTORS_MAX;
  }

  /** Has room for another write in the open transfer; false where there is none anywhere. */
  #makeRoom(sectors: number): boolean {
    if (!this.admits(sectors)) return false;
    if (this.#isTooFullFor(sectors)) this.close();
    return true;
  }

  #enter(kind: EntryKind, sector: number, sectors: number): void {
    const ring = this.#ring;
    if (this.#entries === 0) {
      ring.set(this.#number, SLOT.position, this.#position);
      ring.set(this.#number, SLOT.sequence, this.#sequence);
      ring.store(WORD.hasOpen, 1);
    }
    const table = ring.slotOf(this.#number) * ring.tableBytes;
    encodeEntry(this.#tableView, table, this.#entries, kind, sector, sectors);
    this.#entries++;
    this.#sequence++;
  }

  /** The link waits for a transfer, and there is one: to be closed at the end of a batch. */
  get isWanted(): boolean {
    return this.#entries > 0 && this.#ring.load(WORD.isWaiting) === 1;
  }

  /** Closes the open transfer, if there is anything in it. */
  close(): void {
    if (this.#entries === 0) return;
    const ring = this.#ring;
    ring.set(this.#number, SLOT.entries, this.#entries);
    ring.set(this.#number, SLOT.sectors, this.#sectors);
    this.#number = (this.#number + 1) % NUMBERS;
    this.#entries = 0;
    this.#sectors = 0;
    ring.store(WORD.hasOpen, 0);
    ring.store(WORD.isWaiting, 0);
    ring.store(WORD.closed, this.#number);
    Atomics.notify(ring.words, WORD.closed);
  }
}

/** The side that has the link. */
export class TransferReader {
  readonly #ring: RingMemory;
  readonly #incarnation: number;
  #log = 0;

  constructor(memory: ArrayBufferLike, size: TransferRingSize, incarnation: number) {
    this.#ring = new RingMemory(memory, size);
    this.#incarnation = incarnation;
  }

  /** Transfers from `first` to before `end` are there. */
  get first(): number {
    return this.#ring.load(WORD.released);
  }

  get end(): number {
    return this.#ring.load(WORD.closed);
  }

  /** How many transfers lie from `first` to before `number`. */
  ageOf(number: number): number {
    return RingMemory.between(this.first, number);
  }

  /** Whether a transfer is there to be sent, now or again. */
  has(number: number): boolean {
    return this.ageOf(number) < this.ageOf(this.end);
  }

  /** Of a transfer that is there: its table and its data. */
  bytesOf(number: number): number {
    const ring = this.#ring;
    return tableBytes(ring.get(number, SLOT.entries)) + ring.get(number, SLOT.sectors) * SECTOR_BYTES;
  }

  /** A transfer that is there. `isAwaited`: somebody waits until it is in the receiver's memory. */
  take(number: number, isAwaited: boolean): ClosedTransfer {
    const ring = this.#ring;
    const entries = ring.get(number, SLOT.entries);
    const sectors = ring.get(number, SLOT.sectors);
    const firstSequence = ring.get(number, SLOT.sequence);
    const at = ring.slotOf(number) * ring.tableBytes;
    const table = ring.tables.subarray(at, at + tableBytes(entries));
    const head = { incarnation: this.#incarnation, number, sequence: firstSequence, log: this.#log, isAwaited };
    encodeHead(table, head, entries, sectors);
    return {
      number,
      firstSequence,
      lastSequence: firstSequence + entries - 1,
      table,
      pieces: this.#pieces(ring.get(number, SLOT.position), sectors * SECTOR_BYTES),
    };
  }

  #pieces(position: number, length: number): Uint8Array[] {
    const { data } = this.#ring;
    const at = position % data.length;
    const rest = data.length - at;
    if (length <= rest) return length === 0 ? [] : [data.subarray(at, at + length)];
    return [data.subarray(at), data.subarray(0, length - rest)];
  }

  /** How often the log has begun anew. */
  get log(): number {
    return this.#log;
  }

  /** The log begins anew with this transfer. */
  beginAt(number: number): void {
    this.#log++;
    this.release(number);
  }

  /** Transfers before this one are needed no more. */
  release(number: number): void {
    this.#ring.store(WORD.released, number);
  }

  /**
   * Resolves when there is something beyond `end` as it was known, whenever that is; at once where there is already. `wake` has
   * the writer look at what it is wanted to do, where the host may have nothing more to do: what is open may be all that there is.
   */
  async waitBeyond(end: number, wake: () => void): Promise<void> {
    const { words } = this.#ring;
    this.#ring.store(WORD.isWaiting, 1);
    // Who appends after this sees that the link waits.
    if (this.#ring.load(WORD.hasOpen) === 1) wake();
    const waiting = Atomics.waitAsync(words, WORD.closed, end | 0);
    if (waiting.async) await waiting.value;
  }
}
