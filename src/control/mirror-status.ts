/** What a daemon says of the mirror of its volume. */
import type { LinkStatus } from "../replication/link.ts";
import type { MirrorMode, MirrorPolicy } from "../targets/mirror/modes.ts";

export { LINK_STATES } from "../replication/link.ts";

/** A point that was cut at one instant with those of other volumes; the receiver may not have it yet. */
export interface TakenPointRow {
  readonly point: number;
}

/** How far the receiver shows less than there is here. */
export interface MirrorLag {
  /** That differ at most: what was written since the last point that is committed, and what is to be copied. */
  readonly bytes: number;
  /** How old the oldest write is that it does not show; null where that is not known, before its first closed point. */
  readonly seconds: number | null;
  /** Cut since the one that it shows. */
  readonly points: number;
}

export interface MirrorStatus extends Omit<LinkStatus, "behind"> {
  /** The receiver: HOST:PORT. */
  readonly to: string;
  readonly transport: "clear" | "tls";
  readonly mode: MirrorMode;
  readonly policy: MirrorPolicy;
  /** Writes are logged for the receiver. Where they are not, what they touch is copied. */
  readonly isLogging: boolean;
  readonly toCopyBytes: number;
  /** The limit of copying; null where there is none. */
  readonly copyBytesPerSecond: number | null;
  readonly lag: MirrorLag;
  /** Since the daemon began. */
  readonly overflows: number;
  readonly heldWrites: number;
}
