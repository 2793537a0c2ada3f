/**
 * A record of the receiver's log: a header of 64 bytes, the payload as it came over the wire, zeros up to the next sector.
 *
 *      0  4  "SLRL"                      32  4  number, upper half        52  8  zeros
 *      4  4  salt of the log             36  4  number, lower half        60  4  CRC-32C of bytes 0 to 59
 *      8  8  position in the log         40  8  durable: all before this
 *     16  4  life that wrote it                 position was durable when
 *     20  4  link                               this was appended
 *     24  4  kind                        48  4  CRC-32 of the payload
 *     28  4  bytes of payload
 *
 * All numbers are little-endian. The link is the checksum of the header of the record before, which has its own link and the
 * checksum of its payload in it: so it stands for all that came before, and what an earlier round or life has left does not fit.
 */
import { crc32c } from "../nvram/crc32c.ts";

export const RECORD_HEADER_BYTES = 64;
const MAGIC = 0x4c524c53;
const CRC_AT = 60;
const HIGH = 0x1_0000_0000;

/** What a record holds: a transfer; a part of the list of a consistency point; the end of that list, which commits the point. */
export const LOG_RECORD = { TRANSFER: 1, POINT_ITEMS: 2, POINT_END: 3 } as const;
export type LogRecordKind = (typeof LOG_RECORD)[keyof typeof LOG_RECORD];

/** What a header says; `link` and `position` are of the record's own beginning. */
export interface RecordHeader {
  readonly position: number;
  readonly life: number;
  readonly link: number;
  readonly kind: number;
  /** Bytes of payload. */
  readonly length: number;
  /** The halves of the number that the record goes by: of a transfer, incarnation and counter; else of the point's number. */
  readonly high: number;
  readonly low: number;
  readonly durable: number;
  readonly payloadChecksum: number;
}

export interface FoundHeader extends RecordHeader {
  /** Of the header: the link of the next record. */
  readonly checksum: number;
}

/** What a record with so many bytes of payload takes of the log. */
export function recordBytes(length: number, sectorBytes: number): number {
  return Math.ceil((RECORD_HEADER_BYTES + length) / sectorBytes) * sectorBytes;
}

export function isKnownKind(kind: number): kind is LogRecordKind {
  return kind >= LOG_RECORD.TRANSFER && kind <= LOG_RECORD.POINT_END;
}

/** Writes a header to the first 64 bytes of `into`; returns its checksum, the link of the next record. */
export function encodeRecordHeader(into: Uint8Array, salt: number, header: RecordHeader): number {
  const view = new DataView(into.buffer, into.byteOffset, RECORD_HEADER_BYTES);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, salt, true);
  setNumber(view, 8, header.position);
  view.setUint32(16, header.life, true);
  view.setUint32(20, header.link, true);
  view.setUint32(24, header.kind, true);
  view.setUint32(28, header.length, true);
  view.setUint32(32, header.high, true);
  view.setUint32(36, header.low, true);
  setNumber(view, 40, header.durable);
  view.setUint32(48, header.payloadChecksum, true);
  into.fill(0, 52, CRC_AT);
  const checksum = crc32c(into, 0, CRC_AT);
  view.setUint32(CRC_AT, checksum, true);
  return checksum;
}

/** What the first 64 bytes say as a header of the log with this salt; undefined where they are none, or are damaged. */
export function decodeRecordHeader(bytes: Uint8Array, salt: number): FoundHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== salt) return undefined;
  const checksum = view.getUint32(CRC_AT, true);
  if (checksum !== crc32c(bytes, 0, CRC_AT)) return undefined;
  return {
    position: getNumber(view, 8),
    life: view.getUint32(16, true),
    link: view.getUint32(20, true),
    kind: view.getUint32(24, true),
    length: view.getUint32(28, true),
    high: view.getUint32(32, true),
    low: view.getUint32(36, true),
    durable: getNumber(view, 40),
    payloadChecksum: view.getUint32(48, true),
    checksum,
  };
}

function setNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / HIGH), true);
}

function getNumber(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * HIGH;
}

/** The upper half of a point's number, which is at most 2^53 - 1. */
export function upperHalf(number: number): number {
  return Math.floor(number / HIGH);
}

export function lowerHalf(number: number): number {
  return number >>> 0;
}

export function fromHalves(high: number, low: number): number {
  return high * HIGH + low;
}
