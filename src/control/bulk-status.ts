/** What is told of the bulk copy of a volume: GET /v1/bulk. */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { PointState } from "../targets/cow/catalog.ts";

/** The trailer of a stream of the control API that tells of an error in the middle: JSON, percent-encoded. */
export const ERROR_TRAILER = "sluice-error";

export interface BulkStatus {
  /**
   * "copying": originals are moved before they are overwritten. "marked": the copy has ended, and nothing is moved any more. Any
   * other: why it was given up; the copy is worth nothing.
   */
  readonly state: "copying" | "marked" | Exclude<PointState, "valid">;
  /** ISO 8601: the copy becomes what the volume was then. */
  readonly begun: string;
  /** What the volume had then. */
  readonly sizeBytes: number;
  /** What the copy is of: all of the volume, or parts of it, in order, each apart from the next. */
  readonly ranges: readonly ByteRange[];
  /** What has to be laid over the copy, up to now or to the mark; in whole blocks of this size. */
  readonly originalBytes: number;
  readonly blockBytes: number;
  /** Names the stream of its originals: 32 hexadecimal digits. */
  readonly stream: string;
}
