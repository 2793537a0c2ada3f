/**
 * Where a copy goes as a stream of records (stream-format.ts): a file, or a pipe.
 *
 * Invariant: the records that the last mark counts are durable, where the destination can be synced at all; a later process
 * cuts off what is behind them, and goes on with the next.
 */
import { fdatasync, write } from "node:fs";
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import type { CopyDestination, Ended } from "./copy-job.ts";
import { syncFolder } from "./copy-record.ts";
import type { DestinationUse } from "./file-destination.ts";
import { encodeData, encodeEnd, encodeStart, PAYLOAD_AT, payloadMax, type StreamStart } from "./stream-format.ts";

/** How far a stream is. */
export interface StreamMark {
  readonly records: number;
  readonly payloadBytes: number;
}

export class StreamDestination implements CopyDestination, AsyncDisposable {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #isPipe: boolean;
  readonly #start: StreamStart;
  readonly #record: Uint8Array;
  #records: number;
  #payloadBytes: number;

  constructor(
    path: string,
    opened: { handle: FileHandle; isPipe: boolean },
    start: StreamStart,
    recordBytes: number,
    mark: StreamMark,
  ) {
    this.path = path;
    this.#handle = opened.handle;
    this.#isPipe = opened.isPipe;
    this.#start = start;
    this.#record = new Uint8Array(recordBytes);
    this.#records = mark.records;
    this.#payloadBytes = mark.payloadBytes;
  }

  get mark(): StreamMark {
    return { records: this.#records, payloadBytes: this.#payloadBytes };
  }

  write(offset: number, bytes: Uint8Array, ended: Ended): void {
    if (this.#records > 0) {
      this.#writeData(offset, bytes, ended);
      return;
    }
    encodeStart(this.#record, this.#start);
    this.#append((error) => {
      if (error !== undefined) ended(error);
      else this.#writeData(offset, bytes, ended);
    });
  }

  #writeData(offset: number, bytes: Uint8Array, ended: Ended): void {
    if (bytes.length === 0) {
      ended(undefined);
      return;
    }
    const length = Math.min(bytes.length, payloadMax(this.#record.length));
    this.#record.set(bytes.subarray(0, length), PAYLOAD_AT);
    encodeData(this.#record, { stream: this.#start.stream, sequence: this.#records, offset, length });
    this.#append((error) => {
      if (error !== undefined) {
        ended(error);
        return;
      }
      this.#payloadBytes += length;
      this.#writeData(offset + length, bytes.subarray(length), ended);
    });
  }

  /** Writes the record; it counts when all of it is written. */
  #append(ended: Ended): void {
    this.#put(0, (error) => {
      if (error === undefined) this.#records++;
      ended(error);
    });
  }

  #put(from: number, ended: Ended): void {
    const { length } = this.#record;
    // Nothing can be taken back from a pipe: whoever reads it finds where it broke.
    const position = this.#isPipe ? null : this.#records * length + from;
    write(this.#handle.fd, this.#record, from, length - from, position, (error, written) => {
      if (error !== null) ended(this.#failed(error));
      else if (from + written < length) this.#put(from + written, ended);
      else ended(undefined);
    });
  }

  sync(ended: Ended): void {
    if (this.#isPipe) ended(undefined);
    else fdatasync(this.#handle.fd, (error) => ended(error === null ? undefined : this.#failed(error)));
  }

  /** Writes the end record: to be called when all of it is written. */
  finish(ended: Ended): void {
    const { stream } = this.#start;
    encodeEnd(this.#record, { stream, sequence: this.#records, payloadBytes: this.#payloadBytes });
    this.#put(0, (error) => {
      if (error === undefined) this.sync(ended);
      else ended(error);
    });
  }

  #failed(error: Error): UblkError {
    return new UblkError(codeOf(error) ?? "EIO", `Destination ${this.path}: ${messageOf(error)}`, { cause: error });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * Opens the file or pipe of a stream. Throws EEXIST, EBUSY, ENOENT, EACCES, and EPIPE where an earlier process had begun to
 * write to a pipe.
 */
export async function openStreamDestination(
  path: string,
  use: DestinationUse,
  start: StreamStart,
  recordBytes: number,
  mark: StreamMark,
): Promise<StreamDestination> {
  let handle: FileHandle | undefined;
  try {
    handle = await openPath(path, use);
    const stats = await handle.stat();
    const isPipe = stats.isFIFO();
    if (!isPipe && !stats.isFile()) throw new UblkError("EINVAL", `Destination ${path} is neither a file nor a pipe`);
    if (isPipe && use === "resume") throw new UblkError("EPIPE", `Destination ${path} is a pipe: it cannot go on`);
    if (!isPipe) await prepareFile(handle, path, use, mark.records * recordBytes);
    return new StreamDestination(path, { handle, isPipe }, start, recordBytes, mark);
  } catch (cause) {
    await handle?.close();
    if (cause instanceof UblkError) throw cause;
    const code = codeOf(cause) ?? "EOPEN";
    const what = code === "EEXIST" ? "exists already: name another, or overwrite it with --force" : messageOf(cause);
    throw new UblkError(code, `Destination ${path}: ${what}`, { cause });
  }
}

async function openPath(path: string, use: DestinationUse): Promise<FileHandle> {
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  if (use === "resume") return open(path, O_WRONLY);
  try {
    return await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    // A pipe is there before it is written to.
    const existing = await open(path, O_WRONLY);
    if (use === "replace" || (await existing.stat()).isFIFO()) return existing;
    await existing.close();
    throw error;
  }
}

async function prepareFile(handle: FileHandle, path: string, use: DestinationUse, bytes: number): Promise<void> {
  if (!native.lockFile(handle.fd)) throw new UblkError("EBUSY", `Destination ${path} is in use by another sluice`);
  const { size } = await handle.stat();
  if (use === "resume" && size < bytes) {
    throw new UblkError("ESIZE", `Destination ${path} is not as it was left: wanted at least ${bytes} bytes`);
  }
  await handle.truncate(use === "resume" ? bytes : 0);
  await syncFolder(path);
}
