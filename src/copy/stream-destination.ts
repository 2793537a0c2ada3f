/**
 * Where a copy goes as a stream of records (stream-format.ts): a file, or a pipe.
 *
 * Invariant: the records that the last mark counts are durable, where the destination can be synced at all; a later process
 * cuts off what is behind them, and goes on with the next. Parts are gathered until a record is full, or is to be durable.
 */
import { fdatasync, write } from "node:fs";
import type { ByteRange } from "../targets/cow/byte-range.ts";
import { UblkError } from "../ublk/errors.ts";
import type { Ended } from "./copy-job.ts";
import { destinationFailed, type Destination, type StreamMark } from "./destination.ts";
import { openToWrite, STREAM_KINDS, type DestinationUse, type OpenCopy } from "./open-copy.ts";
import { syncFolder } from "./sealed-text.ts";
import {
  encodeData,
  encodeEnd,
  encodeStart,
  PAYLOAD_AT,
  roomForPart,
  type StreamStart,
} from "../targets/stream-format.ts";

/** Which moment it is of is known when it begins. */
type StartWithoutTime = Omit<StreamStart, "createdMs">;

export class StreamDestination implements Destination {
  readonly #opened: OpenCopy;
  readonly #start: StartWithoutTime;
  #createdMs = 0;
  readonly #record: Uint8Array;
  /** What is in the record so far. */
  #parts: ByteRange[] = [];
  #filled = 0;
  #records: number;
  #payloadBytes: number;

  /** `mark` is how far an earlier process has come. */
  constructor(opened: OpenCopy, start: StartWithoutTime, recordBytes: number, mark: StreamMark) {
    this.#opened = opened;
    this.#start = start;
    this.#record = new Uint8Array(recordBytes);
    this.#records = mark.records;
    this.#payloadBytes = mark.payloadBytes;
  }

  get mark(): StreamMark {
    return { records: this.#records, payloadBytes: this.#payloadBytes };
  }

  async begin(createdMs: number): Promise<void> {
    this.#createdMs = createdMs;
    this.#records = 0;
    this.#payloadBytes = 0;
    this.#parts = [];
    this.#filled = 0;
    if (this.#opened.kind === "file") await this.#cut(0);
  }

  async goOn(): Promise<void> {
    const bytes = this.#records * this.#record.length;
    if ((await this.#opened.size()) < bytes) {
      throw new UblkError(
        "ESIZE",
        `Destination ${this.#opened.path} is not as it was left: wanted at least ${bytes} bytes`,
      );
    }
    await this.#cut(bytes);
  }

  async #cut(bytes: number): Promise<void> {
    try {
      await this.#opened.resize(bytes);
      await syncFolder(this.#opened.path);
    } catch (cause) {
      throw destinationFailed(this.#opened.path, cause);
    }
  }

  write(offset: number, bytes: Uint8Array, ended: Ended): void {
    if (this.#records > 0) {
      this.#gather(offset, bytes, ended);
      return;
    }
    encodeStart(this.#record, { ...this.#start, createdMs: this.#createdMs });
    this.#append((error) => {
      if (error !== undefined) ended(error);
      else this.#gather(offset, bytes, ended);
    });
  }

  #gather(offset: number, bytes: Uint8Array, ended: Ended): void {
    const length = roomForPart(this.#record.length, this.#parts.length, this.#filled, bytes.length);
    if (length > 0) {
      this.#record.set(bytes.subarray(0, length), PAYLOAD_AT + this.#filled);
      this.#parts.push({ offset, length });
      this.#filled += length;
    }
    if (length === bytes.length) {
      queueMicrotask(() => ended(undefined));
      return;
    }
    this.#writeGathered((error) => {
      if (error !== undefined) ended(error);
      else this.#gather(offset + length, bytes.subarray(length), ended);
    });
  }

  /** What failed is written again when it is asked for again. */
  #writeGathered(ended: Ended): void {
    if (this.#parts.length === 0) {
      queueMicrotask(() => ended(undefined));
      return;
    }
    encodeData(this.#record, { stream: this.#start.stream, sequence: this.#records, parts: this.#parts });
    this.#append((error) => {
      if (error === undefined) {
        this.#payloadBytes += this.#filled;
        this.#parts = [];
        this.#filled = 0;
      }
      ended(error);
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
    write(this.#opened.fd, this.#record, from, length - from, position, (error, written) => {
      if (error !== null) ended(destinationFailed(this.#opened.path, error));
      else if (from + written < length) this.#put(from + written, ended);
      else ended(undefined);
    });
  }

  sync(ended: Ended): void {
    this.#writeGathered((error) => {
      if (error !== undefined || this.#isPipe) ended(error);
      else this.#syncFile(ended);
    });
  }

  #syncFile(ended: Ended): void {
    fdatasync(this.#opened.fd, (error) =>
      ended(error === null ? undefined : destinationFailed(this.#opened.path, error)),
    );
  }

  /** Writes the end record: to be called when all of it is written. */
  finish(ended: Ended): void {
    this.#writeGathered((error) => {
      if (error === undefined) this.#writeEnd(ended);
      else ended(error);
    });
  }

  #writeEnd(ended: Ended): void {
    const { stream } = this.#start;
    encodeEnd(this.#record, { stream, sequence: this.#records, payloadBytes: this.#payloadBytes });
    this.#put(0, (error) => {
      if (error !== undefined || this.#isPipe) ended(error);
      else this.#syncFile(ended);
    });
  }

  get #isPipe(): boolean {
    return this.#opened.kind === "pipe";
  }

  takeBack(): Promise<void> {
    return this.#opened.takeBack();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

/** Opens the file or pipe of a stream. Throws as openToWrite. */
export async function openStream(
  path: string,
  use: DestinationUse,
  start: StartWithoutTime,
  recordBytes: number,
  mark: StreamMark,
): Promise<StreamDestination> {
  return new StreamDestination(await openToWrite(path, use, STREAM_KINDS), start, recordBytes, mark);
}
