/**
 * The header of an NVRAM file: whose it is, and where its regions lie.
 *
 * Two slots of one sector each, at 0 and at 4096. A header is written to the slot that does not hold the newest one, and
 * made durable before anybody relies on it: a write that tears leaves the other slot, which is still true.
 *
 *     0  8  "SLUICENV"            24  8  mark of the volume         48  64  name of the volume, UTF-8, zeros after it
 *     8  4  version, 1            32  8  bytes of the volume       112   -  regions, 24 bytes each:
 *    12  4  salt of the lines     40  4  bytes of a chunk                   4 kind, 4 zero, 8 offset, 8 bytes
 *    16  8  sequence              44  4  number of regions         508   4  CRC-32C of bytes 0 to 507
 *
 * All numbers are little-endian.
 */
import { UblkError } from "../ublk/errors.ts";
import { crc32c } from "./crc32c.ts";

export const HEADER_BYTES = 512;
export const SLOT_OFFSETS = [0, 4096] as const;
/** Where the first region may begin. */
export const REGIONS_OFFSET = 8192;
export const VERSION = 1;
export const REGION = { RECORD: 1 } as const;

const MAGIC = new TextEncoder().encode("SLUICENV");
const AT = { version: 8, salt: 12, sequence: 16, mark: 24, volumeBytes: 32, chunkBytes: 40, regions: 44 } as const;
const NAME_AT = 48;
const NAME_BYTES = 64;
const REGIONS_AT = 112;
const REGION_ENTRY_BYTES = 24;
const CRC_AT = 508;
export const REGIONS_MAX = Math.floor((CRC_AT - REGIONS_AT) / REGION_ENTRY_BYTES);

export interface Region {
  /** One of REGION. */
  readonly kind: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface Header {
  readonly salt: number;
  /** Grows by one with each header; the newest whole one counts. */
  readonly sequence: number;
  readonly volume: string;
  readonly mark: bigint;
  readonly volumeBytes: number;
  readonly chunkBytes: number;
  readonly regions: readonly Region[];
}

export function encodeHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  const name = new TextEncoder().encode(header.volume);
  if (name.length > NAME_BYTES) throw new UblkError("ENAME", `The volume's name is longer than ${NAME_BYTES} bytes`);
  if (header.regions.length > REGIONS_MAX) throw new UblkError("EREGIONS", `More than ${REGIONS_MAX} regions`);
  bytes.set(MAGIC);
  view.setUint32(AT.version, VERSION, true);
  view.setUint32(AT.salt, header.salt, true);
  view.setBigUint64(AT.sequence, BigInt(header.sequence), true);
  view.setBigUint64(AT.mark, header.mark, true);
  view.setBigUint64(AT.volumeBytes, BigInt(header.volumeBytes), true);
  view.setUint32(AT.chunkBytes, header.chunkBytes, true);
  view.setUint32(AT.regions, header.regions.length, true);
  bytes.set(name, NAME_AT);
  header.regions.forEach(({ kind, offset, lengthBytes }, index) => {
    const at = REGIONS_AT + index * REGION_ENTRY_BYTES;
    view.setUint32(at, kind, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(lengthBytes), true);
  });
  view.setUint32(CRC_AT, crc32c(bytes, 0, CRC_AT), true);
  return bytes;
}

/** What a slot holds; undefined for one that was never written, or is damaged. Throws EVERSION for a version not known here. */
export function decodeHeader(bytes: Uint8Array): Header | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) return undefined;
  if (view.getUint32(CRC_AT, true) !== crc32c(bytes, 0, CRC_AT)) return undefined;
  const version = view.getUint32(AT.version, true);
  if (version !== VERSION) {
    throw new UblkError(
      "EVERSION",
      `its format has version ${version}, wanted ${VERSION}: use the sluice that made it`,
    );
  }
  const name = bytes.subarray(NAME_AT, NAME_AT + NAME_BYTES);
  const end = name.indexOf(0);
  return {
    salt: view.getUint32(AT.salt, true),
    sequence: Number(view.getBigUint64(AT.sequence, true)),
    volume: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
    mark: view.getBigUint64(AT.mark, true),
    volumeBytes: Number(view.getBigUint64(AT.volumeBytes, true)),
    chunkBytes: view.getUint32(AT.chunkBytes, true),
    regions: Array.from({ length: Math.min(view.getUint32(AT.regions, true), REGIONS_MAX) }, (_, index) => {
      const at = REGIONS_AT + index * REGION_ENTRY_BYTES;
      return {
        kind: view.getUint32(at, true),
        offset: Number(view.getBigUint64(at + 8, true)),
        lengthBytes: Number(view.getBigUint64(at + 16, true)),
      };
    }),
  };
}
