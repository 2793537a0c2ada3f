/**
 * What the receiver notes at the end of a point's list in its log: with this record the point is committed, and with it alone
 * the point is found again.
 *
 * Invariant: what a point consists of lies before its end, in so many records; older lists of the same number were given up.
 *
 *     0  4  incarnation of the source    16  8  moment of the source, ms since 1970     40  8  position where the tail
 *     4  4  last transfer of the point   24  8  generation of the last closed point,           may go when it is applied
 *     8  4  number of its lists, or            which it may be itself; 0 for none       48  4  link there
 *           of its transfers (kind 3)    32  8  number of the last closed point          52  4  log of the source that it was cut from
 *    12  4  1 closed, 2 open, 3 made            before it                                56  8  the first transfer behind it:
 *           of the log here                                                                     incarnation (4), number (4)
 *
 * All numbers are little-endian.
 */
import { UblkError } from "../ublk/errors.ts";
import type { Generation } from "./generations.ts";
import type { LogPlace } from "./log-geometry.ts";
import { getSafeNumber, setSafeNumber } from "./safe-number.ts";
import { getTransferId, setTransferId, type TransferId } from "./transfer-id.ts";

export const POINT_RECORD_BYTES = 64;
const CLOSED = 1;
const OPEN = 2;
const REPLAY = 3;

export interface PointRecord {
  /** The last transfer that belongs to it. */
  readonly cut: TransferId;
  /** How many lists, right before its end but for transfers; of a replay, how many transfers, the last one being the cut. */
  readonly lists: number;
  readonly isClosed: boolean;
  /** A closed point that the receiver has made itself: the one before it, and what its log had behind that, up to the cut. */
  readonly isReplay: boolean;
  readonly createdMs: number;
  /** Of the source of the last closed point, which it may be itself. */
  readonly generation: Generation;
  /** What the image was last exactly; 0 for nothing. */
  readonly lastClosed: number;
  readonly tail: LogPlace;
  /** The first transfer that is not in it, whether it exists yet or not. */
  readonly next: TransferId;
  /** Which log of the source it was cut from. */
  readonly log: number;
}

export function encodePointRecord(point: PointRecord): Uint8Array {
  const bytes = new Uint8Array(POINT_RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  setTransferId(view, 0, point.cut);
  view.setUint32(8, point.lists, true);
  view.setUint32(12, point.isReplay ? REPLAY : point.isClosed ? CLOSED : OPEN, true);
  setSafeNumber(view, 16, point.createdMs);
  view.setBigUint64(24, BigInt(`0x${point.generation}`), true);
  setSafeNumber(view, 32, point.lastClosed);
  setSafeNumber(view, 40, point.tail.position);
  view.setUint32(48, point.tail.link, true);
  view.setUint32(52, point.log, true);
  setTransferId(view, 56, point.next);
  return bytes;
}

/** Throws ELOG for what no sluice has written. */
export function decodePointRecord(bytes: Uint8Array): PointRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = bytes.length === POINT_RECORD_BYTES ? view.getUint32(12, true) : 0;
  if (kind < CLOSED || kind > REPLAY) throw new UblkError("ELOG", "the end of a point in it is none");
  return {
    cut: getTransferId(view, 0),
    lists: view.getUint32(8, true),
    isClosed: kind !== OPEN,
    isReplay: kind === REPLAY,
    createdMs: getSafeNumber(view, 16),
    generation: view.getBigUint64(24, true).toString(16).padStart(16, "0"),
    lastClosed: getSafeNumber(view, 32),
    tail: { position: getSafeNumber(view, 40), link: view.getUint32(48, true) },
    log: view.getUint32(52, true),
    next: getTransferId(view, 56),
  };
}
