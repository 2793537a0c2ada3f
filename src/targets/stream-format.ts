/**
 * A stream of records, each of one fixed size: what a copy is written as where there are no places to write to, only one pass
 * from the beginning to the end: a tape, an object, a pipe, the end of a file.
 *
 * Invariant: every byte of a record is under a checksum, and header and trailer both say which record of which stream it is.
 * So a byte that is changed is found, and a record that is cut, missing, doubled, out of order, of another stream, or put
 * together from two. docs/stream-format.md has the whole of it.
 *
 *     header, 256 bytes                               trailer, the last 256 bytes
 *     0   8  "SLUICEST"      40  4  parts             0   8  "SLUICETR"      32   8  sequence
 *                            44  4  CRC-32 of their table
 *     8   4  version         48  4  payload length    8   4  kind            40   4  CRC-32 of all between header and
 *     12  4  kind            52  4  record size       12  4  record size                trailer
 *     16 16  stream          252 4  CRC-32 of         16 16  stream          252  4  CRC-32 of bytes 0 to 251
 *     32  8  sequence               bytes 0 to 251
 *
 * The payload of a data record is the bytes of its parts, one behind the other; where each belongs stands in 16 bytes of the
 * table of parts, which ends where the trailer begins.
 */
import { crc32 } from "node:zlib";
import type { ByteRange } from "../targets/cow/byte-range.ts";
import { UblkError } from "../ublk/errors.ts";
import { isRecordSize } from "./record-size.ts";

export const STREAM_VERSION = 2;
export const STREAM_ID_BYTES = 16;
/** Of header and trailer each. Together they are one sector, so that records of a volume's sectors hold whole ones. */
export const CONTROL_BYTES = 256;
/** Where the payload lies in a record. */
export const PAYLOAD_AT = CONTROL_BYTES;

export const RECORD_KIND = { START: 1, DATA: 2, END: 3 } as const;
export type RecordKind = (typeof RECORD_KIND)[keyof typeof RECORD_KIND];

/** Of the table of parts, for each. */
export const PART_BYTES = 16;
const SECTOR_BYTES = 512;

const CRC_AT = CONTROL_BYTES - 4;
const HEADER_MAGIC = new TextEncoder().encode("SLUICEST");
const TRAILER_MAGIC = new TextEncoder().encode("SLUICETR");
const CONTENTS = ["copy", "originals"] as const;
const START_NAME_AT = 32;
const START_NAME_BYTES = 64;
const START_BYTES = START_NAME_AT + START_NAME_BYTES;
const END_BYTES = 16;

/** "copy": all of a volume. "originals": what overwrites a copy of a volume, to make it what the volume was at one time. */
export type StreamContent = (typeof CONTENTS)[number];

/** What the start record tells. */
export interface StreamStart {
  /** 16 bytes that no other stream has. */
  readonly stream: Uint8Array;
  readonly volume: string;
  readonly volumeBytes: number;
  /** The time that the data are of. */
  readonly createdMs: number;
  readonly content: StreamContent;
}

export interface DataRecord {
  readonly stream: Uint8Array;
  /** The start record has 0, each one behind it one more than the one before. */
  readonly sequence: number;
  /** Where in the volume the payload belongs, which has them one behind the other. */
  readonly parts: readonly ByteRange[];
}

export interface EndRecord {
  readonly stream: Uint8Array;
  readonly sequence: number;
  /** Of all data records together. */
  readonly payloadBytes: number;
}

/** What the control data of a record say, header and trailer alike where both say it. */
export interface RecordHeader {
  readonly kind: number;
  readonly stream: Uint8Array;
  readonly sequence: number;
  /** Of a data record: how many, and the checksum of their table. */
  readonly parts: number;
  readonly tableChecksum: number;
  /** Bytes of payload. */
  readonly length: number;
  readonly recordBytes: number;
}

export interface RecordTrailer {
  readonly kind: number;
  readonly stream: Uint8Array;
  readonly sequence: number;
  readonly recordBytes: number;
  readonly payloadChecksum: number;
}

/** Room for payload and table of parts in a record of this size. Throws ESIZE for a size that no record has. */
export function payloadMax(recordBytes: number): number {
  if (!isRecordSize(recordBytes)) {
    throw new UblkError("ESIZE", `A record has a power of two from 4 KiB to 16 MiB, found ${recordBytes} bytes`);
  }
  return recordBytes - 2 * CONTROL_BYTES;
}

/**
 * How much of a range there is still room for in a data record that has so many parts with so many bytes of payload: all of it,
 * or whole sectors.
 */
export function roomForPart(recordBytes: number, parts: number, payloadBytes: number, rangeBytes: number): number {
  const room = payloadMax(recordBytes) - (parts + 1) * PART_BYTES - payloadBytes;
  if (room >= rangeBytes) return rangeBytes;
  return Math.max(0, room - (room % SECTOR_BYTES));
}

/** Makes all of `into` the start record. Throws ENAME for a name of a volume that is too long. */
export function encodeStart(into: Uint8Array, start: StreamStart): void {
  const name = new TextEncoder().encode(start.volume);
  if (name.length > START_NAME_BYTES) {
    throw new UblkError("ENAME", `"${start.volume}" is longer than ${START_NAME_BYTES} bytes`);
  }
  const view = new DataView(into.buffer, into.byteOffset + PAYLOAD_AT, START_BYTES);
  into.fill(0, PAYLOAD_AT, PAYLOAD_AT + START_BYTES);
  view.setUint32(0, CONTENTS.indexOf(start.content) + 1, true);
  view.setBigUint64(8, BigInt(start.volumeBytes), true);
  view.setBigUint64(16, BigInt(Math.round(start.createdMs)), true);
  into.set(name, PAYLOAD_AT + START_NAME_AT);
  seal(into, RECORD_KIND.START, { stream: start.stream, sequence: 0, parts: [] }, START_BYTES);
}

/** Makes all of `into` a data record: the payload lies at its place in it already. Throws ESIZE where there is no room for it. */
export function encodeData(into: Uint8Array, record: DataRecord): void {
  const payloadBytes = record.parts.reduce((sum, { length }) => sum + length, 0);
  seal(into, RECORD_KIND.DATA, record, payloadBytes);
}

/** Makes all of `into` the end record: it tells how many records there are, itself included. */
export function encodeEnd(into: Uint8Array, { stream, sequence, payloadBytes }: EndRecord): void {
  const view = new DataView(into.buffer, into.byteOffset + PAYLOAD_AT, END_BYTES);
  view.setBigUint64(0, BigInt(sequence + 1), true);
  view.setBigUint64(8, BigInt(payloadBytes), true);
  seal(into, RECORD_KIND.END, { stream, sequence, parts: [] }, END_BYTES);
}

function seal(into: Uint8Array, kind: RecordKind, { stream, sequence, parts }: DataRecord, length: number): void {
  const room = payloadMax(into.length) - parts.length * PART_BYTES;
  if (length > room)
    throw new UblkError("ESIZE", `A record of ${into.length} bytes has room for ${room}, not ${length}`);
  const trailerAt = into.length - CONTROL_BYTES;
  const view = new DataView(into.buffer, into.byteOffset, into.length);
  into.fill(0, 0, PAYLOAD_AT);
  into.fill(0, PAYLOAD_AT + length);
  into.set(HEADER_MAGIC);
  view.setUint32(8, STREAM_VERSION, true);
  view.setUint32(12, kind, true);
  into.set(stream, 16);
  view.setBigUint64(32, BigInt(sequence), true);
  view.setUint32(40, parts.length, true);
  parts.forEach((part, index) => {
    const at = trailerAt - (parts.length - index) * PART_BYTES;
    view.setBigUint64(at, BigInt(part.offset), true);
    view.setUint32(at + 8, part.length, true);
  });
  view.setUint32(44, crc32(into.subarray(trailerAt - parts.length * PART_BYTES, trailerAt)), true);
  view.setUint32(48, length, true);
  view.setUint32(52, into.length, true);
  view.setUint32(CRC_AT, crc32(into.subarray(0, CRC_AT)), true);
  into.set(TRAILER_MAGIC, trailerAt);
  view.setUint32(trailerAt + 8, kind, true);
  view.setUint32(trailerAt + 12, into.length, true);
  into.set(stream, trailerAt + 16);
  view.setBigUint64(trailerAt + 32, BigInt(sequence), true);
  view.setUint32(trailerAt + 40, crc32(into.subarray(PAYLOAD_AT, trailerAt)), true);
  view.setUint32(trailerAt + CRC_AT, crc32(into.subarray(trailerAt, trailerAt + CRC_AT)), true);
}

/** What 256 bytes say as a header; undefined where they are none, or are damaged. Throws EVERSION for another format. */
export function decodeHeader(bytes: Uint8Array): RecordHeader | undefined {
  if (!isControl(bytes, HEADER_MAGIC)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, CONTROL_BYTES);
  const version = view.getUint32(8, true);
  if (version !== STREAM_VERSION) {
    throw new UblkError(
      "EVERSION",
      `The stream has format ${version}, known here is ${STREAM_VERSION}: use the sluice that it was written with, or a newer one`,
    );
  }
  return {
    kind: view.getUint32(12, true),
    stream: bytes.slice(16, 16 + STREAM_ID_BYTES),
    sequence: Number(view.getBigUint64(32, true)),
    parts: view.getUint32(40, true),
    tableChecksum: view.getUint32(44, true),
    length: view.getUint32(48, true),
    recordBytes: view.getUint32(52, true),
  };
}

/** What 256 bytes say as a trailer; undefined where they are none, or are damaged. */
export function decodeTrailer(bytes: Uint8Array): RecordTrailer | undefined {
  if (!isControl(bytes, TRAILER_MAGIC)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, CONTROL_BYTES);
  return {
    kind: view.getUint32(8, true),
    recordBytes: view.getUint32(12, true),
    stream: bytes.slice(16, 16 + STREAM_ID_BYTES),
    sequence: Number(view.getBigUint64(32, true)),
    payloadChecksum: view.getUint32(40, true),
  };
}

function isControl(bytes: Uint8Array, magic: Uint8Array): boolean {
  if (bytes.length < CONTROL_BYTES || !magic.every((byte, index) => bytes[index] === byte)) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, CONTROL_BYTES);
  return view.getUint32(CRC_AT, true) === crc32(bytes.subarray(0, CRC_AT));
}

/** What the payload of a start record says; undefined where it is of a kind that is not known here. */
export function decodeStart(payload: Uint8Array, stream: Uint8Array): StreamStart | undefined {
  if (payload.length < START_BYTES) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const content = CONTENTS[view.getUint32(0, true) - 1];
  if (content === undefined) return undefined;
  const name = payload.subarray(START_NAME_AT, START_BYTES);
  const end = name.indexOf(0);
  return {
    stream,
    content,
    volumeBytes: Number(view.getBigUint64(8, true)),
    createdMs: Number(view.getBigUint64(16, true)),
    volume: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
  };
}

/** What the payload of an end record says. */
export function decodeEnd(payload: Uint8Array): { readonly records: number; readonly payloadBytes: number } {
  const view = new DataView(payload.buffer, payload.byteOffset, END_BYTES);
  return { records: Number(view.getBigUint64(0, true)), payloadBytes: Number(view.getBigUint64(8, true)) };
}

/** The parts that a table of them tells of. */
export function decodeParts(table: Uint8Array): ByteRange[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  return Array.from({ length: Math.floor(table.length / PART_BYTES) }, (_, index) => ({
    offset: Number(view.getBigUint64(index * PART_BYTES, true)),
    length: view.getUint32(index * PART_BYTES + 8, true),
  }));
}
