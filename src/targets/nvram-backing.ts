/**
 * The NVRAM file of a volume on this machine: opened, locked, and asked how it can be made durable.
 *
 * Invariant: while it is open no other daemon has it. What it is good for is found by trying: a mapping with MAP_SYNC is
 * only granted on persistent memory with DAX.
 */
import { constants, existsSync, ftruncateSync } from "node:fs";
import { open, rm, type FileHandle } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { NewNvram, NvramOwner, RecordPlace } from "../nvram/nvram-file.ts";
import {
  createNvram,
  defaultChunkBytes,
  emptyRecord,
  nvramBytes,
  openNvram,
  placeOf,
  readOwnHeader,
} from "../nvram/nvram-file.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { native } from "../ublk/native.ts";
import { ByteFile } from "./byte-file.ts";

const LOCK_RETRY_MS = 50;
const PAGE_BYTES = 4096;

export interface NvramBacking extends AsyncDisposable {
  /** The file, for durable writes of whole pages, O_DIRECT where that is possible. */
  readonly fd: number;
  readonly place: RecordPlace;
  /** On persistent memory: it can be mapped with MAP_SYNC. */
  readonly isPersistentMemory: boolean;
}

/** Names the file in whatever is wrong with it. */
function explain(path: string, cause: unknown): UblkError {
  const code = codeOf(cause) ?? "ENVRAM";
  if (cause instanceof UblkError) return new UblkError(code, `NVRAM file ${path}: ${cause.message}`, { cause });
  if (code === "ENOENT") {
    return new UblkError(code, `NVRAM file ${path} does not exist: make it with "sluice nvram create NAME"`, { cause });
  }
  return new UblkError(code, `NVRAM file ${path}: ${messageOf(cause)}`, { cause });
}

/**
 * Opens and locks the file, and grows its record where the volume has grown. `lockWaitMs` is how long to wait for a lock of
 * a process that is going away. Throws UblkError: ENOENT, EBUSY, ENVRAM, EVERSION, EOWNER, ESIZE.
 */
export async function openNvramBacking(path: string, owner: NvramOwner, lockWaitMs: number): Promise<NvramBacking> {
  let handle: FileHandle | undefined;
  let direct: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    if (!(await handle.stat()).isFile()) throw new UblkError("ENVRAM", "it is no regular file");
    const deadline = performance.now() + lockWaitMs;
    while (!native.lockFile(handle.fd)) {
      if (performance.now() > deadline) throw new UblkError("EBUSY", "it is in use by another sluice daemon");
      await sleep(LOCK_RETRY_MS);
    }
    const place = openNvram(new ByteFile(handle.fd), owner);
    const isPersistentMemory = canMapSync(handle.fd, place);
    direct = isPersistentMemory ? undefined : await openDirect(path);
    const held = [handle, direct];
    return {
      fd: (direct ?? handle).fd,
      place,
      isPersistentMemory,
      [Symbol.asyncDispose]: async () => {
        for (const each of held) await each?.close();
      },
    };
  } catch (cause) {
    await direct?.close();
    await handle?.close();
    throw explain(path, cause);
  }
}

/**
 * Says where the record of a volume's file is, and changes nothing; works while the volume runs. Throws as openNvramBacking
 * does.
 */
export async function examineNvramBacking(path: string, owner: NvramOwner): Promise<RecordPlace> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const storage = new ByteFile(handle.fd);
    return placeOf(storage, readOwnHeader(storage, owner));
  } catch (cause) {
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}

/**
 * The record of a volume that is not served is made empty; where there is no file, one is made. Gives its salt. Throws as
 * openNvramBacking does.
 */
export async function emptyNvramBacking(path: string, owner: NvramOwner): Promise<number> {
  if (!existsSync(path)) {
    await createNvramBacking(path, owner, { chunkBytes: defaultChunkBytes(owner.volumeBytes), inSync: true });
  }
  await using backing = await openNvramBacking(path, owner, 0);
  await using handle = await open(path, constants.O_RDWR);
  emptyRecord(new ByteFile(handle.fd), backing.place);
  return backing.place.salt;
}

function canMapSync(fd: number, { offset, lengthBytes }: RecordPlace): boolean {
  using memory = MappedMemory.ofPersistentFile({ fd, offset, lengthBytes, writable: true });
  return memory !== undefined;
}

/** Undefined where the file system has no direct I/O: writes then go through its cache, durable all the same. */
async function openDirect(path: string): Promise<FileHandle | undefined> {
  let handle: FileHandle | undefined;
  using page = MappedMemory.anonymous(PAGE_BYTES);
  try {
    handle = await open(path, constants.O_RDWR | constants.O_DIRECT);
    await handle.read(new Uint8Array(page.buffer), 0, PAGE_BYTES, 0);
    return handle;
  } catch (error) {
    await handle?.close();
    if (codeOf(error) === "EINVAL" || codeOf(error) === "EOPNOTSUPP") return undefined;
    throw error;
  }
}

/** Makes the file; throws EEXIST where there is one. */
export async function createNvramBacking(
  path: string,
  owner: NvramOwner,
  options: Omit<NewNvram, "salt">,
): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    ftruncateSync(handle.fd, nvramBytes(owner.volumeBytes, options.chunkBytes));
    createNvram(new ByteFile(handle.fd), owner, { ...options, salt: randomBytes(4).readUInt32LE() });
  } catch (cause) {
    // Half a file would stand in the way of the next attempt.
    if (handle !== undefined) await rm(path);
    if (codeOf(cause) === "EEXIST") {
      const message = `NVRAM file ${path} exists already: what it records would be lost; remove it yourself if you mean that`;
      throw new UblkError("EEXIST", message, { cause });
    }
    throw explain(path, cause);
  } finally {
    await handle?.close();
  }
}
