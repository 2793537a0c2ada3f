/** Where a copy job writes to: an image (file-destination.ts), or a stream (stream-destination.ts). */
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import type { CopyDestination } from "./copy-job.ts";

/** How far a stream is. */
export interface StreamMark {
  readonly records: number;
  readonly payloadBytes: number;
}

export interface Destination extends CopyDestination, AsyncDisposable {
  /** Null for an image. */
  readonly mark: StreamMark | null;
  /** Before anything is written: what was there is gone from now on. `createdMs` is the moment whose volume comes. */
  begin(createdMs: number): Promise<void>;
  /** Instead of `begin`, where an earlier process has begun. Throws ESIZE where it is not as it was left. */
  goOn(): Promise<void>;
  /** Nothing was begun, and nothing will be: closes it; what was made for it goes. */
  takeBack(): Promise<void>;
}

/** What is said of a destination that cannot be written to. */
export function destinationFailed(path: string, cause: unknown): UblkError {
  return new UblkError(codeOf(cause) ?? "EIO", `Destination ${path}: ${messageOf(cause)}`, { cause });
}
