/**
 * The store of originals of a volume on this machine: a file or a block device, opened and locked as a backing store is, and
 * made.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { open, rm, stat, type FileHandle } from "node:fs/promises";
import { promisify } from "node:util";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { ByteFile } from "./byte-file.ts";
import { readSuperblock } from "./cow/recovery.ts";
import { createStore, geometryFor, openStore, type OpenStore, type StoreOwner } from "./cow/store-file.ts";
import type { Superblock } from "./cow/superblock.ts";
import { openFileBacking } from "./file-backing.ts";

const execute = promisify(execFile);
const SECTOR_BYTES_MIN = 512;

export interface StoreBacking extends AsyncDisposable {
  /** For the ring, O_DIRECT where that is possible; and for plain reads. */
  readonly fd: number;
  readonly plainFd: number;
  readonly store: OpenStore;
}

function explain(path: string, cause: unknown): UblkError {
  const code = codeOf(cause) ?? "ESTORE";
  if (code === "ENOENT") {
    const hint = `Store ${path} does not exist: make it with "sluice snapshot init NAME --size SIZE"`;
    return new UblkError(code, hint, { cause });
  }
  return new UblkError(code, `Store ${path}: ${messageOf(cause)}`, { cause });
}

/** Reads the superblock of a store, which may be in use; changes nothing. */
export async function examineStore(path: string): Promise<Superblock> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return readSuperblock(new ByteFile(handle.fd));
  } catch (cause) {
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}

/** Opens and locks a store. `lockWaitMs` is how long to wait for a lock of a process that is going away. */
export async function openStoreBacking(path: string, owner: StoreOwner, lockWaitMs: number): Promise<StoreBacking> {
  await using opened = new AsyncDisposableStack();
  try {
    const plain = opened.use(await open(path, constants.O_RDWR | constants.O_NONBLOCK));
    const store = openStore(new ByteFile(plain.fd), owner);
    const { sectorBytes } = store.layout.geometry;
    const backing = await openFileBacking({
      path,
      sizeBytes: null,
      logicalBlockBytes: sectorBytes,
      readOnly: false,
      lockWaitMs,
    });
    opened.use(backing.handle);
    const held = opened.move();
    return {
      fd: backing.options.fd,
      plainFd: plain.fd,
      store,
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    };
  } catch (cause) {
    throw explain(path, cause);
  }
}

/**
 * Makes a store: a new file of `sizeBytes`, or a whole block device, which must be `sizeBytes` null. What a device holds is
 * lost, unless it is a store already: that is refused with EEXIST, as a file that exists is.
 */
export async function createStoreBacking(
  path: string,
  owner: StoreOwner,
  { sizeBytes, blockBytes }: { readonly sizeBytes: number | null; readonly blockBytes: number },
): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  const isDevice = found?.isBlockDevice() === true;
  if (found !== undefined && !isDevice) {
    const message = `Store ${path} exists already: the snapshots in it would be lost; remove it yourself if you mean that`;
    throw new UblkError("EEXIST", message);
  }
  if (isDevice !== (sizeBytes === null)) {
    throw new UblkError(
      "ESIZE",
      isDevice
        ? `${path} is a block device, which is used whole: leave out the size`
        : `Store ${path}: wanted the size of the new file`,
    );
  }
  if (isDevice && (await isStore(path))) {
    const message = `Store ${path} exists already: the snapshots in it would be lost; wipe it first (wipefs --all, or dd) if you mean that`;
    throw new UblkError("EEXIST", message);
  }
  let handle: FileHandle | undefined;
  try {
    const flags = isDevice ? constants.O_EXCL : constants.O_CREAT | constants.O_EXCL;
    handle = await open(path, constants.O_RDWR | flags, 0o600);
    // A store that finds no room on its file system would lose what it has: it takes all of it now.
    if (sizeBytes !== null) await execute("fallocate", ["--length", String(sizeBytes), path]);
    const file = new ByteFile(handle.fd);
    const sectorBytes = isDevice ? native.blockDevice(handle.fd).logicalBlockBytes : SECTOR_BYTES_MIN;
    const geometry = geometryFor(file.sizeBytes, blockBytes, sectorBytes);
    createStore(file, owner, geometry, randomBytes(4).readUInt32LE());
  } catch (cause) {
    if (handle !== undefined && !isDevice) await rm(path);
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}

async function isStore(path: string): Promise<boolean> {
  try {
    await examineStore(path);
    return true;
  } catch (error) {
    if (codeOf(error) === "ESTORE") return false;
    if (codeOf(error) === "EVERSION") return true;
    throw error;
  }
}
