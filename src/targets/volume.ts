/**
 * A volume in two halves. This thread opens and locks the backing store and measures it; the threads of the queues build
 * the stack of targets over it (stack.ts), from the description that is made here.
 */
import { closeSync, constants } from "node:fs";
import { open, rm, statfs, type FileHandle } from "node:fs/promises";
import type { RecordPlace } from "../nvram/nvram-file.ts";
import { RecordCounts } from "../nvram/record-counts.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import type { OperationName } from "../ublk/request.ts";
import type { Limits, TargetSource } from "../ublk/target.ts";
import { openAppendedBacking } from "./appended-backing.ts";
import { CowCounts } from "./cow/cow-counts.ts";
import type { FullPolicy } from "./cow/cow-target.ts";
import type { Geometry } from "./cow/layout.ts";
import { openFileBacking } from "./file-backing.ts";
import { memoryLimits } from "./memory.ts";
import { allocateMirror, type MirrorMemory } from "./mirror/mirror-memory.ts";
import { SECTOR_BYTES } from "./mirror/transfer.ts";
import { nullLimits } from "./null.ts";
import { openNvramBacking } from "./nvram-backing.ts";
import type { BottomOptions, CowStackOptions, FilterOptions, RecordOptions, StackOptions } from "./stack.ts";
import { openStoreBacking } from "./store-backing.ts";

export type BackingSpec =
  | { readonly kind: "file"; readonly path: string }
  /** An image with originals behind it; always read-only, as large as its volume was. */
  | { readonly kind: "appended"; readonly path: string }
  | { readonly kind: "memory"; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: "null"; readonly sizeBytes: number };

export type FilterSpec =
  | {
      readonly kind: "error";
      readonly errno: string;
      readonly rate: number;
      readonly operations: readonly OperationName[] | null;
      readonly range: { readonly offsetBytes: number; readonly lengthBytes: number } | null;
      readonly seed: number;
    }
  | { readonly kind: "delay"; readonly delayMs: number; readonly operations: readonly OperationName[] | null }
  | { readonly kind: "trace"; readonly path: string };

export interface VolumeSpec {
  readonly backing: BackingSpec;
  /** Part of a file or device to use, from its start; null for the whole of it. */
  readonly sizeBytes: number | null;
  readonly logicalBlockBytes: number;
  readonly readOnly: boolean;
  /** The predictive record; null for a volume that has none. */
  readonly record: RecordSpec | null;
  /** What a mirror keeps in memory; null for a volume that has none. It needs a record. */
  readonly mirror: MirrorSpec | null;
  /** Snapshots; null for a volume that has none. */
  readonly snapshots: SnapshotSpec | null;
  /** Outermost, nearest to the host, first. */
  readonly filters: readonly FilterSpec[];
}

/** The log for the remote, in memory, and the blocks of consistency points. In bytes, powers of two. */
export interface MirrorSpec {
  readonly logBytes: number;
  readonly blockBytes: number;
}

/** Where the originals of a volume are kept, and what is done when there is no room for more. */
export interface SnapshotSpec {
  /** The store: a file or block device. */
  readonly path: string;
  readonly fullPolicy: FullPolicy;
  /** Whose store it must be. */
  readonly volume: string;
  readonly mark: bigint;
  /** Where a loss is noted when the store cannot be written. */
  readonly lossNotePath: string;
}

/** The store of an open volume, for whoever wants to look at it: the counts are written by the queue's thread. */
export interface CowView {
  readonly path: string;
  readonly geometry: Geometry;
  readonly fullPolicy: FullPolicy;
  readonly counts: CowCounts;
}

/** Where a volume's record is, and how much of it may be in the record at once. */
export interface RecordSpec {
  /** The NVRAM file. */
  readonly path: string;
  readonly limitBytes: number;
  /** Whose file it must be. */
  readonly volume: string;
  readonly mark: bigint;
}

/** The record of an open volume, for whoever wants to look at it: the memory is written by the queue's thread. */
export interface RecordView {
  readonly path: string;
  readonly isPersistentMemory: boolean;
  readonly place: RecordPlace;
  readonly limitBytes: number;
  /** STATE bits by chunk. */
  readonly states: Uint8Array;
  readonly counts: RecordCounts;
}

export interface OpenVolume extends AsyncDisposable {
  readonly limits: Limits;
  readonly source: TargetSource;
  readonly record: RecordView | null;
  readonly cow: CowView | null;
  readonly mirror: MirrorMemory | null;
  /** How the backing store is used, in words. */
  readonly explain: readonly string[];
  /** Measures the backing store again, for a volume that is resized. In bytes. */
  measure(): Promise<number>;
  /** Removes what a clean stop should not leave behind. */
  discardStore(): Promise<void>;
}

const STACK_MODULE = new URL(import.meta.url.endsWith(".ts") ? "./stack.ts" : "./stack.js", import.meta.url).href;
/** A request of the largest size, and one more, have room in any record. */
const LIMIT_CHUNKS_MIN = 144;
/** The largest discard is this part of the record. */
const REQUEST_SHARE = 4;
/** Blocks of originals that one discard may want to have moved. */
const COW_RANGE_BLOCKS = 16_384;
const TMPFS_MAGIC = 0x01021994;

interface Bottom {
  readonly handle: AsyncDisposable | null;
  readonly limits: Limits;
  readonly options: BottomOptions;
  readonly explain: readonly string[];
  measure(): Promise<number>;
  discardStore(): Promise<void>;
}

/**
 * Opens and locks a volume's backing store. `lockWaitMs` is how long to wait for a lock of a process that is going away.
 * Throws UblkError with one line that says what is wrong and what to do: ENOENT, EACCES, EROFS, EBUSY (in use), ESIZE
 * (too small, no multiple of the block), EBLOCK (block size), ENOTBLK.
 */
export async function openVolume(spec: VolumeSpec, { lockWaitMs = 0 } = {}): Promise<OpenVolume> {
  const bottom = await openBottom(spec, lockWaitMs);
  await using opened = new AsyncDisposableStack();
  opened.use(bottom.handle);
  const filters: FilterOptions[] = [];
  for (const filter of spec.filters) {
    if (filter.kind === "trace") filters.push({ kind: "trace", fd: opened.use(await openTrace(filter.path)).fd });
    else filters.push(filter);
  }
  const { limits } = bottom;
  const record = spec.record === null ? null : await openRecordOf(spec.record, limits.sizeBytes, lockWaitMs, opened);
  const cow = spec.snapshots === null ? null : await openCowOf(spec.snapshots, limits.sizeBytes, lockWaitMs, opened);
  const mirror =
    spec.mirror === null || record === null ? null : openMirrorOf(spec.mirror, limits, record.view, opened);
  const options: StackOptions = {
    bottom: bottom.options,
    record: record?.options ?? null,
    mirror,
    cow: cow?.options ?? null,
    filters,
  };
  const held = opened.move();
  const recorded = record === null ? limits : withinRecord(limits, record.view);
  const mirrored = mirror === null ? recorded : withinPoint(recorded, mirror);
  return {
    limits: cow === null ? mirrored : withRanges(mirrored, cow.view.geometry.blockBytes * COW_RANGE_BLOCKS),
    record: record?.view ?? null,
    cow: cow?.view ?? null,
    mirror,
    explain: bottom.explain,
    source: { module: STACK_MODULE, options },
    measure: () => bottom.measure(),
    discardStore: () => bottom.discardStore(),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function openRecordOf(
  { path, limitBytes, volume, mark }: RecordSpec,
  volumeBytes: number,
  lockWaitMs: number,
  opened: AsyncDisposableStack,
): Promise<{ view: RecordView; options: RecordOptions }> {
  const backing = opened.use(await openNvramBacking(path, { volume, mark, volumeBytes }, lockWaitMs));
  const { fd, place, isPersistentMemory } = backing;
  const limitChunks = Math.floor(limitBytes / place.chunkBytes);
  if (limitChunks < LIMIT_CHUNKS_MIN) {
    throw new UblkError(
      "ELIMIT",
      `record.limit is ${limitChunks} chunks of ${place.chunkBytes} bytes, wanted at least ${LIMIT_CHUNKS_MIN}: set a larger limit`,
    );
  }
  const states = new SharedArrayBuffer(place.chunks);
  const counts = new RecordCounts();
  return {
    view: { path, isPersistentMemory, place, limitBytes, states: new Uint8Array(states), counts },
    options: { fd, isPersistentMemory, place, limitChunks, states, counts: counts.shared },
  };
}

async function openCowOf(
  { path, fullPolicy, volume, mark, lossNotePath }: SnapshotSpec,
  volumeBytes: number,
  lockWaitMs: number,
  opened: AsyncDisposableStack,
): Promise<{ view: CowView; options: CowStackOptions }> {
  const owner = { volume, mark };
  const { fd, plainFd, store } = opened.use(await openStoreBacking(path, owner, lockWaitMs));
  const { geometry } = store.layout;
  const counts = new CowCounts();
  const { blockBytes } = geometry;
  return {
    view: { path, geometry, fullPolicy, counts },
    options: {
      ...{ fd, plainFd, owner, volumeBytes, blockBytes, fullPolicy, lossNotePath },
      counts: counts.shared,
    },
  };
}

function openMirrorOf(
  { logBytes, blockBytes }: MirrorSpec,
  { sizeBytes }: Limits,
  { place }: RecordView,
  opened: AsyncDisposableStack,
): MirrorMemory {
  const event = native.eventDescriptor();
  opened.defer(() => {
    closeSync(event);
  });
  const geometry = {
    volumeSectors: sizeBytes / SECTOR_BYTES,
    blockSectors: blockBytes / SECTOR_BYTES,
    chunkSectors: place.chunkBytes / SECTOR_BYTES,
  };
  return allocateMirror(geometry, logBytes, event);
}

/** No request may want more of a point than there is ever room for. */
function withinPoint(limits: Limits, { capacity, geometry }: MirrorMemory): Limits {
  return withRanges(limits, Math.floor(capacity / REQUEST_SHARE) * geometry.blockSectors * SECTOR_BYTES);
}

/** No request may want more of the record than it can ever give. */
function withinRecord(limits: Limits, { limitBytes, place }: RecordView): Limits {
  return withRanges(limits, Math.floor(limitBytes / REQUEST_SHARE / place.chunkBytes) * place.chunkBytes);
}

/** Discards and zeroes of at most so many bytes. */
function withRanges(limits: Limits, maxBytes: number): Limits {
  const { discard, writeZeroesMaxBytes } = limits;
  return {
    ...limits,
    discard: discard === null ? null : { ...discard, maxBytes: Math.min(discard.maxBytes, maxBytes) },
    writeZeroesMaxBytes: writeZeroesMaxBytes === null ? null : Math.min(writeZeroesMaxBytes, maxBytes),
  };
}

async function openTrace(path: string): Promise<FileHandle> {
  try {
    return await open(path, "a", 0o600);
  } catch (cause) {
    throw new UblkError(codeOf(cause) ?? "EOPEN", `Cannot write the trace ${path}: ${messageOf(cause)}`, { cause });
  }
}

const nothing = (): Promise<void> => Promise.resolve();

async function openBottom(spec: VolumeSpec, lockWaitMs: number): Promise<Bottom> {
  const { backing, logicalBlockBytes, readOnly } = spec;
  switch (backing.kind) {
    case "null":
      return {
        handle: null,
        limits: nullLimits(backing.sizeBytes, logicalBlockBytes, readOnly),
        options: { kind: "null" },
        explain: ["null: keeps nothing"],
        measure: () => Promise.resolve(backing.sizeBytes),
        discardStore: nothing,
      };
    case "memory":
      return openMemory(backing.path, backing.sizeBytes, spec);
    case "file": {
      const file = await openFileBacking({
        path: backing.path,
        sizeBytes: spec.sizeBytes,
        logicalBlockBytes,
        readOnly,
        lockWaitMs,
      });
      return { ...file, options: { kind: "file", ...file.options }, discardStore: nothing };
    }
    case "appended": {
      const appended = await openAppendedBacking({ path: backing.path, logicalBlockBytes, lockWaitMs });
      return {
        handle: appended,
        limits: appended.limits,
        options: { kind: "appended", ...appended.options },
        explain: appended.explain,
        measure: () => Promise.resolve(appended.limits.sizeBytes),
        discardStore: nothing,
      };
    }
  }
}

async function openMemory(path: string, sizeBytes: number, spec: VolumeSpec): Promise<Bottom> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if ((await statfs(path)).type !== TMPFS_MAGIC) {
      throw new UblkError("ENOTTMPFS", `${path} is not on tmpfs: a memory volume would be written to a disk`);
    }
    if (!native.lockFile(handle.fd)) throw new UblkError("EBUSY", `${path} is in use by another sluice daemon`);
    const { size } = await handle.stat();
    if (size !== 0 && size !== sizeBytes) {
      throw new UblkError("ESIZE", `${path} holds ${size} bytes, the volume wants ${sizeBytes}: stop the volume first`);
    }
    await handle.truncate(sizeBytes);
    const { fd } = handle;
    return {
      handle,
      limits: memoryLimits(sizeBytes, spec.logicalBlockBytes, spec.readOnly),
      options: { kind: "memory", fd, sizeBytes },
      explain: [`memory: kept in ${path} until a clean stop`],
      measure: () => Promise.resolve(sizeBytes),
      discardStore: () => rm(path, { force: true }),
    };
  } catch (cause) {
    await handle?.close();
    if (cause instanceof UblkError) throw cause;
    throw new UblkError(codeOf(cause) ?? "EOPEN", `Cannot make the memory of ${path}: ${messageOf(cause)}`, { cause });
  }
}
