/**
 * Opens what copies are in and go to: files, block devices and pipes. Nothing else does.
 *
 * Invariants. What is opened to be written to is nobody else's meanwhile: a file is locked, a device is opened exclusively, which
 * the kernel refuses where it is mounted, or part of something. Opening changes nothing of what is there.
 */
import { constants, ftruncateSync, type Stats } from "node:fs";
import { open, rm, stat, type FileHandle } from "node:fs/promises";
import { ByteFile } from "../targets/byte-file.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";

/** "new": no file may be there; "replace": what is there is overwritten; "resume": it is there, and is gone on with. */
export type DestinationUse = "new" | "replace" | "resume";

const KIND_TEXT = { file: "a regular file", device: "a block device", pipe: "a pipe" } as const;
type Kind = keyof typeof KIND_TEXT;
export const IMAGE_KINDS = ["file", "device"] as const;
/** A pipe is there before it is written to, and needs a reader. */
export const STREAM_KINDS = ["file", "pipe"] as const;

export class OpenCopy implements AsyncDisposable {
  readonly path: string;
  readonly kind: Kind;
  /** Tells one device from another; of anything else, nothing. */
  readonly deviceNumber: number;
  readonly file: ByteFile;
  readonly #handle: FileHandle;
  readonly #isMade: boolean;

  constructor(path: string, handle: FileHandle, kind: Kind, deviceNumber: number, isMade: boolean) {
    this.path = path;
    this.kind = kind;
    this.deviceNumber = deviceNumber;
    this.file = new ByteFile(handle.fd);
    this.#handle = handle;
    this.#isMade = isMade;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** Gives a regular file this length. An arrow, to be handed on by itself. */
  readonly cut = (length: number): void => ftruncateSync(this.fd, length);

  /** As `cut`, but keeps no other from going on where the file's disk stands still; as `size`. */
  async resize(length: number): Promise<void> {
    await this.#handle.truncate(length);
  }

  /** Of a regular file. */
  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  /** Closes it; where opening it has made it, it goes. */
  async takeBack(): Promise<void> {
    if (this.#isMade) await rm(this.path, { force: true });
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** For reading. Throws ENOENT, EACCES, EINVAL. */
export async function openToRead(path: string): Promise<OpenCopy> {
  try {
    // Without waiting: a FIFO in place of a file must not hold us up.
    return await opened(path, IMAGE_KINDS, false, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw explain(path, cause);
  }
}

/** For writing. Throws EEXIST, EBUSY, ENOENT, EACCES, EINVAL, and EPIPE where a pipe is to be gone on with. */
export async function openToWrite(
  path: string,
  use: DestinationUse,
  kinds: readonly Kind[] = IMAGE_KINDS,
): Promise<OpenCopy> {
  try {
    const found = await statIfThere(path);
    if (found === undefined && use !== "resume" && !isAmongDevices(path)) {
      return await opened(path, kinds, true, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
    }
    // A pipe that nobody reads would hold up whoever opens it.
    if (found !== undefined) kindAmong(path, found, kinds);
    if (found?.isFile() === true && use === "new") throw alreadyThere(path);
    if (found?.isFIFO() === true && use === "resume") {
      throw new UblkError("EPIPE", `${path} is a pipe: it cannot be gone on with`);
    }
    return await opened(path, kinds, false, flagsFor(found));
  } catch (cause) {
    throw explain(path, cause);
  }
}

/** Nobody means to make a file of this path: its device is not there. */
export function isAmongDevices(path: string): boolean {
  return path.startsWith("/dev/") && !path.startsWith("/dev/shm/");
}

function flagsFor(found: Stats | undefined): number {
  // Whoever reads from a pipe as well would never hear that its reader is gone.
  if (found?.isFIFO() === true) return constants.O_WRONLY;
  return constants.O_RDWR | (found?.isBlockDevice() === true ? constants.O_EXCL : 0);
}

async function opened(path: string, kinds: readonly Kind[], isMade: boolean, flags: number): Promise<OpenCopy> {
  const handle = await open(path, flags, 0o600);
  try {
    const stats = await handle.stat();
    const kind = kindAmong(path, stats, kinds);
    const isWritten = (flags & (constants.O_RDWR | constants.O_WRONLY)) !== 0;
    if (isWritten && kind === "file" && !native.lockFile(handle.fd)) {
      throw new UblkError("EBUSY", `${path} is in use by another sluice`);
    }
    return new OpenCopy(path, handle, kind, stats.rdev, isMade);
  } catch (cause) {
    await handle.close();
    throw cause;
  }
}

function kindAmong(path: string, stats: Stats, kinds: readonly Kind[]): Kind {
  const found = stats.isFile() ? "file" : stats.isBlockDevice() ? "device" : stats.isFIFO() ? "pipe" : undefined;
  if (found !== undefined && kinds.includes(found)) return found;
  throw new UblkError("EINVAL", `${path} is neither ${kinds.map((kind) => KIND_TEXT[kind]).join(" nor ")}`);
}

/** What is there; undefined where nothing is. Throws EACCES and the like. */
export async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw explain(path, cause);
  }
}

function explain(path: string, cause: unknown): UblkError {
  if (cause instanceof UblkError) return cause;
  const code = codeOf(cause) ?? "EOPEN";
  if (code === "EEXIST") return alreadyThere(path);
  if (code === "EBUSY") {
    return new UblkError(code, `${path} is in use: unmount it, or stop what it is a part of`, { cause });
  }
  return new UblkError(code, `Cannot open ${path}: ${messageOf(cause)}`, { cause });
}

/** What is said where a file must not be overwritten. */
export function alreadyThere(path: string): UblkError {
  return new UblkError("EEXIST", `${path} exists already: name another, or overwrite it with --force`);
}

/** Throws ESIZE where there is no room for the volume. */
export function checkRoom({ file, path }: OpenCopy, volumeBytes: number): void {
  const { sizeBytes } = file;
  if (sizeBytes < volumeBytes) {
    throw new UblkError("ESIZE", `${path} has ${sizeBytes} bytes, less than the ${volumeBytes} of the volume`);
  }
}
