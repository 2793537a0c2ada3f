/**
 * An image as the destination of a copy: a file, which stays sparse where the volume holds zeroes, or a block device.
 *
 * Invariant: what was there before stays as it is until `begin`.
 */
import { fdatasync, write } from "node:fs";
import { UblkError } from "../ublk/errors.ts";
import type { Ended } from "./copy-job.ts";
import { destinationFailed, type Destination } from "./destination.ts";
import { checkRoom, openToWrite, type DestinationUse, type OpenCopy } from "./open-copy.ts";
import { syncFolder } from "./sealed-text.ts";

export class FileDestination implements Destination {
  readonly mark = null;
  readonly #opened: OpenCopy;
  readonly #bytes: number;
  #zeroes = Buffer.alloc(0);

  /** `bytes` is the size of the volume. */
  constructor(opened: OpenCopy, bytes: number) {
    this.#opened = opened;
    this.#bytes = bytes;
  }

  async begin(): Promise<void> {
    if (this.#opened.kind !== "file") return;
    try {
      await this.#opened.resize(0);
      await this.#opened.resize(this.#bytes);
      await syncFolder(this.#opened.path);
    } catch (cause) {
      throw destinationFailed(this.#opened.path, cause);
    }
  }

  async goOn(): Promise<void> {
    const { kind, path } = this.#opened;
    if (kind !== "file" || (await this.#opened.size()) === this.#bytes) return;
    throw new UblkError("ESIZE", `Destination ${path} is not as it was left: wanted ${this.#bytes} bytes`);
  }

  write(offset: number, bytes: Uint8Array, ended: Ended): void {
    // What was never written to a file reads as zeroes.
    if (this.#opened.kind === "file" && this.#isZero(bytes)) queueMicrotask(() => ended(undefined));
    else this.#write(offset, bytes, ended);
  }

  #isZero(bytes: Uint8Array): boolean {
    if (this.#zeroes.length < bytes.length) this.#zeroes = Buffer.alloc(bytes.length);
    return this.#zeroes.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
  }

  #write(offset: number, bytes: Uint8Array, ended: Ended): void {
    write(this.#opened.fd, bytes, 0, bytes.length, offset, (error, written) => {
      if (error !== null) ended(destinationFailed(this.#opened.path, error));
      else if (written < bytes.length) this.#write(offset + written, bytes.subarray(written), ended);
      else ended(undefined);
    });
  }

  sync(ended: Ended): void {
    fdatasync(this.#opened.fd, (error) =>
      ended(error === null ? undefined : destinationFailed(this.#opened.path, error)),
    );
  }

  finish(ended: Ended): void {
    queueMicrotask(() => ended(undefined));
  }

  takeBack(): Promise<void> {
    return this.#opened.takeBack();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

/** Opens the file or device of an image. Throws as openToWrite, and ESIZE where a device has no room. */
export async function openImage(path: string, bytes: number, use: DestinationUse): Promise<FileDestination> {
  const opened = await openToWrite(path, use);
  try {
    if (opened.kind === "device") checkRoom(opened, bytes);
    return new FileDestination(opened, bytes);
  } catch (cause) {
    await opened.takeBack();
    throw cause;
  }
}
