/**
 * A sector of a segment's table: what lies in some of its slots.
 *
 *      0  4  "SLCT"                      24  4  durable entries of the segment before, by sequence
 *      4  4  salt of the store           28  4  CRC-32 of the sector, with these four bytes as zero
 *      8  4  sequence of the segment     32  -  entries, 16 bytes each, of consecutive slots:
 *     12  2  index of the sector                 0  4  block, low 32 bits
 *     14  2  entries in it                       4  2  block, high 16 bits
 *     16  4  durable: entries of the segment     6  2  flags: 1 = the original could not be read
 *     20  4  settled: segments up to this        8  4  epoch
 *            sequence are durable               12  4  CRC-32 of the block
 *
 * All numbers are little-endian. A sector is never written over while it is the only one that tells of something durable.
 * What `durable` and `settled` do not cover may not have reached the store: the block's own checksum tells.
 */
import { crc32 } from "node:zlib";
import { ENTRY_BYTES, TABLE_HEADER_BYTES } from "./layout.ts";

const MAGIC = 0x54434c53;
const CRC_AT = 28;
const HIGH = 0x1_0000_0000;
export const ENTRY_FLAG = { LOST: 1 } as const;

/** What a sector says beside its entries. */
export interface TableSectorHeader {
  readonly sequence: number;
  readonly index: number;
  readonly count: number;
  readonly durable: number;
  readonly settled: number;
  readonly durableBefore: number;
}

/** A table sector in memory. */
export class TableSector {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #salt: number;

  constructor(bytes: Uint8Array, salt: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#salt = salt;
  }

  setEntry(at: number, block: number, flags: number, epoch: number, checksum: number): void {
    const offset = TABLE_HEADER_BYTES + at * ENTRY_BYTES;
    this.#view.setUint32(offset, block >>> 0, true);
    this.#view.setUint16(offset + 4, Math.floor(block / HIGH), true);
    this.#view.setUint16(offset + 6, flags, true);
    this.#view.setUint32(offset + 8, epoch, true);
    this.#view.setUint32(offset + 12, checksum, true);
  }

  block(at: number): number {
    const offset = TABLE_HEADER_BYTES + at * ENTRY_BYTES;
    return this.#view.getUint32(offset, true) + this.#view.getUint16(offset + 4, true) * HIGH;
  }

  flags(at: number): number {
    return this.#view.getUint16(TABLE_HEADER_BYTES + at * ENTRY_BYTES + 6, true);
  }

  epoch(at: number): number {
    return this.#view.getUint32(TABLE_HEADER_BYTES + at * ENTRY_BYTES + 8, true);
  }

  checksum(at: number): number {
    return this.#view.getUint32(TABLE_HEADER_BYTES + at * ENTRY_BYTES + 12, true);
  }

  /** Writes the header and the checksum, over the first `count` entries and what is behind them. */
  seal(sequence: number, index: number, count: number, durable: number, settled: number, durableBefore: number): void {
    const view = this.#view;
    view.setUint32(0, MAGIC, true);
    view.setUint32(4, this.#salt, true);
    view.setUint32(8, sequence, true);
    view.setUint16(12, index, true);
    view.setUint16(14, count, true);
    view.setUint32(16, durable, true);
    view.setUint32(20, settled, true);
    view.setUint32(24, durableBefore, true);
    view.setUint32(CRC_AT, 0, true);
    view.setUint32(CRC_AT, crc32(this.#bytes), true);
  }

  /** The header of a whole sector of this store; undefined for anything else. Changes nothing that lasts. */
  read(): TableSectorHeader | undefined {
    const view = this.#view;
    if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== this.#salt) return undefined;
    const found = view.getUint32(CRC_AT, true);
    view.setUint32(CRC_AT, 0, true);
    const wanted = crc32(this.#bytes);
    view.setUint32(CRC_AT, found, true);
    if (found !== wanted) return undefined;
    return {
      sequence: view.getUint32(8, true),
      index: view.getUint16(12, true),
      count: view.getUint16(14, true),
      durable: view.getUint32(16, true),
      settled: view.getUint32(20, true),
      durableBefore: view.getUint32(24, true),
    };
  }
}
