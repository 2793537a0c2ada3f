/** What a daemon says of the mirror of its volume. */
import type { LinkStatus } from "../replication/link.ts";
import type { MirrorMode, MirrorPolicy } from "../targets/mirror/modes.ts";

export { LINK_STATES } from "../replication/link.ts";

/** A point that was cut at one instant with those of other volumes; the receiver may not have it yet. */
export interface TakenPointRow {
  readonly point: number;
}

export interface MirrorStatus extends LinkStatus {
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
  /** Blocks of consistency points that were written since the last one was cut. */
  readonly writtenBlocks: number;
  /** Since the daemon began. */
  readonly overflows: number;
  readonly heldWrites: number;
}
