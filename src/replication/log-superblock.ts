/**
 * The superblock of the receiver's log: whose it is, how it is laid out, and where its records begin.
 *
 * Two slots of one sector each. A new one goes to the slot that does not hold the newest (sequence modulo 2), and is durable
 * before anybody relies on it.
 *
 *     0  8  "SLUICERL"             36  4  bytes of the window     72   8  last point that is committed
 *     8  4  version, 1             40  8  bytes of the ring       80   8  last point that is applied
 *    12  4  salt                   48  4  life                    88   8  position from which on something was lost
 *    16  8  sequence               52  4  link of the tail        96  64  name of the volume, UTF-8, zeros after it
 *    24  8  mark of the volume     56  8  position of the tail   508   4  CRC-32 of bytes 0 to 507
 *    32  4  bytes of a sector      64  8  durable: all before
 *                                         this position was
 *
 * All numbers are little-endian.
 */
import { crc32 } from "node:zlib";
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { UblkError } from "../ublk/errors.ts";
import {
  checkLogGeometry,
  LOG_SUPERBLOCK_OFFSETS,
  logBytes,
  offsetOf,
  type LogGeometry,
  type LogPlace,
} from "./log-geometry.ts";

export const LOG_SUPERBLOCK_BYTES = 512;
export const LOG_VERSION = 1;
const MAGIC = new TextEncoder().encode("SLUICERL");
const NAME_AT = 96;
const NAME_BYTES = 64;
const CRC_AT = 508;

/** Whose log it is. */
export interface LogOwner {
  readonly volume: string;
  readonly mark: bigint;
}

/** The last consistency points by number; 0 for none. */
export interface LastPoints {
  readonly committed: number;
  readonly applied: number;
}

/** What changes in a superblock. */
export interface LogState extends LastPoints {
  /** Counts the openings of the log. */
  readonly life: number;
  readonly tail: LogPlace;
  /** All before this position was durable. */
  readonly durable: number;
  /** Behind this position something was lost that had been durable; 0 for nothing. */
  readonly lostFrom: number;
}

export interface LogSuperblock extends LogOwner {
  /** Chosen by chance when the log is made: what another log has left in the same place does not pass for this one's. */
  readonly salt: number;
  readonly sequence: number;
  readonly geometry: LogGeometry;
  readonly state: LogState;
}

/** Makes the first 512 bytes of `into` the superblock. Throws ENAME. */
export function encodeLogSuperblock(into: Uint8Array, superblock: LogSuperblock): void {
  const { salt, sequence, volume, mark, geometry, state } = superblock;
  const bytes = into.subarray(0, LOG_SUPERBLOCK_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, LOG_SUPERBLOCK_BYTES);
  const name = new TextEncoder().encode(volume);
  if (name.length > NAME_BYTES) throw new UblkError("ENAME", `The volume's name is longer than ${NAME_BYTES} bytes`);
  bytes.fill(0);
  bytes.set(MAGIC);
  view.setUint32(8, LOG_VERSION, true);
  view.setUint32(12, salt, true);
  view.setBigUint64(16, BigInt(sequence), true);
  view.setBigUint64(24, mark, true);
  view.setUint32(32, geometry.sectorBytes, true);
  view.setUint32(36, geometry.windowBytes, true);
  view.setBigUint64(40, BigInt(geometry.ringBytes), true);
  view.setUint32(48, state.life, true);
  view.setUint32(52, state.tail.link, true);
  view.setBigUint64(56, BigInt(state.tail.position), true);
  view.setBigUint64(64, BigInt(state.durable), true);
  view.setBigUint64(72, BigInt(state.committed), true);
  view.setBigUint64(80, BigInt(state.applied), true);
  view.setBigUint64(88, BigInt(state.lostFrom), true);
  bytes.set(name, NAME_AT);
  view.setUint32(CRC_AT, crc32(bytes.subarray(0, CRC_AT)), true);
}

/** Undefined for a slot that was never written, or is damaged. Throws EVERSION for a version that is not known here. */
export function decodeLogSuperblock(bytes: Uint8Array): LogSuperblock | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, LOG_SUPERBLOCK_BYTES);
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) return undefined;
  if (view.getUint32(CRC_AT, true) !== crc32(bytes.subarray(0, CRC_AT))) return undefined;
  const version = view.getUint32(8, true);
  if (version !== LOG_VERSION) {
    throw new UblkError(
      "EVERSION",
      `its format has version ${version}, wanted ${LOG_VERSION}: use the sluice that made it`,
    );
  }
  const name = bytes.subarray(NAME_AT, NAME_AT + NAME_BYTES);
  const end = name.indexOf(0);
  const number = (at: number): number => Number(view.getBigUint64(at, true));
  return {
    salt: view.getUint32(12, true),
    sequence: number(16),
    volume: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
    mark: view.getBigUint64(24, true),
    geometry: {
      sectorBytes: view.getUint32(32, true),
      windowBytes: view.getUint32(36, true),
      ringBytes: number(40),
    },
    state: {
      life: view.getUint32(48, true),
      tail: { link: view.getUint32(52, true), position: number(56) },
      durable: number(64),
      committed: number(72),
      applied: number(80),
      lostFrom: number(88),
    },
  };
}

/** The slot that a superblock belongs to, by its sequence. */
export function slotOffset(sequence: number): number {
  return LOG_SUPERBLOCK_OFFSETS[sequence % 2] as number;
}

/** Writes a superblock to its slot; it is not durable yet. */
export function writeLogSuperblock(file: ByteStorage, superblock: LogSuperblock): void {
  const bytes = new Uint8Array(superblock.geometry.sectorBytes);
  encodeLogSuperblock(bytes, superblock);
  file.write(slotOffset(superblock.sequence), bytes);
}

/** The newest whole superblock. Throws ELOG, EVERSION. */
export function readLogSuperblock(file: ByteStorage): LogSuperblock {
  let newest: LogSuperblock | undefined;
  for (const offset of LOG_SUPERBLOCK_OFFSETS) {
    if (file.sizeBytes < offset + LOG_SUPERBLOCK_BYTES) continue;
    const superblock = decodeLogSuperblock(file.read(offset, LOG_SUPERBLOCK_BYTES));
    if (superblock !== undefined && (newest === undefined || superblock.sequence > newest.sequence))
      newest = superblock;
  }
  if (newest === undefined) {
    throw new UblkError("ELOG", "it has no whole superblock: it is no log of a receiver, or it is damaged");
  }
  return newest;
}

/** Checks whose log it is, and how it is laid out. Throws ELOG, EVERSION, EOWNER, ELAYOUT, ESIZE. */
export function openLog(file: ByteStorage, owner: LogOwner): LogSuperblock {
  const superblock = readLogSuperblock(file);
  if (superblock.mark !== owner.mark) {
    throw new UblkError("EOWNER", `it belongs to volume ${superblock.volume}, wanted ${owner.volume}`);
  }
  checkLogGeometry(superblock.geometry);
  const wanted = logBytes(superblock.geometry);
  if (wanted > file.sizeBytes) {
    throw new UblkError("ESIZE", `it has ${file.sizeBytes} bytes, but was made with ${wanted}: it was cut`);
  }
  return superblock;
}

/**
 * Makes an empty log; what was there before is gone. `salt` is chosen by chance, 32 bits. `points` is what the volume holds
 * already. Throws ELAYOUT, ENAME.
 */
export function createLog(
  file: ByteStorage,
  owner: LogOwner,
  geometry: LogGeometry,
  salt: number,
  points: LastPoints,
): void {
  checkLogGeometry(geometry);
  // Positions begin with the second round: no position is 0, which stands for none.
  const tail = { position: geometry.ringBytes, link: salt };
  const state = { life: 0, tail, durable: tail.position, lostFrom: 0, ...points };
  file.write(offsetOf(geometry, tail.position), new Uint8Array(geometry.sectorBytes));
  file.sync();
  for (const sequence of [1, 2]) writeLogSuperblock(file, { salt, sequence, ...owner, geometry, state });
  file.sync();
}
