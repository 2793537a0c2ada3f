/**
 * What a restore writes to: a device, in place; or a file, which gets its name when it is whole.
 *
 * Invariant: no file is overwritten unasked. Until it is whole a new file has a name that nothing else is given, so what is found
 * under that name is the remainder of a restore that was interrupted.
 */
import { rename } from "node:fs/promises";
import type { ByteFile } from "../targets/byte-file.ts";
import { syncFolder } from "./sealed-text.ts";
import { alreadyThere, checkRoom, isAmongDevices, openToWrite, statIfThere, type OpenCopy } from "./open-copy.ts";

const UNFINISHED = ".sluice-restore";

export class RestoreTarget implements AsyncDisposable {
  readonly #path: string;
  readonly #opened: OpenCopy;

  constructor(path: string, opened: OpenCopy) {
    this.#path = path;
    this.#opened = opened;
  }

  get file(): ByteFile {
    return this.#opened.file;
  }

  /** A file gets the size of the volume. Throws ESIZE where a device has no room for it. */
  fit(volumeBytes: number): void {
    if (this.#opened.kind === "file") this.#opened.cut(volumeBytes);
    else checkRoom(this.#opened, volumeBytes);
  }

  /** All of it is written. Durable when it resolves. Throws EEXIST where a file has come in between. */
  async finish(): Promise<void> {
    this.file.sync();
    if (this.#opened.path === this.#path) return;
    if ((await statIfThere(this.#path)) !== undefined) throw alreadyThere(this.#path);
    await rename(this.#opened.path, this.#path);
    await syncFolder(this.#path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Of a restore that had not begun to write, nothing is left.
    if (this.file.sizeBytes === 0) await this.#opened.takeBack();
    else await this.#opened[Symbol.asyncDispose]();
  }
}

/** Throws EEXIST where there is a file, unless `force` says that it is to be overwritten; and as openToWrite. */
export async function openRestoreTarget(path: string, force: boolean): Promise<RestoreTarget> {
  const found = await statIfThere(path);
  if (found?.isFile() === true && !force) throw alreadyThere(path);
  const isNew = found === undefined && !isAmongDevices(path);
  return new RestoreTarget(path, await openToWrite(isNew ? path + UNFINISHED : path, "replace"));
}
