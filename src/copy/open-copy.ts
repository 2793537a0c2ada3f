/** Opens the files and devices that copies are in: those that are written to exclusively. */
import { constants, ftruncateSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { ByteFile } from "../targets/byte-file.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";

export interface OpenCopy extends AsyncDisposable {
  readonly file: ByteFile;
  readonly isBlockDevice: boolean;
  /** Tells one device from another; of a file, nothing. */
  readonly deviceNumber: number;
  /** Of a regular file. */
  readonly cut: (length: number) => void;
}

async function openFile(path: string, flags: number): Promise<OpenCopy> {
  let handle: FileHandle | undefined;
  try {
    // Without waiting: a FIFO in place of a file must not hold us up.
    handle = await open(path, flags | constants.O_NONBLOCK, 0o600);
    const stats = await handle.stat();
    if (!stats.isFile() && !stats.isBlockDevice()) {
      throw new UblkError("ENOTBLK", `${path} is neither a regular file nor a block device`);
    }
    const { fd } = handle;
    const isWritten = (flags & constants.O_RDWR) !== 0;
    if (isWritten && stats.isFile() && !native.lockFile(fd)) {
      throw new UblkError("EBUSY", `${path} is in use by another sluice`);
    }
    const held = handle;
    return {
      file: new ByteFile(fd),
      isBlockDevice: stats.isBlockDevice(),
      deviceNumber: stats.rdev,
      cut: (length) => ftruncateSync(fd, length),
      [Symbol.asyncDispose]: () => held.close(),
    };
  } catch (cause) {
    await handle?.close();
    if (cause instanceof UblkError) throw cause;
    const code = codeOf(cause) ?? "EOPEN";
    if (code === "EBUSY")
      throw new UblkError(code, `${path} is in use: it is mounted, or part of something`, { cause });
    throw new UblkError(code, `Cannot open ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** For reading. Throws ENOENT, EACCES, ENOTBLK. */
export function openToRead(path: string): Promise<OpenCopy> {
  return openFile(path, constants.O_RDONLY);
}

/** For writing, by nobody else at the same time. A file that is not there is made, if `creates`. Throws EBUSY as well. */
export async function openToWrite(path: string, creates: boolean): Promise<OpenCopy> {
  const opened = await openFile(path, constants.O_RDWR | (creates ? constants.O_CREAT : 0));
  if (!opened.isBlockDevice) return opened;
  await opened[Symbol.asyncDispose]();
  // The kernel refuses a device that is mounted, or part of something.
  return openFile(path, constants.O_RDWR | constants.O_EXCL);
}

/** Throws ESIZE where there is no room for the volume. */
export function checkRoom({ file }: OpenCopy, path: string, volumeBytes: number): void {
  const { sizeBytes } = file;
  if (sizeBytes < volumeBytes) {
    throw new UblkError("ESIZE", `${path} has ${sizeBytes} bytes, but the volume had ${volumeBytes}`);
  }
}
