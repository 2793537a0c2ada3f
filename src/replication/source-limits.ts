/**
 * How much of a point goes over at once, so that the receiver's log has room for it whatever happens.
 *
 * Invariant: of the log, two points have room for their transfers at once, the one that is under way and the one that is being
 * built; and a quarter is for the lists of one. A point that is larger would never be committed: the room that it waits for is
 * given back only when it is.
 */
import { tableBytes } from "../targets/mirror/transfer.ts";
import { RING_ENTRIES, type TransferRingSize } from "../targets/mirror/transfer-ring.ts";
import { UblkError } from "../ublk/errors.ts";
import { chargeOf } from "./messages.ts";

export interface SourceLimits {
  /** Transfers that belong to one point, by chargeOf: so much is sent before it is cut, and what is left then goes too. */
  readonly aheadBytes: number;
  /** Blocks of a point that have to travel as data. */
  readonly partialsMax: number;
  /** What is copied with a point, in bytes. */
  readonly copyBytesMax: number;
}

/** Of the receiver's log. */
const TRANSFERS_SHARE = 5 / 16;
const PARTIALS_SHARE = 1 / 8;
const COPIES_SHARE = 1 / 16;
/** Of what is kept here, so much at least is sent before a point is cut. */
const AHEAD_MIN = 1 / 4;

/** The most that transfers in the source's own log count as. */
function chargeOfRing({ slots, dataBytes }: TransferRingSize): number {
  return dataBytes + slots * (chargeOf(tableBytes(RING_ENTRIES)) + chargeOf(0));
}

/** Throws ESIZE where the receiver's log is too small for what this source keeps. */
export function limitsFor(
  receiverLogBytes: number,
  ring: TransferRingSize,
  blockBytes: number,
  chunkBytes: number,
): SourceLimits {
  const kept = chargeOfRing(ring);
  const wanted = Math.max(Math.ceil((kept * (1 + AHEAD_MIN)) / TRANSFERS_SHARE), chunkBytes / COPIES_SHARE);
  if (receiverLogBytes < wanted) {
    throw new UblkError(
      "ESIZE",
      `the receiver's log has ${receiverLogBytes} bytes, wanted ${wanted} for a log of ${ring.dataBytes} here: make it larger there, or this one smaller`,
    );
  }
  return {
    aheadBytes: receiverLogBytes * TRANSFERS_SHARE - kept,
    partialsMax: Math.floor((receiverLogBytes * PARTIALS_SHARE) / blockBytes),
    copyBytesMax: receiverLogBytes * COPIES_SHARE,
  };
}
