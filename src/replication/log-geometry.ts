/**
 * Where things lie in the receiver's log. All offsets are in bytes from the start of the file or device.
 *
 *     0      superblock, slot A          8192   the ring of records
 *     4096   superblock, slot B
 *
 * A position is a place in the log as if it had no end: it only grows, and lies at `position % ringBytes` of the ring.
 */
import { UblkError } from "../ublk/errors.ts";
import { RECORD_HEADER_BYTES } from "./log-record.ts";

export const LOG_SUPERBLOCK_OFFSETS = [0, 4096] as const;
export const RING_OFFSET = 8192;
const RING_BYTES_MAX = 2 ** 50;
const WINDOW_BYTES_MAX = 2 ** 30;

export interface LogGeometry {
  /** What is written at once without tearing its neighbours, 512 or 4096: records begin at multiples of it. */
  readonly sectorBytes: number;
  /** How much may be appended that is not durable yet, in bytes; no record is larger. A multiple of the sector. */
  readonly windowBytes: number;
  /** Bytes of the ring: a multiple of the window, and at least two. */
  readonly ringBytes: number;
}

/** Where a record begins: its position, and the link that it has or must get. */
export interface LogPlace {
  readonly position: number;
  readonly link: number;
}

/** How a log in a file or device of `sizeBytes` is laid out. Throws ESIZE where that is too small. */
export function logGeometryFor(sizeBytes: number, sectorBytes: number, windowBytes: number): LogGeometry {
  const ringBytes = Math.floor((sizeBytes - RING_OFFSET) / windowBytes) * windowBytes;
  if (ringBytes < 2 * windowBytes) {
    const wanted = RING_OFFSET + 2 * windowBytes;
    throw new UblkError("ESIZE", `a log needs at least ${wanted} bytes, found ${sizeBytes}`);
  }
  return { sectorBytes, windowBytes, ringBytes };
}

/** Throws ELAYOUT for a geometry that cannot be. */
export function checkLogGeometry(geometry: LogGeometry): void {
  const { sectorBytes, windowBytes, ringBytes } = geometry;
  const isAligned = windowBytes % sectorBytes === 0 && ringBytes % windowBytes === 0;
  const isWithin = windowBytes > 0 && windowBytes <= WINDOW_BYTES_MAX && ringBytes <= RING_BYTES_MAX;
  const hasSector = sectorBytes === 512 || sectorBytes === 4096;
  if (hasSector && isAligned && isWithin && ringBytes >= 2 * windowBytes) return;
  throw new UblkError("ELAYOUT", `A log cannot be laid out as ${JSON.stringify(geometry)}`);
}

/** Of the whole log. */
export function logBytes({ ringBytes }: LogGeometry): number {
  return RING_OFFSET + ringBytes;
}

/** Where a position lies in the file. */
export function offsetOf({ ringBytes }: LogGeometry, position: number): number {
  return RING_OFFSET + (position % ringBytes);
}

/** Bytes from a position to where the ring begins again. */
export function bytesToRingEnd({ ringBytes }: LogGeometry, position: number): number {
  return ringBytes - (position % ringBytes);
}

/** Bytes that may be appended at `head`. A sector is never filled: so the head's sector is never the tail's. */
export function roomAt({ ringBytes, sectorBytes }: LogGeometry, tail: number, head: number): number {
  return ringBytes - sectorBytes - (head - tail);
}

/** The largest payload of a record. */
export function logPayloadMax({ windowBytes }: LogGeometry): number {
  return windowBytes - RECORD_HEADER_BYTES;
}
