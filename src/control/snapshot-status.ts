/** What is told of the snapshots of a volume: GET /v1/snapshots, and a part of GET /v1/status. */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { PointState } from "../targets/cow/catalog.ts";
import type { CowNumbers } from "../targets/cow/cow-counts.ts";

export interface SnapshotRow {
  readonly name: string;
  /** "mirror": a point of the mirror, which was kept here before the volume was promoted. Its name is "@", and its number. */
  readonly kind: "snapshot" | "mirror";
  /** ISO 8601. */
  readonly created: string;
  /** What the volume had then. */
  readonly sizeBytes: number;
  /** "valid", or why it was given up. */
  readonly state: PointState;
  /** /dev/ublkbN while it is exported. */
  readonly device: string | null;
}

export interface SnapshotStoreStatus {
  readonly store: string;
  readonly blockBytes: number;
  /** Room for originals, and how much of it is in use. What can be freed by copying within the store counts as free. */
  readonly sizeBytes: number;
  readonly usedBytes: number;
  /** How fast originals came lately; what was freed meanwhile is not set against it. */
  readonly fillingBytesPerSecond: number;
  /** At that rate; null where it does not fill. */
  readonly fullInSeconds: number | null;
  /** How often the daemon has warned that it is nearly full. */
  readonly warnings: number;
  readonly whenFull: "invalidate" | "stall";
  readonly counts: CowNumbers;
}

/** What changed between two snapshots, or since one; whole blocks, in order. */
export interface SnapshotDiff {
  readonly from: string;
  /** Null for now. */
  readonly to: string | null;
  readonly blockBytes: number;
  /** Of the volume at the end. */
  readonly sizeBytes: number;
  readonly ranges: readonly ByteRange[];
}

export interface SnapshotList {
  readonly store: SnapshotStoreStatus;
  readonly snapshots: readonly SnapshotRow[];
}
