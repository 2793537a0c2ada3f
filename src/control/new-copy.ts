/** A copy job that is asked for, and the record that it begins with. */
import { unitBytesFor } from "../copy/copy-job.ts";
import type { CopyRecord } from "../copy/copy-record.ts";
import type { CopyOrder } from "../copy/segment-list.ts";
import { UblkError } from "../ublk/errors.ts";
import { newDestination } from "./copy-destinations.ts";

const SEGMENT_BYTES_MIN = 64 * 1024;
const SEGMENT_BYTES_MAX = 16 * 2 ** 20;

/** What is asked for. */
export interface NewCopy {
  /** Undefined: one is made up. */
  readonly name: string | undefined;
  readonly destinations: readonly string[];
  /** A power of two from 64 KiB to 16 MiB. */
  readonly segmentBytes: number;
  readonly order: CopyOrder;
  readonly bytesPerSecond: number | null;
  /** Of the records of a stream; null for images. */
  readonly recordBytes: number | null;
  /** What is at a destination is overwritten. */
  readonly force: boolean;
  /** It only begins when it is released. */
  readonly staged: boolean;
}

/** Throws EUSAGE where a segment cannot have that size. */
export function newRecord(
  name: string,
  { destinations, order, bytesPerSecond, segmentBytes, recordBytes, force, staged }: NewCopy,
  volume: { readonly sizeBytes: number; readonly blockBytes: number },
): CopyRecord {
  if (
    segmentBytes < SEGMENT_BYTES_MIN ||
    segmentBytes > SEGMENT_BYTES_MAX ||
    !Number.isInteger(Math.log2(segmentBytes))
  ) {
    throw new UblkError("EUSAGE", `A segment is a power of two from 64KiB to 16MiB, found ${segmentBytes} bytes`);
  }
  const { sizeBytes } = volume;
  const unitBytes = unitBytesFor(sizeBytes, volume.blockBytes);
  return {
    name,
    state: staged ? "staged" : "running",
    error: null,
    epoch: null,
    createdMs: Date.now(),
    volumeBytes: sizeBytes,
    unitBytes,
    segmentBytes: Math.max(segmentBytes, unitBytes),
    order,
    bytesPerSecond,
    destinations: destinations.map((path) => newDestination(path, recordBytes)),
    overwrites: force,
    copied: new Uint8Array(Math.ceil(Math.ceil(sizeBytes / unitBytes) / 8)),
  };
}
