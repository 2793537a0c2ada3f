/**
 * The files of a volume that is mirrored to here: opened and locked, and made.
 *
 * Invariant: a log is made only where there is none, and together with nothing that contradicts it: the log tells what the image
 * is, and the store keeps what the image was. What is there is never touched.
 */
import { open, rm, stat } from "node:fs/promises";
import {
  createLogBacking,
  isLog,
  openLogBacking,
  wipeLogBacking,
  type LogBacking,
} from "../replication/log-backing.ts";
import type { LastPoints } from "../replication/log-superblock.ts";
import { ByteFile } from "../targets/byte-file.ts";
import { recoverStore } from "../targets/cow/recovery.ts";
import { openStore } from "../targets/cow/store-file.ts";
import { openFileBacking, type FileBacking } from "../targets/file-backing.ts";
import { createStoreBacking, openStoreBacking, type StoreBacking } from "../targets/store-backing.ts";
import { codeOf, UblkError } from "../ublk/errors.ts";
import { ownerOf } from "./identity.ts";
import { receiveStatePath } from "./paths.ts";
import type { ReceivedSpec } from "./receive-config.ts";
import { NO_NOTE, readNote, writeNote } from "./receive-state.ts";
import { storeBytes } from "./store-size.ts";

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;

export interface ReceivedFiles extends AsyncDisposable {
  readonly image: FileBacking;
  readonly store: StoreBacking;
  readonly log: LogBacking;
}

/** Opens and locks all three. Throws UblkError, with the path and what to do. */
export async function openReceivedFiles(spec: ReceivedSpec, lockWaitMs: number): Promise<ReceivedFiles> {
  const owner = ownerOf(spec.name);
  await using opened = new AsyncDisposableStack();
  const sizeBytes = await storeBytes(spec.path).catch((cause: unknown) => {
    if (codeOf(cause) !== "ENOENT") throw cause;
    const hint = `Image ${spec.path} does not exist: make it with "sluice receive init ${spec.name} --size SIZE"`;
    throw new UblkError("ENOENT", hint, { cause });
  });
  const image = await openFileBacking({
    path: spec.path,
    sizeBytes: null,
    // What is written to it are whole blocks of points, which have at least so many.
    logicalBlockBytes: sizeBytes % PAGE_BYTES === 0 ? PAGE_BYTES : SECTOR_BYTES,
    readOnly: false,
    lockWaitMs,
  });
  opened.use(image.handle);
  const store = opened.use(await openStoreBacking(spec.store, owner, lockWaitMs).catch(ofReceiver(spec.name)));
  const log = opened.use(await openLogBacking(spec.log, owner, lockWaitMs).catch(ofReceiver(spec.name)));
  const held = opened.move();
  return { image, store, log, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** What is missing of a volume is made by another command than a store of snapshots. */
function ofReceiver(name: string): (error: unknown) => never {
  return (cause) => {
    if (codeOf(cause) !== "ENOENT" || !(cause instanceof UblkError)) throw cause;
    const message = cause.message.replace(/: make it with .*$/, `: make it with "sluice receive init ${name}"`);
    throw new UblkError("ENOENT", message, { cause });
  };
}

/** Sizes of what may have to be made; null where none is given. */
export interface NewSizes {
  readonly imageBytes: number | null;
  readonly storeBytes: number | null;
  readonly logBytes: number;
}

/** What an image is to be that is there already. */
export type ImageOrigin =
  /** Whatever it is. */
  | "any"
  /** It was brought here, and is an older state of the volume: it must be there. */
  | "seed";

/**
 * Makes the log of a volume, and with it the image and the store, where they are missing: the volume has nothing afterwards, and
 * gets all of it from its source, as far as the image does not hold it. Gives the paths of what was made. Throws EEXIST where
 * there is a log, or a store without an image; ENOENT where the image has to be there, and is not; ESIZE where a size is missing:
 * nothing is changed then.
 */
export async function initReceived(
  spec: ReceivedSpec,
  sizes: NewSizes,
  origin: ImageOrigin = "any",
): Promise<string[]> {
  const { name, path, store, log, blockBytes } = spec;
  const owner = ownerOf(name);
  if ((await kindOf(log)) === "file" || (await isLog(log))) {
    throw new UblkError("EEXIST", `Log ${log} exists already: remove it yourself to have all of the volume sent again`);
  }
  const isImageThere = (await kindOf(path)) !== "missing";
  if (origin === "seed" && !isImageThere) {
    throw new UblkError("ENOENT", `Image ${path} does not exist: bring it there, or leave out --seed`);
  }
  const storeKind = await kindOf(store);
  const isStoreThere = storeKind === "file" || (storeKind === "device" && (await isOwnStore(store, name)));
  if (isStoreThere && !isImageThere) {
    const message = `Store ${store} exists already, and image ${path} does not: what is kept of an image is worth nothing without it; remove the store yourself`;
    throw new UblkError("EEXIST", message);
  }
  if (!isImageThere && sizes.imageBytes === null) {
    throw new UblkError("ESIZE", `Image ${path} does not exist: say with --size how large the volume is at its source`);
  }
  if (isImageThere && sizes.imageBytes !== null && (await storeBytes(path)) !== sizes.imageBytes) {
    throw new UblkError("ESIZE", `Image ${path} exists, and has ${await storeBytes(path)} bytes: leave out --size`);
  }
  const imageBytes = sizes.imageBytes ?? (await storeBytes(path));
  if (imageBytes % SECTOR_BYTES !== 0) {
    throw new UblkError("ESIZE", `wanted an image of whole sectors of ${SECTOR_BYTES} bytes, found ${imageBytes}`);
  }
  if (!isStoreThere && storeKind === "missing" && sizes.storeBytes === null) {
    throw new UblkError("ESIZE", `Store ${store} does not exist: say with --store-size how large it is to be`);
  }
  const made: string[] = [];
  try {
    if (!isImageThere) {
      await makeImage(path, imageBytes);
      made.push(path);
    }
    if (!isStoreThere) {
      await createStoreBacking(store, owner, {
        sizeBytes: storeKind === "missing" ? sizes.storeBytes : null,
        blockBytes,
      });
      if (storeKind === "missing") made.push(store);
    }
    // Numbers of points that the store has are not given again: by them it is known what is kept.
    const last = isStoreThere ? await lastKept(store, name) : 0;
    const note = receiveStatePath(name);
    await writeNote(note, { ...(await readNote(note)), generations: NO_NOTE.generations, incoming: null });
    await createLogBacking(log, owner, sizes.logBytes, { committed: last, applied: last });
  } catch (error) {
    for (const each of made) await rm(each, { force: true });
    throw error;
  }
  return [...(isImageThere ? [] : [path]), ...(isStoreThere ? [] : [store]), log];
}

/** An empty log in the place of whatever is there: what it told of does not count any more. A file keeps its size. */
export async function renewLog({ name, log }: ReceivedSpec, sizeBytes: number, points: LastPoints): Promise<void> {
  const kind = await kindOf(log);
  const bytes = kind === "file" ? (await stat(log)).size : sizeBytes;
  if (kind === "file") await rm(log);
  if (kind === "device") await wipeLogBacking(log);
  await createLogBacking(log, ownerOf(name), bytes, points);
}

type Kind = "missing" | "file" | "device";

async function kindOf(path: string): Promise<Kind> {
  try {
    const stats = await stat(path);
    return stats.isBlockDevice() ? "device" : "file";
  } catch (error) {
    if (codeOf(error) === "ENOENT") return "missing";
    throw error;
  }
}

/** False for a device that is no store. Throws EOWNER for that of another volume. */
async function isOwnStore(path: string, name: string): Promise<boolean> {
  try {
    await lastKept(path, name);
    return true;
  } catch (error) {
    if (codeOf(error) === "ESTORE") return false;
    throw error;
  }
}

/** The largest number of a point that the store of a volume has; 0 for none. */
export async function lastKept(path: string, name: string): Promise<number> {
  await using handle = await open(path, "r");
  const file = new ByteFile(handle.fd);
  const { layout, salt } = openStore(file, ownerOf(name));
  const { points } = recoverStore(file, layout, salt).catalog;
  return points.reduce((last, point) => (point.kind === "mirror" ? Math.max(last, Number(point.name)) : last), 0);
}

async function makeImage(path: string, sizeBytes: number): Promise<void> {
  try {
    await using handle = await open(path, "wx", 0o600);
    await handle.truncate(sizeBytes);
    await handle.sync();
  } catch (cause) {
    throw new UblkError(codeOf(cause) ?? "EIO", `Cannot make image ${path}: ${String(cause)}`, { cause });
  }
}
