/**
 * Opens the receiver's log: finds what is in it, and begins a new life of it.
 *
 * Invariants. What was durable is found, from the tail on, in order. A record counts only if its link is that of the record
 * before it, and its payload is whole. A record that was torn never becomes whole: of one that a process died in, the
 * beginning may be there, and the next one, torn as well, may end alike; so the sector that the next record begins with is
 * cleared before anything is appended, and each life writes a number of its own, so that links do not repeat. What is
 * told of is durable by then, since what is only in a cache would be taken for what is not.
 */
import { crc32 } from "node:zlib";
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { UblkError } from "../ublk/errors.ts";
import { offsetOf, roomAt, type LogGeometry, type LogPlace } from "./log-geometry.ts";
import {
  decodeRecordHeader,
  fromHalves,
  isKnownKind,
  LOG_RECORD,
  RECORD_HEADER_BYTES,
  recordBytes,
  type LogRecordKind,
} from "./log-record.ts";
import { openLog, writeLogSuperblock, type LogOwner, type LogSuperblock } from "./log-superblock.ts";
import { RingReader } from "./ring-reader.ts";

/** A record that the log has. */
export interface FoundRecord {
  readonly kind: LogRecordKind;
  /** Where it begins, and where the next one does. */
  readonly place: LogPlace;
  readonly next: LogPlace;
  /** Bytes of payload. */
  readonly length: number;
  readonly life: number;
}

/** Who is told of what the log has, in its order. */
export interface LogFinder {
  /** Payloads are valid until it returns: of this and of the others. */
  transfer(incarnation: number, counter: number, record: FoundRecord, payload: Uint8Array): void;
  /** A part of the list of a point. A list may have been begun more than once: its payload tells. */
  pointItems(point: number, record: FoundRecord): void;
  /** The end of the list of a point: the point is committed. */
  pointEnd(point: number, record: FoundRecord, payload: Uint8Array): void;
}

export interface RecoveredLog {
  /** As it is now, with the new life. */
  readonly superblock: LogSuperblock;
  /** Where the next record goes. */
  readonly head: LogPlace;
}

/**
 * Reads the log of `owner` and begins a new life of it. Where `superblock.state.lostFrom` is not 0, something that was durable
 * from that position on is there no more; that is told again at each opening until the tail has passed it.
 * Throws ELOG, EVERSION, EOWNER, ELAYOUT, ESIZE, and what the file throws.
 */
export function recoverLog(file: ByteStorage, owner: LogOwner, finder: LogFinder): RecoveredLog {
  file.sync();
  const found = openLog(file, owner);
  const reader = new RingReader(file, found.geometry);
  let head = found.state.tail;
  for (;;) {
    const record = tellNext(reader, found, head, finder);
    if (record === undefined) break;
    head = record.next;
  }
  const lostFrom = reader.isUnreadable || wasDurable(reader, found, head.position) ? head.position : Infinity;
  return { superblock: beginLife(file, found, head.position, lostFrom), head };
}

/** The record at `place`, which the finder has been told of; undefined where there is none that is whole. */
function tellNext(
  reader: RingReader,
  { salt, geometry, state }: LogSuperblock,
  place: LogPlace,
  finder: LogFinder,
): FoundRecord | undefined {
  const { sectorBytes, windowBytes } = geometry;
  const room = Math.min(windowBytes, roomAt(geometry, state.tail.position, place.position));
  if (room < sectorBytes) return undefined;
  const sector = reader.read(place.position, sectorBytes);
  const header = sector && decodeRecordHeader(sector, salt);
  if (header?.position !== place.position || header.link !== place.link) return undefined;
  const bytes = recordBytes(header.length, sectorBytes);
  if (bytes > room) return undefined;
  const whole = reader.read(place.position, bytes);
  if (whole === undefined) return undefined;
  const payload = whole.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + header.length);
  if (crc32(payload) !== header.payloadChecksum) return undefined;
  const { kind, high, low, length, life } = header;
  if (!isKnownKind(kind)) {
    throw new UblkError("EVERSION", `it has a record of kind ${kind}: use the sluice that wrote it, or a newer one`);
  }
  const next = { position: place.position + bytes, link: header.checksum };
  const record = { kind, place, next, length, life };
  if (kind === LOG_RECORD.TRANSFER) finder.transfer(high, low, record, payload);
  else if (kind === LOG_RECORD.POINT_ITEMS) finder.pointItems(fromHalves(high, low), record);
  else finder.pointEnd(fromHalves(high, low), record, payload);
  return record;
}

/**
 * Something at or behind `head`, where no record is whole, had been durable: the superblock says so, or a record of the last
 * life that was appended later. No more than a window is appended behind what is durable, so such a record begins within one.
 */
function wasDurable(reader: RingReader, { salt, geometry, state }: LogSuperblock, head: number): boolean {
  if (state.durable > head) return true;
  const { sectorBytes, windowBytes } = geometry;
  const behind = Math.min(windowBytes, roomAt(geometry, state.tail.position, head));
  for (let position = head; position <= head + behind; position += sectorBytes) {
    const sector = reader.read(position, sectorBytes);
    const header = sector && decodeRecordHeader(sector, salt);
    // Of an earlier life it would be what that life's own recovery has given up.
    if (header?.life === state.life && header.durable > head) return true;
  }
  return false;
}

/** Makes a new life, durable in both slots: a superblock that is damaged later does not bring back a number that was used. */
function beginLife(file: ByteStorage, found: LogSuperblock, head: number, lostFrom: number): LogSuperblock {
  const { geometry, state, sequence } = found;
  clearSector(file, geometry, head);
  const lostBefore = state.lostFrom === 0 ? Infinity : state.lostFrom;
  const lost = Math.min(lostBefore, lostFrom);
  const next = { ...state, life: state.life + 1, durable: head, lostFrom: lost === Infinity ? 0 : lost };
  const first = { ...found, sequence: sequence + 1, state: next };
  writeLogSuperblock(file, first);
  file.sync();
  const second = { ...first, sequence: sequence + 2 };
  writeLogSuperblock(file, second);
  file.sync();
  return second;
}

/** The head's sector holds nothing that counts: it is never the tail's (see roomAt). */
function clearSector(file: ByteStorage, geometry: LogGeometry, position: number): void {
  file.write(offsetOf(geometry, position), new Uint8Array(geometry.sectorBytes));
}
