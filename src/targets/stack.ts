/** The stack of targets of one queue: what keeps the bytes at the bottom, a record over it, instruments above. */
import { readSync } from "node:fs";
import { DaxPersistence } from "../nvram/dax-persistence.ts";
import { StandInDrain } from "../nvram/drain.ts";
import { FilePersistence, PAGE_BYTES } from "../nvram/file-persistence.ts";
import type { Persistence } from "../nvram/persistence.ts";
import type { PredictiveRecord } from "../nvram/record.ts";
import { UblkError } from "../ublk/errors.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { native } from "../ublk/native.ts";
import type { QueueContext, Target } from "../ublk/target.ts";
import { AppendedTarget, type AppendedOptions } from "./appended.ts";
import { ByteFile } from "./byte-file.ts";
import { CowCounts } from "./cow/cow-counts.ts";
import { obeyCow, type CowOrder } from "./cow/cow-orders.ts";
import { belowCow, type CowTarget, type FullPolicy } from "./cow/cow-target.ts";
import { FileLossNote } from "./cow/loss-note.ts";
import { openCow } from "./cow/open-cow.ts";
import { readSuperblock } from "./cow/recovery.ts";
import type { StoreOwner } from "./cow/store-file.ts";
import { tuningFor } from "./cow/tuning.ts";
import { ViewServers } from "./cow/view-server.ts";
import { DelayTarget, type DelayOptions } from "./delay.ts";
import { ErrorTarget, type ErrorOptions } from "./error.ts";
import { FileTarget, type FileOptions } from "./file.ts";
import { MemoryTarget, type MemoryOptions } from "./memory.ts";
import { NullTarget } from "./null.ts";
import { MirrorNumbers, dirtyHalves, type MirrorMemory } from "./mirror/mirror-memory.ts";
import { MirrorServer, type MirrorOrder } from "./mirror/mirror-server.ts";
import { belowMirror, MirrorTarget } from "./mirror/mirror-target.ts";
import { OwedChunks } from "./mirror/owed-chunks.ts";
import { SECTOR_BYTES } from "./mirror/transfer.ts";
import { TransferWriter } from "./mirror/transfer-ring.ts";
import { belowRecord, openRecord, type BelowRecord, type RecordSetup } from "./open-record.ts";
import { TraceTarget, type TraceOptions } from "./trace.ts";

export type BottomOptions =
  | ({ readonly kind: "file" } & FileOptions)
  | ({ readonly kind: "appended" } & AppendedOptions)
  | ({ readonly kind: "memory" } & MemoryOptions)
  | { readonly kind: "null" };

export type FilterOptions =
  | ({ readonly kind: "error" } & ErrorOptions)
  | ({ readonly kind: "delay" } & DelayOptions)
  | ({ readonly kind: "trace" } & TraceOptions);

export interface RecordOptions extends RecordSetup {
  /** The NVRAM file, open in this process. */
  readonly fd: number;
  readonly isPersistentMemory: boolean;
}

/** Copy-on-write, with its store open in this process. */
export interface CowStackOptions {
  readonly fd: number;
  readonly plainFd: number;
  readonly owner: StoreOwner;
  readonly volumeBytes: number;
  readonly blockBytes: number;
  readonly fullPolicy: FullPolicy;
  readonly lossNotePath: string;
  /** Where to count (CowCounts). */
  readonly counts: SharedArrayBuffer;
}

export interface StackOptions {
  readonly bottom: BottomOptions;
  /** Below copy-on-write. */
  readonly record: RecordOptions | null;
  /** Between the bottom and the record, which it needs. */
  readonly mirror: MirrorMemory | null;
  /** Below the filters. */
  readonly cow: CowStackOptions | null;
  /** Outermost, nearest to the host, first. */
  readonly filters: readonly FilterOptions[];
}

/** The entry that a queue calls (TargetModule of ublk-ts). */
export function openTarget(options: StackOptions, context: QueueContext): Target {
  const { cow, filters } = options;
  if (cow === null) {
    const { target, mirror } = openStored(options, context);
    const top = withFilters(filters, target, context);
    if (mirror !== undefined) top.obey = (order, answer) => obeyMirror(mirror, order as MirrorOrder, answer);
    return top;
  }
  const { target, mirror } = openCopying(options, cow, context);
  const views = new ViewServers(target.reader, context);
  const top = withFilters(filters, target, context);
  // Orders go past the filters, which know of requests alone.
  top.obey = (order, answer) => {
    const given = order as CowOrder | MirrorOrder;
    if (!isForMirror(given)) obeyCow(target, views, given, answer);
    else if (mirror !== undefined) obeyMirror(mirror, given, answer);
  };
  return top;
}

function isForMirror(order: CowOrder | MirrorOrder): order is MirrorOrder {
  return order.kind === "link" || order.kind === "hold writes" || order.kind === "let writes go";
}

function obeyMirror(mirror: MirrorServer, order: MirrorOrder, answer: (answer: unknown) => void): void {
  mirror.obey(order);
  answer({});
}

function withFilters(filters: readonly FilterOptions[], bottom: Target, context: QueueContext): Target {
  return filters.reduceRight((next, filter) => openFilter(filter, next, context), bottom);
}

/** Copy-on-write, and all that lies below it. */
export function openCopying(
  options: StackOptions,
  cow: CowStackOptions,
  context: QueueContext,
): { target: CowTarget; mirror: MirrorServer | undefined } {
  const tuning = tuningFor(cow.blockBytes);
  const { target: next, mirror } = openStored(options, belowCow(context, tuning));
  const file = new ByteFile(cow.plainFd);
  const setup = {
    file: context.useFile(cow.fd),
    volumeBytes: cow.volumeBytes,
    tuning,
    fullPolicy: cow.fullPolicy,
    lossNote: new FileLossNote(cow.lossNotePath, readSuperblock(file).salt),
    counts: new CowCounts(cow.counts),
  };
  return { target: openCow(file, cow.owner, setup, next, context), mirror };
}

interface Stored {
  readonly target: Target;
  readonly mirror: MirrorServer | undefined;
}

/** The bottom, with its record and its mirror. */
function openStored(options: StackOptions, context: QueueContext): Stored {
  const { record } = options;
  return record === null
    ? { target: openBottom(options, context), mirror: undefined }
    : openRecorded(record, options, context);
}

function openRecorded(record: RecordOptions, options: StackOptions, context: QueueContext): Stored {
  const persistence = record.isPersistentMemory ? mapRecord(record, context) : writeRecord(record, context);
  const { mirror: memory } = options;
  const below = belowRecord(context);
  let mirror: MirrorServer | undefined;
  const openBelow = ({ places }: PredictiveRecord): BelowRecord => {
    if (memory === null) return { drain: new StandInDrain(places), next: openBottom(options, below) };
    const drain = new OwedChunks(places);
    const next = openMirror(memory, drain, openBottom(options, belowMirror(below)), below);
    mirror = new MirrorServer(next, drain, memory, context.ring);
    return { drain, next };
  };
  const { target } = openRecord({ ...record, growsWithOwed: memory !== null }, persistence, openBelow, context);
  context.afterBatch(() => mirror?.tell());
  return { target, mirror };
}

function openMirror(memory: MirrorMemory, owed: OwedChunks, bottom: Target, context: QueueContext): MirrorTarget {
  const { mode, policy } = new MirrorNumbers(memory);
  const writer = new TransferWriter(memory.ring, memory.ringSize, { number: 1, sequence: 1 });
  const chunkBytes = memory.geometry.chunkSectors * SECTOR_BYTES;
  return new MirrorTarget({ writer, halves: dirtyHalves(memory), owed, chunkBytes, mode, policy }, bottom, context);
}

function mapRecord({ fd, place: { offset, lengthBytes } }: RecordOptions, { ring }: QueueContext): Persistence {
  const memory = MappedMemory.ofPersistentFile({ fd, offset, lengthBytes, writable: true });
  if (memory === undefined) throw new UblkError("ENVRAM", "The NVRAM file is not on persistent memory any more");
  ring.own(memory);
  const { address } = memory;
  return new DaxPersistence(new Uint8Array(memory.buffer), (at, length) => {
    native.persist(address + at, length);
  });
}

function writeRecord({ fd, place: { offset, lengthBytes } }: RecordOptions, context: QueueContext): Persistence {
  using page = MappedMemory.anonymous(Math.ceil(lengthBytes / PAGE_BYTES) * PAGE_BYTES);
  const bytes = new Uint8Array(page.buffer);
  for (let done = 0; done < lengthBytes;) {
    const count = readSync(fd, bytes, done, bytes.length - done, offset + done);
    if (count === 0) throw new UblkError("ENVRAM", "The NVRAM file was cut while it was being read");
    done += count;
  }
  return new FilePersistence(context.ring, context.useFile(fd), offset, bytes.subarray(0, lengthBytes));
}

function openBottom({ bottom }: StackOptions, context: QueueContext): Target {
  switch (bottom.kind) {
    case "file":
      return new FileTarget(bottom, context);
    case "appended":
      return new AppendedTarget(bottom, context);
    case "memory":
      return new MemoryTarget(bottom, context);
    case "null":
      return new NullTarget();
  }
}

function openFilter(filter: FilterOptions, next: Target, context: QueueContext): Target {
  switch (filter.kind) {
    case "error":
      return new ErrorTarget(filter, next);
    case "delay":
      return new DelayTarget(filter, next, context);
    case "trace":
      return new TraceTarget(filter, next, context);
  }
}
