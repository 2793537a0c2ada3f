/**
 * The log of a receiver on this machine: a file or a block device, opened and locked as a backing store is, and made.
 *
 * Invariant: what is a log already is never made anew here.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { open, rm, stat, type FileHandle } from "node:fs/promises";
import { promisify } from "node:util";
import { ByteFile } from "../targets/byte-file.ts";
import { openFileBacking } from "../targets/file-backing.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { logBytes, logGeometryFor, type LogGeometry, RING_OFFSET } from "./log-geometry.ts";
import { createLog, openLog, readLogSuperblock, type LastPoints, type LogOwner } from "./log-superblock.ts";

const execute = promisify(execFile);
const SECTOR_BYTES_MIN = 512;
/** As much as a fast link brings while a slow disk syncs. */
const WINDOW_BYTES = 16 * 2 ** 20;

export interface LogBacking extends AsyncDisposable {
  /** For the ring, O_DIRECT where that is possible; and for plain reads and writes. */
  readonly fd: number;
  readonly plainFd: number;
  readonly geometry: LogGeometry;
}

function explain(path: string, cause: unknown): UblkError {
  const code = codeOf(cause) ?? "ELOG";
  if (code === "ENOENT") {
    const hint = `Log ${path} does not exist: make it with "sluice receive init NAME"`;
    return new UblkError(code, hint, { cause });
  }
  return new UblkError(code, `Log ${path}: ${messageOf(cause)}`, { cause });
}

/**
 * Opens and locks a log. `lockWaitMs` is how long to wait for a lock of a process that is going away. Throws UblkError, with the
 * path: ENOENT, EBUSY, ELOG, EVERSION, EOWNER, ELAYOUT, ESIZE.
 */
export async function openLogBacking(path: string, owner: LogOwner, lockWaitMs: number): Promise<LogBacking> {
  await using opened = new AsyncDisposableStack();
  try {
    const plain = opened.use(await open(path, constants.O_RDWR | constants.O_NONBLOCK));
    const { geometry } = openLog(new ByteFile(plain.fd), owner);
    const backing = await openFileBacking({
      path,
      sizeBytes: null,
      logicalBlockBytes: geometry.sectorBytes,
      readOnly: false,
      lockWaitMs,
    });
    opened.use(backing.handle);
    const held = opened.move();
    return {
      fd: backing.options.fd,
      plainFd: plain.fd,
      geometry,
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    };
  } catch (cause) {
    throw explain(path, cause);
  }
}

/** Whether there is a log, of whatever version. Throws where that cannot be read. */
export async function isLog(path: string): Promise<boolean> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    readLogSuperblock(new ByteFile(handle.fd));
    return true;
  } catch (cause) {
    if (codeOf(cause) === "EVERSION") return true;
    if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ELOG") return false;
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}

/** Nothing on the device counts as a log any more. Throws where that cannot be written. */
export async function wipeLogBacking(path: string): Promise<void> {
  try {
    await using handle = await open(path, constants.O_RDWR | constants.O_EXCL);
    await handle.write(new Uint8Array(RING_OFFSET), 0, RING_OFFSET, 0);
    await handle.sync();
  } catch (cause) {
    throw explain(path, cause);
  }
}

/**
 * Makes an empty log: a new file of at most `sizeBytes`, or a whole block device. `points` is what the volume has had already.
 * Throws EEXIST for a file that exists, and for a device that is a log already; ESIZE.
 */
export async function createLogBacking(
  path: string,
  owner: LogOwner,
  sizeBytes: number,
  points: LastPoints,
): Promise<void> {
  const isDevice = (await stat(path).catch(() => undefined))?.isBlockDevice() === true;
  if (isDevice && (await isLog(path))) {
    const message = `Log ${path} exists already: what it holds would be lost; wipe it first (wipefs --all, or dd) if you mean that`;
    throw new UblkError("EEXIST", message);
  }
  let handle: FileHandle | undefined;
  try {
    const flags = isDevice ? constants.O_EXCL : constants.O_CREAT | constants.O_EXCL;
    handle = await open(path, constants.O_RDWR | flags, 0o600);
    const device = isDevice ? native.blockDevice(handle.fd) : undefined;
    const sectorBytes = device?.logicalBlockBytes ?? SECTOR_BYTES_MIN;
    const geometry = logGeometryFor(device?.sizeBytes ?? sizeBytes, sectorBytes, WINDOW_BYTES);
    // A log that finds no room on its file system would fail in the middle: it takes all of it now.
    if (!isDevice) await execute("fallocate", ["--length", String(logBytes(geometry)), path]);
    createLog(new ByteFile(handle.fd), owner, geometry, randomBytes(4).readUInt32LE(), points);
  } catch (cause) {
    if (handle !== undefined && !isDevice) await rm(path);
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}
