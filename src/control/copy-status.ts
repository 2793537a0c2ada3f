/** What is told of the copy jobs of a volume: GET /v1/copies. */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { RECORD_STATES } from "../copy/copy-record.ts";
import type { CopyOrder } from "../copy/segment-list.ts";

export interface CopyRow {
  readonly name: string;
  readonly state: (typeof RECORD_STATES)[number];
  /** Why it failed. */
  readonly error: string | null;
  readonly destinations: readonly string[];
  /** ISO 8601: the moment whose volume it copies; of a staged job, when it was staged. */
  readonly created: string;
  readonly volumeBytes: number;
  /** What is durable at every destination. */
  readonly copiedBytes: number;
  readonly segmentBytes: number;
  readonly order: CopyOrder;
  /** Its limit. */
  readonly bytesPerSecond: number | null;
  /** What it reached since it began, or went on; null where it does not run. */
  readonly rateBytesPerSecond: number | null;
  /** At that rate. */
  readonly remainingSeconds: number | null;
}

/** What a job has not copied yet, in the order of the places. */
export interface CopyRemainder {
  readonly name: string;
  readonly ranges: readonly ByteRange[];
  /** There are more of them. */
  readonly isCut: boolean;
}
