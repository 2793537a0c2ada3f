/**
 * The superblock of a store of originals: whose it is, and how it is laid out.
 *
 * Two slots of one sector each. A new one goes to the slot that does not hold the newest (sequence modulo 2), and is durable
 * before anybody relies on it.
 *
 *     0  8  "SLUICECW"       24  8  mark of the volume       44  4  segments          508  4  CRC-32 of bytes 0 to 507
 *     8  4  version, 1       32  4  bytes of a block         48  4  bytes of a catalogue area
 *    12  4  salt             36  4  bytes of a sector        56 64  name of the volume, UTF-8, zeros after it
 *    16  8  sequence         40  4  slots in a segment
 *
 * All numbers are little-endian.
 */
import { crc32 } from "node:zlib";
import { UblkError } from "../../ublk/errors.ts";
import type { Geometry } from "./layout.ts";

export const SUPERBLOCK_BYTES = 512;
export const STORE_VERSION = 1;
const MAGIC = new TextEncoder().encode("SLUICECW");
const NAME_AT = 56;
const NAME_BYTES = 64;
const CRC_AT = 508;

export interface Superblock {
  /** Chosen by chance when the store is made: what another store has left in the same place does not pass for ours. */
  readonly salt: number;
  readonly sequence: number;
  readonly volume: string;
  readonly mark: bigint;
  readonly geometry: Geometry;
}

export function encodeSuperblock({ salt, sequence, volume, mark, geometry }: Superblock): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  const name = new TextEncoder().encode(volume);
  if (name.length > NAME_BYTES) throw new UblkError("ENAME", `The volume's name is longer than ${NAME_BYTES} bytes`);
  bytes.set(MAGIC);
  view.setUint32(8, STORE_VERSION, true);
  view.setUint32(12, salt, true);
  view.setBigUint64(16, BigInt(sequence), true);
  view.setBigUint64(24, mark, true);
  view.setUint32(32, geometry.blockBytes, true);
  view.setUint32(36, geometry.sectorBytes, true);
  view.setUint32(40, geometry.slotsPerSegment, true);
  view.setUint32(44, geometry.segments, true);
  view.setUint32(48, geometry.catalogBytes, true);
  bytes.set(name, NAME_AT);
  view.setUint32(CRC_AT, crc32(bytes.subarray(0, CRC_AT)), true);
  return bytes;
}

/** Undefined for a slot that was never written, or is damaged. Throws EVERSION for a version that is not known here. */
export function decodeSuperblock(bytes: Uint8Array): Superblock | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SUPERBLOCK_BYTES);
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) return undefined;
  if (view.getUint32(CRC_AT, true) !== crc32(bytes.subarray(0, CRC_AT))) return undefined;
  const version = view.getUint32(8, true);
  if (version !== STORE_VERSION) {
    throw new UblkError(
      "EVERSION",
      `its format has version ${version}, wanted ${STORE_VERSION}: use the sluice that made it`,
    );
  }
  const name = bytes.subarray(NAME_AT, NAME_AT + NAME_BYTES);
  const end = name.indexOf(0);
  return {
    salt: view.getUint32(12, true),
    sequence: Number(view.getBigUint64(16, true)),
    volume: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
    mark: view.getBigUint64(24, true),
    geometry: {
      blockBytes: view.getUint32(32, true),
      sectorBytes: view.getUint32(36, true),
      slotsPerSegment: view.getUint32(40, true),
      segments: view.getUint32(44, true),
      catalogBytes: view.getUint32(48, true),
    },
  };
}
