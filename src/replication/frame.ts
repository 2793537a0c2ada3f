/**
 * The frames that source and receiver of a mirror send each other: a header of fixed size, and a payload behind it.
 *
 *     0  4  "SLNK"                      16  8  sequence: 0, 1, 2 and so on, of each direction its own
 *     4  2  version of this layout      24  4  bytes of the payload when it is unpacked; zero: it is not packed
 *     6  2  type, one of FRAME          28  4  CRC-32C of bytes 0 to 27
 *     8  4  bytes of the payload        32  -  the payload
 *    12  4  CRC-32 of the payload
 *
 * Invariant: every byte of a frame is under a checksum, and the header's checksum holds the payload's and the sequence. So what
 * is changed, cut, missing, doubled or out of order is found, and no length is believed before its header was checked.
 * docs/protocol.md has the whole of it. All numbers are little-endian.
 */
import { crc32 } from "node:zlib";
import { crc32c } from "../nvram/crc32c.ts";
import { UblkError } from "../ublk/errors.ts";
import { getSafeNumber, setSafeNumber } from "./safe-number.ts";

/** Of the layout of frames. What is in them has a version of its own, which the first frame of a connection tells. */
export const FRAME_VERSION = 1;
export const HEADER_BYTES = 32;
/** So many bytes tell whether it is one. */
export const MAGIC_BYTES = 4;
/** No payload is longer. */
export const PAYLOAD_MAX = 4 * 2 ** 20;

/** Change no number of them, and give none a second time. */
export const FRAME = {
  HELLO: 1,
  WELCOME: 2,
  REFUSED: 3,
  TRANSFER: 4,
  ACK: 5,
  POINT_BEGIN: 6,
  POINT_ITEMS: 7,
  POINT_END: 8,
  POINT_COMMITTED: 9,
  NAK: 10,
  SUMS: 11,
  SUMS_REPLY: 12,
  PING: 13,
  PONG: 14,
  BYE: 15,
  TAKE_OVER: 16,
  TAKEN_OVER: 17,
} as const;
export type FrameType = (typeof FRAME)[keyof typeof FRAME];

const MAGIC = 0x4b4e4c53;
const AT = {
  magic: 0,
  version: 4,
  type: 6,
  length: 8,
  checksum: 12,
  sequence: 16,
  unpacked: 24,
  headerChecksum: 28,
} as const;
/** How a record of TLS begins: one of four types, and 3 as the first part of its version. */
const TLS_RECORD = { firstType: 0x14, lastType: 0x17, version: 3 } as const;
const TYPES: ReadonlySet<number> = new Set(Object.values(FRAME));

export interface FrameHeader {
  readonly type: FrameType;
  readonly sequence: number;
  /** Bytes of the payload, and their CRC-32. */
  readonly length: number;
  readonly checksum: number;
  /** It is packed with zstd, and has so many bytes when it is unpacked; 0 where it is as it is. */
  readonly unpacked: number;
}

/**
 * Writes a header to the first 32 bytes of `into`: for a payload that lies elsewhere, and is sent behind it from there. Throws
 * ESIZE for a payload that is too long.
 */
export function encodeHeader(into: Uint8Array, header: FrameHeader): void {
  const { type, sequence, length, checksum, unpacked } = header;
  if (length > PAYLOAD_MAX) {
    throw new UblkError("ESIZE", `A frame has room for ${PAYLOAD_MAX} bytes of payload, not ${length}`);
  }
  const view = new DataView(into.buffer, into.byteOffset, HEADER_BYTES);
  view.setUint32(AT.magic, MAGIC, true);
  view.setUint16(AT.version, FRAME_VERSION, true);
  view.setUint16(AT.type, type, true);
  view.setUint32(AT.length, length, true);
  view.setUint32(AT.checksum, checksum, true);
  setSafeNumber(view, AT.sequence, sequence);
  view.setUint32(AT.unpacked, unpacked, true);
  view.setUint32(AT.headerChecksum, crc32c(into, 0, AT.headerChecksum), true);
}

/** Makes all of `into` a frame: the payload lies in it already, behind the header's place. Throws ESIZE where it is too long. */
export function sealFrame(into: Uint8Array, type: FrameType, sequence: number): void {
  const payload = into.subarray(HEADER_BYTES);
  encodeHeader(into, { type, sequence, length: payload.length, checksum: crc32(payload), unpacked: 0 });
}

/** Throws EPROTOCOL where the four bytes of `bytes` from `at` on are not how a frame begins. */
export function checkMagic(bytes: Uint8Array, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, MAGIC_BYTES);
  if (view.getUint32(AT.magic, true) === MAGIC) return;
  const type = view.getUint8(0);
  const isTls = type >= TLS_RECORD.firstType && type <= TLS_RECORD.lastType && view.getUint8(1) === TLS_RECORD.version;
  const who = isTls
    ? 'the other side speaks TLS, and this one transport = "clear"'
    : "the other side is no sluice, or bytes were lost";
  throw new UblkError("EPROTOCOL", `no frame begins here: ${who}`);
}

/**
 * What the 32 bytes of `bytes` from `at` on say as a header. Throws EPROTOCOL where they are none, are damaged, or say what
 * cannot be; EVERSION for another layout. The length is one that a frame may have.
 */
export function decodeHeader(bytes: Uint8Array, at: number): FrameHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, HEADER_BYTES);
  checkMagic(bytes, at);
  if (view.getUint32(AT.headerChecksum, true) !== crc32c(bytes, at, at + AT.headerChecksum)) {
    throw new UblkError("EPROTOCOL", "its header is damaged");
  }
  const version = view.getUint16(AT.version, true);
  if (version !== FRAME_VERSION) {
    throw new UblkError("EVERSION", `its layout has version ${version}, wanted ${FRAME_VERSION}: use equal sluices`);
  }
  const type = view.getUint16(AT.type, true);
  if (!isFrameType(type)) throw new UblkError("EPROTOCOL", `no frame has type ${type}`);
  const length = view.getUint32(AT.length, true);
  if (length > PAYLOAD_MAX) {
    throw new UblkError("EPROTOCOL", `it has ${length} bytes of payload, wanted at most ${PAYLOAD_MAX}`);
  }
  const unpacked = view.getUint32(AT.unpacked, true);
  if (unpacked > PAYLOAD_MAX) {
    throw new UblkError("EPROTOCOL", `it has ${unpacked} bytes when it is unpacked, wanted at most ${PAYLOAD_MAX}`);
  }
  const checksum = view.getUint32(AT.checksum, true);
  return { type, sequence: getSafeNumber(view, AT.sequence), length, checksum, unpacked };
}

function isFrameType(type: number): type is FrameType {
  return TYPES.has(type);
}
