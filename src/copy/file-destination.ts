/**
 * Where a copy goes: a file, which stays sparse where the volume holds zeroes, or a block device, which is opened exclusively.
 *
 * Invariant: nothing that was there before is overwritten unless that was asked for.
 */
import { fdatasync, write } from "node:fs";
import { constants } from "node:fs";
import { open, stat, type FileHandle } from "node:fs/promises";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import type { CopyDestination, Ended } from "./copy-job.ts";
import { syncFolder } from "./copy-record.ts";

/** "new": nothing may be there; "replace": what is there is overwritten; "resume": an earlier process has begun it. */
export type DestinationUse = "new" | "replace" | "resume";

export class FileDestination implements CopyDestination, AsyncDisposable {
  readonly path: string;
  readonly #handle: FileHandle;
  /** What was never written reads as zeroes. */
  readonly #isSparse: boolean;
  #zeroes = Buffer.alloc(0);

  constructor(path: string, handle: FileHandle, isSparse: boolean) {
    this.path = path;
    this.#handle = handle;
    this.#isSparse = isSparse;
  }

  write(offset: number, bytes: Uint8Array, ended: Ended): void {
    if (this.#isSparse && this.#isZero(bytes)) ended(undefined);
    else this.#write(offset, bytes, ended);
  }

  #isZero(bytes: Uint8Array): boolean {
    if (this.#zeroes.length < bytes.length) this.#zeroes = Buffer.alloc(bytes.length);
    return this.#zeroes.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
  }

  #write(offset: number, bytes: Uint8Array, ended: Ended): void {
    write(this.#handle.fd, bytes, 0, bytes.length, offset, (error, written) => {
      if (error !== null) ended(this.#failed(error));
      else if (written < bytes.length) this.#write(offset + written, bytes.subarray(written), ended);
      else ended(undefined);
    });
  }

  sync(ended: Ended): void {
    fdatasync(this.#handle.fd, (error) => ended(error === null ? undefined : this.#failed(error)));
  }

  finish(ended: Ended): void {
    ended(undefined);
  }

  #failed(error: Error): UblkError {
    return new UblkError(codeOf(error) ?? "EIO", `Destination ${this.path}: ${messageOf(error)}`, { cause: error });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** Throws EEXIST, EBUSY, ESIZE, ENOENT, EACCES, with one line that says what to do. */
export async function openDestination(path: string, bytes: number, use: DestinationUse): Promise<FileDestination> {
  const found = await statOf(path);
  if (found === undefined && use === "resume") throw new UblkError("ENOENT", `Destination ${path} is no more`);
  if (found?.isBlockDevice() === true) return openDevice(path, bytes);
  if (found !== undefined && !found.isFile()) {
    throw new UblkError("EINVAL", `Destination ${path} is neither a file nor a block device`);
  }
  if (found !== undefined && use === "new") {
    throw new UblkError("EEXIST", `Destination ${path} exists already: name another, or overwrite it with --force`);
  }
  let handle: FileHandle | undefined;
  try {
    handle = await open(
      path,
      constants.O_RDWR | (found === undefined ? constants.O_CREAT | constants.O_EXCL : 0),
      0o600,
    );
    if (!native.lockFile(handle.fd)) throw new UblkError("EBUSY", `Destination ${path} is in use by another sluice`);
    if (use !== "resume") {
      await handle.truncate(0);
      await handle.truncate(bytes);
      await syncFolder(path);
    } else if ((await handle.stat()).size !== bytes) {
      throw new UblkError("ESIZE", `Destination ${path} is not as it was left: wanted ${bytes} bytes`);
    }
    return new FileDestination(path, handle, true);
  } catch (cause) {
    await handle?.close();
    throw explain(path, cause);
  }
}

async function statOf(path: string): Promise<Awaited<ReturnType<typeof stat>> | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw explain(path, cause);
  }
}

async function openDevice(path: string, bytes: number): Promise<FileDestination> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_EXCL);
    const { sizeBytes } = native.blockDevice(handle.fd);
    if (sizeBytes < bytes) {
      throw new UblkError("ESIZE", `Destination ${path} has ${sizeBytes} bytes, less than the ${bytes} of the volume`);
    }
    return new FileDestination(path, handle, false);
  } catch (cause) {
    await handle?.close();
    throw explain(path, cause);
  }
}

function explain(path: string, cause: unknown): UblkError {
  if (cause instanceof UblkError) return cause;
  const code = codeOf(cause) ?? "EOPEN";
  if (code === "EBUSY")
    return new UblkError(code, `Destination ${path} is in use: unmount it, or stop what uses it`, { cause });
  return new UblkError(code, `Destination ${path}: ${messageOf(cause)}`, { cause });
}
