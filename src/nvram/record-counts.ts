/** What the record counts, in memory that another thread may read. */
import { indexOf, SharedCounts } from "./shared-counts.ts";

const NAMES = [
  /** Writes, discards and zeroes of the host. */
  "writes",
  /** Of those, the ones that had to wait for an update. */
  "held",
  /** Updates of the durable record: one barrier each. */
  "updates",
  /** Chunks added because a write wanted them. */
  "wanted",
  /** Chunks added because they were predicted. */
  "predicted",
  /** Chunks taken out to make room. */
  "removed",
  /** Of those, predictions that were never written. */
  "wasted",
  /** Times that writes found no room, everything being owed to the remote. */
  "stalls",
  /** Flushes of our own, so that chunks could be taken out. */
  "flushes",
  /** Updates that failed. */
  "failures",
] as const;

export type RecordCount = (typeof NAMES)[number];
export type RecordNumbers = Readonly<Record<RecordCount, number>>;

export const COUNT = indexOf(NAMES);

export class RecordCounts extends SharedCounts<RecordCount> {
  constructor(shared?: SharedArrayBuffer) {
    super(NAMES, shared);
  }
}
