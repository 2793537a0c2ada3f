/**
 * Brings the receiver's image forward by what its log has behind a closed point: the host's writes themselves, one after the
 * other, as the source has made them.
 *
 * Invariants. Writes to the same place take place in their order. The image gets whole blocks only: of one that is written in
 * part, the rest is what it was. Whatever it is interrupted in, it does the same from the beginning again. It has ended well
 * only when the image was flushed after the last write. Bounded: one transfer and so many writes are in memory.
 */
import { ERRNO } from "../ublk/errors.ts";
import type { Io, IoMemory } from "../ublk/io.ts";
import { Operation, Request, type Layer } from "../ublk/request.ts";
import { decodeTransfer, ENTRY_KIND, SECTOR_BYTES, type TransferEntry } from "../targets/mirror/transfer.ts";
import { RECORD_HEADER_BYTES } from "./log-record.ts";
import { APPLY_WRITES, type ApplierParts } from "./point-applier.ts";
import type { TransferId } from "./transfer-id.ts";

/** The most bytes of a write; at least a block of points. */
const WRITE_BYTES = 128 * 1024;
const ZEROES_BYTES = 4 * 2 ** 20;

/** Of a write that is under way: what of it is the host's. */
interface Piece {
  readonly sector: number;
  readonly sectors: number;
  /** Undefined for zeroes. */
  readonly data: Uint8Array | undefined;
}

export class LogReplay implements Layer {
  readonly #parts: ApplierParts;
  readonly #transfer: IoMemory;
  readonly #writeSectors: number;
  readonly #idle: Request[];
  readonly #underWay = new Map<Request, Piece>();
  #done: (result: number) => void = () => undefined;
  #isRunning = false;
  #result = 0;
  #isReading = false;
  #isFlushing = false;
  /** The next transfer, and the last one. */
  #next: TransferId = { incarnation: 0, counter: 0 };
  #last = 0;
  /** How far it is: in writes of a transfer, in the sectors of one, in the transfer's data. */
  #entries: readonly TransferEntry[] = [];
  #entry = 0;
  #sectors = 0;
  #data: Uint8Array = new Uint8Array(0);
  #dataSectors = 0;

  constructor(parts: ApplierParts, io: Io) {
    this.#parts = parts;
    this.#transfer = io.memory(parts.recordBytesMax);
    const bytes = Math.max(WRITE_BYTES, parts.geometry.blockSectors * SECTOR_BYTES);
    this.#writeSectors = bytes / SECTOR_BYTES;
    const memory = io.memory(APPLY_WRITES * bytes);
    this.#idle = Array.from({ length: APPLY_WRITES }, (_, index) => {
      const buffer = new Uint8Array(memory.buffer, index * bytes, bytes);
      return new Request(parts.firstSlot + index, buffer, memory.address + index * bytes);
    });
  }

  get isIdle(): boolean {
    return !this.#isRunning;
  }

  /**
   * Of so many transfers up to `last`, one at a time. `done` is called once: with 0 when the image has it durably, or with a
   * negative errno; -ENODATA where one of them is not there.
   */
  run(last: TransferId, transfers: number, done: (result: number) => void): void {
    this.#isRunning = true;
    this.#done = done;
    this.#result = 0;
    this.#next = { ...last, counter: last.counter - transfers + 1 };
    this.#last = last.counter;
    this.#entries = [];
    this.#entry = 0;
    this.#goOn();
  }

  /** Does what can be done now; whatever it waits for calls it again. */
  #goOn(): void {
    while (this.#isRunning && this.#result === 0 && !this.#isReading && !this.#isFlushing) {
      if (this.#entry < this.#entries.length) {
        if (!this.#writeNext(this.#entries[this.#entry] as TransferEntry)) return;
      } else if (this.#underWay.size > 0) return;
      else if (this.#next.counter <= this.#last) this.#read();
      else this.#flush();
    }
    if (this.#result !== 0 && this.#underWay.size === 0 && !this.#isReading && !this.#isFlushing) this.#end();
  }

  #end(): void {
    if (!this.#isRunning) return;
    this.#isRunning = false;
    this.#done(this.#result);
  }

  #read(): void {
    const { index, log, geometry } = this.#parts;
    const found = index.find(this.#next);
    if (found === undefined) {
      this.#result = -ERRNO.ENODATA;
      return;
    }
    this.#isReading = true;
    log.read(found.position, found.length, this.#transfer, 0, (result) => {
      this.#isReading = false;
      if (result < 0) this.#result = result;
      else {
        const payload = new Uint8Array(this.#transfer.buffer, RECORD_HEADER_BYTES, found.length);
        const { entries, data } = decodeTransfer(payload, geometry.volumeSectors);
        this.#entries = entries;
        this.#entry = 0;
        this.#sectors = 0;
        this.#data = data;
        this.#dataSectors = 0;
        this.#next = { ...this.#next, counter: this.#next.counter + 1 };
      }
      this.#goOn();
    });
  }

  /** Writes the next part of a write of the host; false where it has to wait. */
  #writeNext({ kind, sector, sectors }: TransferEntry): boolean {
    const { blockSectors, volumeSectors } = this.#parts.geometry;
    const first = sector + this.#sectors;
    const left = sectors - this.#sectors;
    const blockFirst = first - (first % blockSectors);
    const blockEnd = Math.min(blockFirst + blockSectors, volumeSectors);
    const isWhole = first === blockFirst && first + left >= blockEnd;
    const isZero = kind === ENTRY_KIND.ZEROES;
    const most = isZero && isWhole ? ZEROES_BYTES / SECTOR_BYTES : this.#writeSectors;
    const count = isWhole ? this.#wholeSectors(first, Math.min(left, most)) : Math.min(left, blockEnd - first);
    const from = isWhole ? first : blockFirst;
    const end = isWhole ? first + count : blockEnd;
    if (this.#isUnderWay(from, end)) return false;
    const request = this.#idle.pop();
    if (request === undefined) return false;
    const at = this.#dataSectors * SECTOR_BYTES;
    const data = isZero ? undefined : this.#data.subarray(at, at + count * SECTOR_BYTES);
    if (!isZero) this.#dataSectors += count;
    this.#sectors += count;
    if (this.#sectors === sectors) {
      this.#entry++;
      this.#sectors = 0;
    }
    request.offset = from * SECTOR_BYTES;
    request.length = (end - from) * SECTOR_BYTES;
    request.operation = isWhole ? (isZero ? Operation.WRITE_ZEROES : Operation.WRITE) : Operation.READ;
    if (isWhole && data !== undefined) request.buffer.set(data);
    this.#underWay.set(request, { sector: first, sectors: count, data });
    request.pass(this.#parts.image, this);
    return true;
  }

  /** So many sectors from a block's first one on that they end with a block, or with the volume. */
  #wholeSectors(first: number, sectors: number): number {
    const { blockSectors, volumeSectors } = this.#parts.geometry;
    return first + sectors === volumeSectors ? sectors : sectors - (sectors % blockSectors);
  }

  #isUnderWay(from: number, end: number): boolean {
    for (const { offset, length } of this.#underWay.keys()) {
      if (offset < end * SECTOR_BYTES && offset + length > from * SECTOR_BYTES) return true;
    }
    return false;
  }

  #flush(): void {
    const request = this.#idle.pop() as Request;
    this.#isFlushing = true;
    request.operation = Operation.FLUSH;
    request.offset = 0;
    request.length = 0;
    request.pass(this.#parts.image, this);
  }

  answered(request: Request, result: number): void {
    if (result < 0) this.#result = result;
    const piece = this.#underWay.get(request);
    if (request.operation === Operation.READ && result >= 0 && piece !== undefined) {
      // The rest of the block is there: the host's part comes over it.
      const at = piece.sector * SECTOR_BYTES - request.offset;
      if (piece.data === undefined) request.buffer.fill(0, at, at + piece.sectors * SECTOR_BYTES);
      else request.buffer.set(piece.data, at);
      request.operation = Operation.WRITE;
      request.pass(this.#parts.image, this);
      return;
    }
    this.#idle.push(request);
    if (request.operation === Operation.FLUSH) {
      this.#isFlushing = false;
      this.#end();
      return;
    }
    this.#underWay.delete(request);
    this.#goOn();
  }
}
