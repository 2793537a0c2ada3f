/** What a receiver tells of itself and of the volumes that are mirrored to it. */
import type { PointState } from "../targets/cow/catalog.ts";

export interface ReceivedPointRow {
  readonly point: number;
  /** The moment of the source, ISO 8601; null where that is not known any more. */
  readonly created: string | null;
  /** "valid", or why it was given up. */
  readonly state: PointState;
}

export interface ExportedPointRow extends ReceivedPointRow {
  /** /dev/ublkbN, read-only. */
  readonly device: string;
}

export interface ReceivedStatus {
  readonly name: string;
  /** "promoted": it is written here. */
  readonly state: "waiting" | "connected" | "promoted" | "failed";
  /** Why it has failed, in a line. */
  readonly error: string | null;
  readonly sizeBytes: number | null;
  /** Of the source that is connected. */
  readonly source: string | null;
  readonly since: string | null;
  /** Number of the last point that was committed; 0 for none. */
  readonly lastPoint: number | null;
  /** What is shown; null where there is none yet. */
  readonly lastClosed: ReceivedPointRow | null;
  /** Kept beside the image, the oldest first. */
  readonly points: readonly ReceivedPointRow[];
  /** Points that are shown as devices, the last one and those that are kept longer for it among them. */
  readonly exports: readonly ExportedPointRow[];
  /** The last transfer in the log: incarnation and number. */
  readonly lastTransfer: { readonly incarnation: number; readonly counter: number } | null;
  /** Since the receiver was started. */
  readonly received: { readonly transfers: number; readonly transferBytes: number; readonly itemBytes: number };
  readonly log: Usage | null;
  readonly store: Usage | null;
  /** The store has no room for what the next point overwrites: it waits. */
  readonly isStoreFull: boolean;
}

/** What a volume is that was promoted. */
export interface Promoted {
  readonly point: ReceivedPointRow;
  /** It is put back to that at its next start, since something was being copied. */
  readonly isRolledBack: boolean;
}

/** In bytes. */
export interface Usage {
  readonly used: number;
  readonly size: number;
}

export interface ReceiveStatus {
  readonly version: string;
  readonly config: string;
  readonly listen: string;
  readonly transport: string;
  readonly pid: number;
  readonly since: string;
  readonly volumes: readonly ReceivedStatus[];
}
