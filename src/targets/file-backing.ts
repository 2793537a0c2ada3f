/**
 * The backing store of a file volume, opened and measured once: what it can do is asked of it, not assumed.
 *
 * Invariant: while it is open, no other sluice daemon has the same store open. A block device is opened exclusively, as a
 * mount or another volume manager would; a regular file carries a lock that goes with the process.
 */
import { constants, type Stats } from "node:fs";
import { open, readFile, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { FALLOC } from "../ublk/abi.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { native } from "../ublk/native.ts";
import type { DiscardLimits, Limits } from "../ublk/target.ts";
import type { FileOptions } from "./file.ts";

const GIB = 2 ** 30;
const LOCK_RETRY_MS = 50;
export const PAGE_BYTES = 4096;
/** Whole blocks of any file system; little, since a file may be nearly as large as its file system lets it be. */
const BEYOND_BYTES = 64 * 1024;

export interface FileBackingOptions {
  readonly path: string;
  /** Less than the whole of it. */
  readonly sizeBytes: number | null;
  readonly logicalBlockBytes: number;
  readonly readOnly: boolean;
  /** How long a lock may still be held by a process that is going away. */
  readonly lockWaitMs: number;
}

export interface FileBacking {
  readonly handle: FileHandle;
  readonly limits: Limits;
  readonly options: FileOptions;
  readonly explain: readonly string[];
  /** Bytes that the store has now, whole blocks only. */
  measure(): Promise<number>;
}

/** Opens, locks and measures. Throws with one line that says what is wrong with the store. */
export async function openFileBacking(options: FileBackingOptions): Promise<FileBacking> {
  const { path, logicalBlockBytes, readOnly } = options;
  const { handle, stats, direct } = await openExclusively(options);
  try {
    const isBlockDevice = stats.isBlockDevice();
    const geometry = isBlockDevice ? native.blockDevice(handle.fd) : undefined;
    if (geometry !== undefined && geometry.logicalBlockBytes > logicalBlockBytes) {
      throw new UblkError(
        "EBLOCK",
        `${path}: its blocks are ${geometry.logicalBlockBytes} bytes, the volume's are ${logicalBlockBytes}: set logical_block_size to ${geometry.logicalBlockBytes}`,
      );
    }
    if (geometry?.readOnly === true && !readOnly) {
      throw new UblkError("EROFS", `${path} is read-only: set read_only = true, or make it writable`);
    }
    const measure = async (): Promise<number> => {
      const bytes = isBlockDevice ? native.blockDevice(handle.fd).sizeBytes : (await handle.stat()).size;
      return checkedSize(options, bytes);
    };
    const sizeBytes = await measure();
    const abilities = isBlockDevice ? await deviceAbilities(stats) : fileAbilities(handle, stats, readOnly);
    const physicalBlockBytes = Math.max(
      geometry?.physicalBlockBytes ?? Math.min(stats.blksize, PAGE_BYTES),
      logicalBlockBytes,
    );
    return {
      handle,
      measure,
      options: {
        fd: handle.fd,
        isBlockDevice,
        punchesHoles: abilities.punchesHoles,
        zeroesRanges: abilities.zeroesRanges,
      },
      limits: {
        sizeBytes,
        logicalBlockBytes,
        physicalBlockBytes,
        readOnly,
        rotational: abilities.rotational,
        volatileCache: true,
        fua: true,
        discard: readOnly ? null : alignedDiscard(abilities.discard, logicalBlockBytes),
        writeZeroesMaxBytes: readOnly ? null : abilities.zeroesRanges || abilities.punchesHoles ? GIB : 64 * 2 ** 20,
      },
      explain: [
        isBlockDevice ? "block device, opened exclusively" : "regular file, locked",
        direct,
        abilities.discard === null ? "discard: not offered by the backing store" : "discard: passed on",
        abilities.zeroesRanges ? "write-zeroes: done by the backing store" : "write-zeroes: zeroes are written",
      ],
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function alignedDiscard(discard: DiscardLimits | null, logicalBlockBytes: number): DiscardLimits | null {
  if (discard === null) return null;
  return { ...discard, granularityBytes: Math.max(discard.granularityBytes, logicalBlockBytes) };
}

function checkedSize({ path, sizeBytes, logicalBlockBytes }: FileBackingOptions, foundBytes: number): number {
  if (sizeBytes !== null) {
    if (foundBytes < sizeBytes) {
      throw new UblkError("ESIZE", `${path} is too small: it has ${foundBytes} bytes, the volume wants ${sizeBytes}`);
    }
    return sizeBytes;
  }
  if (foundBytes === 0) {
    throw new UblkError("ESIZE", `${path} is empty: give it a size first (truncate --size=10G ${path})`);
  }
  if (foundBytes % logicalBlockBytes !== 0) {
    throw new UblkError(
      "ESIZE",
      `${path} has ${foundBytes} bytes, which is no multiple of the block of ${logicalBlockBytes}: change its size, or set size`,
    );
  }
  return foundBytes;
}

interface Opened {
  readonly handle: FileHandle;
  readonly stats: Stats;
  readonly direct: string;
}

/** Opens, and locks as long as it is open. Throws EBUSY where somebody else has it. */
export async function openExclusively(options: FileBackingOptions): Promise<Opened> {
  const deadline = performance.now() + options.lockWaitMs;
  for (;;) {
    const opened = await openOnce(options);
    if (opened !== "in use") return opened;
    if (performance.now() >= deadline) {
      throw new UblkError(
        "EBUSY",
        `${options.path} is in use: another sluice daemon, a mount or another volume manager has it open`,
      );
    }
    await sleep(LOCK_RETRY_MS);
  }
}

async function openOnce(options: FileBackingOptions): Promise<Opened | "in use"> {
  const { path, readOnly } = options;
  const access = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  let handle: FileHandle | undefined;
  try {
    // Without waiting: a FIFO in place of a file must not hold us up.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (!stats.isFile() && !stats.isBlockDevice()) {
      throw new UblkError("ENOTBLK", `${path} is neither a regular file nor a block device`);
    }
    await handle.close();
    handle = undefined;
    const exclusive = access | (stats.isBlockDevice() ? constants.O_EXCL : 0);
    const result = await openDirect(path, exclusive, options.logicalBlockBytes);
    handle = result.handle;
    if (stats.isFile() && !native.lockFile(handle.fd)) {
      await handle.close();
      return "in use";
    }
    return { handle, stats: await handle.stat(), direct: result.direct };
  } catch (cause) {
    await handle?.close();
    if (codeOf(cause) === "EBUSY" || codeOf(cause) === "ETXTBSY") return "in use";
    throw explainOpen(path, cause);
  }
}

function explainOpen(path: string, cause: unknown): UblkError {
  if (cause instanceof UblkError) return cause;
  const code = codeOf(cause) ?? "EOPEN";
  const words: Partial<Record<string, string>> = {
    ENOENT: `${path} does not exist: create it (truncate --size=10G ${path}), or correct path`,
    EACCES: `No right to open ${path}`,
    EPERM: `No right to open ${path}`,
    EROFS: `${path} is on a read-only file system: set read_only = true`,
  };
  return new UblkError(code, words[code] ?? `Cannot open ${path}: ${messageOf(cause)}`, { cause });
}

/** With O_DIRECT where a read of one logical block works that way, else without. */
async function openDirect(
  path: string,
  flags: number,
  logicalBlockBytes: number,
): Promise<{ handle: FileHandle; direct: string }> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, flags | constants.O_DIRECT);
    if (await readsBlocks(handle, logicalBlockBytes)) return { handle, direct: "direct I/O" };
    await handle.close();
  } catch (error) {
    await handle?.close();
    const code = codeOf(error);
    if (code !== "EINVAL" && code !== "EOPNOTSUPP") throw error;
  }
  const why = `buffered I/O: blocks of ${logicalBlockBytes} bytes cannot be read directly`;
  return { handle: await open(path, flags), direct: why };
}

/** Whether blocks of this size can be read as the file was opened. */
export async function readsBlocks(handle: FileHandle, bytes: number): Promise<boolean> {
  using memory = MappedMemory.anonymous(PAGE_BYTES);
  try {
    await handle.read(new Uint8Array(memory.buffer), 0, bytes, 0);
    return true;
  } catch (error) {
    if (codeOf(error) === "EINVAL" || codeOf(error) === "EOPNOTSUPP") return false;
    throw error;
  }
}

interface Abilities {
  readonly discard: DiscardLimits | null;
  readonly punchesHoles: boolean;
  readonly zeroesRanges: boolean;
  readonly rotational: boolean;
}

async function queueNumber(stats: Stats, name: string): Promise<number> {
  const device = `/sys/dev/block/${major(stats.rdev)}:${minor(stats.rdev)}`;
  const read = (path: string): Promise<string> => readFile(path, "utf8");
  const text = await read(`${device}/queue/${name}`).catch(() => read(`${device}/../queue/${name}`).catch(() => "0"));
  return Number(text.trim());
}

async function deviceAbilities(stats: Stats): Promise<Abilities> {
  const discardMaxBytes = await queueNumber(stats, "discard_max_bytes");
  const granularityBytes = await queueNumber(stats, "discard_granularity");
  const zeroesMaxBytes = await queueNumber(stats, "write_zeroes_max_bytes");
  return {
    discard: discardMaxBytes === 0 ? null : { granularityBytes, maxBytes: Math.min(discardMaxBytes, GIB) },
    punchesHoles: zeroesMaxBytes > 0,
    // The kernel writes zeroes itself where the device cannot.
    zeroesRanges: true,
    rotational: (await queueNumber(stats, "rotational")) === 1,
  };
}

/** What fallocate can do here is found by trying it beyond the end of the file, where there is nothing to lose. */
function fileAbilities(handle: FileHandle, stats: Stats, readOnly: boolean): Abilities {
  const beyond = Math.ceil((stats.size + 1) / BEYOND_BYTES) * BEYOND_BYTES;
  const punch = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
  const punchesHoles = !readOnly && native.canAllocate(handle.fd, beyond, punch);
  const zeroesRanges = punchesHoles && native.canAllocate(handle.fd, beyond, FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE);
  // Zeroing has given the file a page there: take it away again.
  if (zeroesRanges) native.canAllocate(handle.fd, beyond, punch);
  const granularityBytes = Math.min(2 ** Math.ceil(Math.log2(stats.blksize)), 2 ** 20);
  return {
    discard: punchesHoles ? { granularityBytes, maxBytes: GIB } : null,
    punchesHoles,
    zeroesRanges,
    rotational: false,
  };
}

function major(device: number): number {
  return Math.floor(device / 256) % 4096;
}

function minor(device: number): number {
  return (device % 256) + Math.floor(device / 2 ** 20) * 256;
}
