/**
 * The control API: HTTP with JSON on a Unix socket that only its owner can open.
 *
 *     GET  /v1/status    VolumeStatus
 *     GET  /v1/metrics   Prometheus text
 *     GET  /v1/record    RecordMap; 404 where there is no record
 *     GET  /v1/snapshots SnapshotList; 404 where there is no store for them, as for all of the following
 *     POST /v1/snapshots/create    { "name": string }                     SnapshotRow
 *     POST /v1/snapshots/prepare   { "name": string }                     { "ticket" }: the first step of four (GroupPart)
 *     POST /v1/snapshots/delete    { "name": string }
 *     POST /v1/snapshots/diff      { "from": string, "to": string }       SnapshotDiff; without "to": since then
 *     POST /v1/snapshots/export    { "name": string }                     SnapshotRow, with its device
 *     POST /v1/snapshots/unexport  { "name": string, "force": boolean }
 *     POST /v1/rollback  { "snapshot": string }   once the device is gone; the next start rolls it back
 *     GET  /v1/copies              CopyRow[]; 404 where there is no store, as for all of the following
 *     POST /v1/copies/start        NewCopy                                CopyRow
 *     POST /v1/copies/release                                             CopyRow
 *     POST /v1/copies/pause        { "name": string }                     CopyRow; resume likewise
 *     POST /v1/copies/limit        { "name": string, "bytesPerSecond": number | null }           CopyRow
 *     POST /v1/copies/prioritize   { "name": string, "offset": number, "length": number }        CopyRow
 *     POST /v1/copies/remainder    { "name": string }                     CopyRemainder
 *     POST /v1/copies/cancel       { "name": string }
 *     POST /v1/copies/prepare      NewCopy                                { "ticket" }: the first step of four (GroupPart)
 *     POST /v1/group/hold          { "ticket": string }                   the next steps, of whatever was prepared
 *     POST /v1/group/take          { "ticket": string, "createdMs": number }                     SnapshotRow, CopyRow, or { "point" }
 *     POST /v1/group/finish        { "ticket": string, "keep": boolean }
 *     GET  /v1/bulk      BulkStatus; 404 where there is no bulk copy, or no store for originals, as for all of the following
 *     POST /v1/bulk/begin     { "ranges": [{ "offset", "length" }] }      BulkStatus; without "ranges": of all of the volume
 *     POST /v1/bulk/mark                                                  BulkStatus
 *     POST /v1/bulk/end-cow                                               BulkStatus
 *     POST /v1/bulk/originals { "recordBytes": number, "from": number }   the stream (docs/stream-format.md), from a record on
 *     POST /v1/bulk/drop      { "stream": string }                        of that stream only; without it: whichever there is
 *     GET  /v1/mirror    MirrorStatus; 404 where there is none, as for all of the following
 *     POST /v1/mirror/pause                                               MirrorStatus; resume likewise
 *     POST /v1/mirror/cp                                                  CommittedPoint, once the receiver has it
 *     POST /v1/mirror/prepare                                             { "ticket" }: the first step of four (GroupPart)
 *     POST /v1/mirror/committed { "point": number }                       CommittedPoint, of one that was taken so, once the receiver has it
 *     POST /v1/mirror/limit   { "bytesPerSecond": number | null }         MirrorStatus; what is copied to the receiver
 *     POST /v1/mirror/mode    { "mode": "async" | "memory" | "sync", "policy": "continue" | "stop" }   MirrorStatus; either may be missing
 *     POST /v1/stop      { "force": boolean }     202 once the device is gone
 *     POST /v1/resize    { "sizeBytes": number }  without sizeBytes: the size that the backing store has now
 *
 * An error is { "error": { "code", "message" } }; one that comes in the middle of a stream ends it, and is in its trailer
 * "sluice-error". Bodies are bounded; whatever else comes is refused.
 */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { Server } from "node:http";
import * as z from "zod";
import { COPY_ORDERS } from "../copy/segment-list.ts";
import { isRecordSize } from "../targets/record-size.ts";
import type { VerificationStatus } from "../replication/verification.ts";
import type { CommittedPoint } from "../replication/sender.ts";
import { MIRROR_MODES, MIRROR_POLICIES, type MirrorMode, type MirrorPolicy } from "../targets/mirror/modes.ts";
import type { MirrorStatus, TakenPointRow } from "./mirror-status.ts";
import { checked, json, serveRoutes, type Routes } from "./api-server.ts";
import type { NewCopy } from "./new-copy.ts";
import type { CopyRemainder, CopyRow } from "./copy-status.ts";
import type { BulkStatus } from "./bulk-status.ts";
import type { SnapshotDiff, SnapshotList, SnapshotRow } from "./snapshot-status.ts";
import type { RecordMap } from "./record-status.ts";
import type { VolumeStatus } from "./status.ts";

/** Of a bulk copy: a body has room for them. */
const RANGES_MAX = 64;

/** The snapshots of a volume. */
export interface ControlledSnapshots {
  list(): Promise<SnapshotList>;
  create(name: string): Promise<SnapshotRow>;
  prepare(name: string): Promise<string>;
  drop(name: string): Promise<void>;
  diff(from: string, to: string | undefined): Promise<SnapshotDiff>;
  export(name: string): Promise<SnapshotRow>;
  unexport(name: string, force: boolean): Promise<void>;
}

/** What is being taken of a volume and others at one instant. */
export interface ControlledGroup {
  hold(ticket: string): Promise<void>;
  take(ticket: string, createdMs: number): Promise<SnapshotRow | CopyRow | TakenPointRow>;
  finish(ticket: string, keep: boolean): Promise<void>;
}

/** The copy jobs of a volume. */
export interface ControlledCopies {
  list(): CopyRow[];
  start(wanted: NewCopy): Promise<CopyRow>;
  prepare(wanted: NewCopy): Promise<string>;
  release(): Promise<CopyRow>;
  pause(name: string): Promise<CopyRow>;
  resume(name: string): Promise<CopyRow>;
  limit(name: string, bytesPerSecond: number | null): Promise<CopyRow>;
  prioritize(name: string, offset: number, length: number): CopyRow;
  toCopy(name: string): CopyRemainder;
  cancel(name: string): Promise<void>;
}

/** The bulk copy of a volume. */
export interface ControlledBulk {
  status(): Promise<BulkStatus>;
  /** Of parts of the volume, or of all of it (null). */
  begin(ranges: readonly ByteRange[] | null): Promise<BulkStatus>;
  mark(): Promise<BulkStatus>;
  endCow(): Promise<BulkStatus>;
  originals(recordBytes: number, from: number): Promise<AsyncIterable<Uint8Array>>;
  drop(stream: string | undefined): Promise<void>;
}

/** The mirror of a volume. */
export interface ControlledMirror {
  status(): MirrorStatus;
  pause(): void;
  resume(): void;
  cutPoint(): Promise<CommittedPoint>;
  verify(isRepairing: boolean): Promise<AsyncIterable<VerificationStatus>>;
  prepare(): Promise<string>;
  committedPoint(point: number): Promise<CommittedPoint>;
  limit(bytesPerSecond: number | null): void;
  setMode(mode: MirrorMode): void;
  setPolicy(policy: MirrorPolicy): void;
}

/** The volume behind the API. */
export interface ControlledVolume {
  status(): VolumeStatus;
  /** Throws ENOENT where the volume has no record. */
  recordMap(): RecordMap;
  /** Throws ENOENT where the volume has no store for them. */
  readonly snapshots: ControlledSnapshots;
  /** Stops the volume, to be rolled back at its next start. Throws EBUSY while the device is in use. */
  rollBack(snapshot: string): Promise<void>;
  /** Throws ENOENT where the volume has no store for originals. */
  readonly copies: ControlledCopies;
  readonly group: ControlledGroup;
  /** Throws ENOENT where the volume has no store for it. */
  readonly bulk: ControlledBulk;
  /** Throws ENOENT where the volume has none. */
  readonly mirror: ControlledMirror;
  /** Throws EBUSY while the device is in use, unless forced. */
  stop(force: boolean): Promise<void>;
  /** Gives the new size. */
  resize(sizeBytes: number | undefined): Promise<number>;
}

const stopBody = z.strictObject({ force: z.boolean().default(false) });
const ticketBody = z.strictObject({ ticket: z.string() });
const takeBody = z.strictObject({ ticket: z.string(), createdMs: z.int().nonnegative() });
const finishBody = z.strictObject({ ticket: z.string(), keep: z.boolean() });
const rollbackBody = z.strictObject({ snapshot: z.string() });
const diffBody = z.strictObject({ from: z.string(), to: z.string().optional() });
const unexportBody = z.strictObject({ name: z.string(), force: z.boolean().default(false) });
const nameBody = z.strictObject({ name: z.string() });
const copyBody = z.strictObject({
  name: z.string().optional(),
  destinations: z.array(z.string().startsWith("/")).min(1).max(8),
  segmentBytes: z.int().positive(),
  order: z.enum(COPY_ORDERS),
  bytesPerSecond: z.int().positive().nullable(),
  recordBytes: z.int().refine(isRecordSize).nullable(),
  force: z.boolean(),
  staged: z.boolean(),
});
const limitBody = z.strictObject({ name: z.string(), bytesPerSecond: z.int().positive().nullable() });
const rangeBody = z.strictObject({ name: z.string(), offset: z.int().nonnegative(), length: z.int().positive() });
const originalsBody = z.strictObject({ recordBytes: z.int().positive(), from: z.int().nonnegative().default(0) });
const beginBody = z.strictObject({
  ranges: z
    .array(z.strictObject({ offset: z.int().nonnegative(), length: z.int().positive() }))
    .min(1)
    .max(RANGES_MAX)
    .nullable()
    .default(null),
});
const dropBody = z.strictObject({ stream: z.string().optional() });
const verifyBody = z.strictObject({ isRepairing: z.boolean().default(false) });
const pointBody = z.strictObject({ point: z.int().positive() });
const mirrorLimitBody = z.strictObject({ bytesPerSecond: z.int().positive().nullable() });
const modeBody = z.strictObject({
  mode: z.enum(MIRROR_MODES).optional(),
  policy: z.enum(MIRROR_POLICIES).optional(),
});
const resizeBody = z.strictObject({ sizeBytes: z.int().positive().optional() });

const ROUTES: Routes<ControlledVolume> = {
  "/v1/status": { GET: (_body, volume) => Promise.resolve(json(volume.status())) },
  "/v1/metrics": {
    GET: async (_body, volume) => {
      // Most volumes are never scraped: the library waits until somebody does.
      const { metricsText } = await import("./metrics.ts");
      return { type: "text/plain; version=0.0.4", text: await metricsText(volume.status()) };
    },
  },
  "/v1/record": { GET: (_body, volume) => Promise.resolve(json(volume.recordMap())) },
  "/v1/snapshots": { GET: async (_body, volume) => json(await volume.snapshots.list()) },
  "/v1/snapshots/create": {
    POST: async (body, volume) => json(await volume.snapshots.create(checked(nameBody, body).name)),
  },
  "/v1/snapshots/prepare": {
    POST: async (body, volume) => json({ ticket: await volume.snapshots.prepare(checked(nameBody, body).name) }),
  },
  "/v1/snapshots/delete": {
    POST: async (body, volume) => {
      await volume.snapshots.drop(checked(nameBody, body).name);
      return json({ deleted: true });
    },
  },
  "/v1/snapshots/diff": {
    POST: async (body, volume) => {
      const { from, to } = checked(diffBody, body);
      return json(await volume.snapshots.diff(from, to));
    },
  },
  "/v1/snapshots/export": {
    POST: async (body, volume) => json(await volume.snapshots.export(checked(nameBody, body).name)),
  },
  "/v1/snapshots/unexport": {
    POST: async (body, volume) => {
      const { name, force } = checked(unexportBody, body);
      await volume.snapshots.unexport(name, force);
      return json({ exported: false });
    },
  },
  "/v1/rollback": {
    POST: async (body, volume) => {
      await volume.rollBack(checked(rollbackBody, body).snapshot);
      return json({ stopped: true });
    },
  },
  "/v1/copies": { GET: (_body, volume) => Promise.resolve(json(volume.copies.list())) },
  "/v1/copies/start": {
    POST: async (body, volume) => {
      const wanted = checked(copyBody, body);
      return json(await volume.copies.start({ ...wanted, name: wanted.name }));
    },
  },
  "/v1/copies/prepare": {
    POST: async (body, volume) => {
      const wanted = checked(copyBody, body);
      return json({ ticket: await volume.copies.prepare({ ...wanted, name: wanted.name }) });
    },
  },
  "/v1/group/hold": {
    POST: async (body, volume) => {
      await volume.group.hold(checked(ticketBody, body).ticket);
      return json({ held: true });
    },
  },
  "/v1/group/take": {
    POST: async (body, volume) => {
      const { ticket, createdMs } = checked(takeBody, body);
      return json(await volume.group.take(ticket, createdMs));
    },
  },
  "/v1/group/finish": {
    POST: async (body, volume) => {
      const { ticket, keep } = checked(finishBody, body);
      await volume.group.finish(ticket, keep);
      return json({ finished: true });
    },
  },
  "/v1/copies/release": { POST: async (_body, volume) => json(await volume.copies.release()) },
  "/v1/copies/pause": {
    POST: async (body, volume) => json(await volume.copies.pause(checked(nameBody, body).name)),
  },
  "/v1/copies/resume": {
    POST: async (body, volume) => json(await volume.copies.resume(checked(nameBody, body).name)),
  },
  "/v1/copies/limit": {
    POST: async (body, volume) => {
      const { name, bytesPerSecond } = checked(limitBody, body);
      return json(await volume.copies.limit(name, bytesPerSecond));
    },
  },
  "/v1/copies/prioritize": {
    POST: (body, volume) => {
      const { name, offset, length } = checked(rangeBody, body);
      return Promise.resolve(json(volume.copies.prioritize(name, offset, length)));
    },
  },
  "/v1/copies/remainder": {
    POST: (body, volume) => Promise.resolve(json(volume.copies.toCopy(checked(nameBody, body).name))),
  },
  "/v1/copies/cancel": {
    POST: async (body, volume) => {
      await volume.copies.cancel(checked(nameBody, body).name);
      return json({ cancelled: true });
    },
  },
  "/v1/bulk": { GET: async (_body, volume) => json(await volume.bulk.status()) },
  "/v1/bulk/begin": { POST: async (body, volume) => json(await volume.bulk.begin(checked(beginBody, body).ranges)) },
  "/v1/bulk/mark": { POST: async (_body, volume) => json(await volume.bulk.mark()) },
  "/v1/bulk/end-cow": { POST: async (_body, volume) => json(await volume.bulk.endCow()) },
  "/v1/bulk/originals": {
    POST: async (body, volume) => {
      const { recordBytes, from } = checked(originalsBody, body);
      return { type: "application/octet-stream", stream: await volume.bulk.originals(recordBytes, from) };
    },
  },
  "/v1/bulk/drop": {
    POST: async (body, volume) => {
      await volume.bulk.drop(checked(dropBody, body).stream);
      return json({ dropped: true });
    },
  },
  "/v1/mirror": { GET: (_body, volume) => Promise.resolve(json(volume.mirror.status())) },
  "/v1/mirror/pause": {
    POST: (_body, { mirror }) => {
      mirror.pause();
      return Promise.resolve(json(mirror.status()));
    },
  },
  "/v1/mirror/resume": {
    POST: (_body, { mirror }) => {
      mirror.resume();
      return Promise.resolve(json(mirror.status()));
    },
  },
  "/v1/mirror/cp": { POST: async (_body, { mirror }) => json(await mirror.cutPoint()) },
  // A line of JSON each time; who asked ends it by going away.
  "/v1/mirror/verify": {
    POST: async (body, { mirror }) => {
      const progress = await mirror.verify(checked(verifyBody, body).isRepairing);
      return { type: "application/x-ndjson", stream: linesOf(progress) };
    },
  },
  "/v1/mirror/prepare": { POST: async (_body, { mirror }) => json({ ticket: await mirror.prepare() }) },
  "/v1/mirror/committed": {
    POST: async (body, { mirror }) => json(await mirror.committedPoint(checked(pointBody, body).point)),
  },
  "/v1/mirror/limit": {
    POST: (body, { mirror }) => {
      mirror.limit(checked(mirrorLimitBody, body).bytesPerSecond);
      return Promise.resolve(json(mirror.status()));
    },
  },
  "/v1/mirror/mode": {
    POST: (body, { mirror }) => {
      const { mode, policy } = checked(modeBody, body);
      if (mode !== undefined) mirror.setMode(mode);
      if (policy !== undefined) mirror.setPolicy(policy);
      return Promise.resolve(json(mirror.status()));
    },
  },
  "/v1/stop": {
    POST: async (body, volume) => {
      await volume.stop(checked(stopBody, body).force);
      return json({ stopped: true });
    },
  },
  "/v1/resize": {
    POST: async (body, volume) => json({ sizeBytes: await volume.resize(checked(resizeBody, body).sizeBytes) }),
  },
};

async function* linesOf(values: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const value of values) yield new TextEncoder().encode(`${JSON.stringify(value)}\n`);
}

/** Listens at `path`, which must be nobody else's. */
export async function serveApi(path: string, volume: ControlledVolume): Promise<Server> {
  return serveRoutes(path, ROUTES, volume);
}
