/**
 * The points in time that a store keeps originals for, and the last epoch that was given out.
 *
 * Invariant: an epoch is given to one point only, ever: originals are found by it. Two areas of the store take turns, each
 * written whole with a checksum, so that a write that tears leaves the other one, which is still true.
 *
 *     0  8  "SLUICECT"            28  4  points
 *     8  4  salt of the store     32  -  points, 128 bytes each:
 *    12  4  CRC-32 of the rest            0  4  epoch      8  8  created, ms since 1970    24  64  name, UTF-8,
 *    16  8  sequence                      4  1  kind      16  8  bytes of the volume               zeros after it
 *    24  4  last epoch                    5  1  state                                   88   4  mark
 */
import { crc32 } from "node:zlib";
import { UblkError } from "../../ublk/errors.ts";

const HEADER_BYTES = 32;
const POINT_BYTES = 128;
const NAME_AT = 24;
const NAME_BYTES = 64;
const MARK_AT = 88;
const CHECKED_FROM = 16;
const MAGIC = new TextEncoder().encode("SLUICECT");

/** "full": given up when the store was full; "failed": when it could not be written; "damaged": when it could not be read. */
export const POINT_STATES = ["valid", "full", "failed", "damaged"] as const;
export type PointState = (typeof POINT_STATES)[number];
/**
 * "copy": shows only what the copy has not passed yet. "bulk": of a volume that an outside program copies as it goes along.
 * "mirror": a closed point of a volume that is mirrored to here. Add at the end only: the store has them by number.
 */
const KINDS = ["snapshot", "copy", "bulk", "mirror"] as const;
export type PointKind = (typeof KINDS)[number];

export interface Point {
  readonly epoch: number;
  readonly kind: PointKind;
  readonly name: string;
  readonly createdMs: number;
  /** What the volume had then. */
  readonly volumeBytes: number;
  readonly state: PointState;
  /** The epoch from which on nothing is moved for it any more; 0 while there is none. */
  readonly mark: number;
}

export interface CatalogContent {
  readonly sequence: number;
  readonly lastEpoch: number;
  readonly points: readonly Point[];
}

/** How many points an area has room for. */
export function pointsMax(catalogBytes: number): number {
  return Math.floor((catalogBytes - HEADER_BYTES) / POINT_BYTES);
}

/** Writes the content into an area's memory; gives how many bytes of it count. Throws ENOSPC, ENAME. */
export function encodeCatalog(into: Uint8Array, salt: number, content: CatalogContent): number {
  const { sequence, lastEpoch, points } = content;
  const view = new DataView(into.buffer, into.byteOffset, into.length);
  if (points.length > pointsMax(into.length)) {
    throw new UblkError("ENOSPC", `The store's catalogue has room for ${pointsMax(into.length)} points`);
  }
  const length = HEADER_BYTES + points.length * POINT_BYTES;
  into.fill(0, 0, length);
  into.set(MAGIC);
  view.setUint32(8, salt, true);
  view.setBigUint64(16, BigInt(sequence), true);
  view.setUint32(24, lastEpoch, true);
  view.setUint32(28, points.length, true);
  points.forEach((point, index) => {
    const at = HEADER_BYTES + index * POINT_BYTES;
    const name = new TextEncoder().encode(point.name);
    if (name.length > NAME_BYTES) throw new UblkError("ENAME", `"${point.name}" is longer than ${NAME_BYTES} bytes`);
    view.setUint32(at, point.epoch, true);
    view.setUint8(at + 4, KINDS.indexOf(point.kind));
    view.setUint8(at + 5, POINT_STATES.indexOf(point.state));
    view.setBigUint64(at + 8, BigInt(Math.round(point.createdMs)), true);
    view.setBigUint64(at + 16, BigInt(point.volumeBytes), true);
    into.set(name, at + NAME_AT);
    view.setUint32(at + MARK_AT, point.mark, true);
  });
  view.setUint32(12, crc32(into.subarray(CHECKED_FROM, length)), true);
  return length;
}

/** Undefined for an area that was never written, or is damaged. */
export function decodeCatalog(bytes: Uint8Array, salt: number): CatalogContent | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!MAGIC.every((byte, index) => bytes[index] === byte) || view.getUint32(8, true) !== salt) return undefined;
  const count = view.getUint32(28, true);
  if (count > pointsMax(bytes.length)) return undefined;
  const length = HEADER_BYTES + count * POINT_BYTES;
  if (view.getUint32(12, true) !== crc32(bytes.subarray(CHECKED_FROM, length))) return undefined;
  return {
    sequence: Number(view.getBigUint64(16, true)),
    lastEpoch: view.getUint32(24, true),
    points: Array.from({ length: count }, (_, index) => pointAt(bytes, view, HEADER_BYTES + index * POINT_BYTES)),
  };
}

function pointAt(bytes: Uint8Array, view: DataView, at: number): Point {
  const name = bytes.subarray(at + NAME_AT, at + NAME_AT + NAME_BYTES);
  const end = name.indexOf(0);
  const kind = KINDS[view.getUint8(at + 4)];
  const state = POINT_STATES[view.getUint8(at + 5)];
  if (kind === undefined || state === undefined) {
    throw new UblkError("EVERSION", "its catalogue has points of a kind that is not known here: use a newer sluice");
  }
  return {
    epoch: view.getUint32(at, true),
    kind,
    state,
    createdMs: Number(view.getBigUint64(at + 8, true)),
    volumeBytes: Number(view.getBigUint64(at + 16, true)),
    mark: view.getUint32(at + MARK_AT, true),
    name: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)),
  };
}
