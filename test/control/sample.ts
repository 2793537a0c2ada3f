/** A volume that is none: what the control API serves in tests that need no kernel. */
import { Readable } from "node:stream";
import type { CopyRow } from "../../src/control/copy-status.ts";
import type {
  ControlledBulk,
  ControlledCopies,
  ControlledGroup,
  ControlledMirror,
  ControlledSnapshots,
  ControlledVolume,
} from "../../src/control/api.ts";
import type { BulkStatus } from "../../src/control/bulk-status.ts";
import type { VerificationStatus } from "../../src/replication/verification.ts";
import type { MirrorStatus, TakenPointRow } from "../../src/control/mirror-status.ts";
import type { RecordMap, RecordStatus } from "../../src/control/record-status.ts";
import type { SnapshotRow, SnapshotStoreStatus } from "../../src/control/snapshot-status.ts";
import type { VolumeStatus } from "../../src/control/status.ts";
import { Operation } from "../../src/ublk/request.ts";
import { QueueStatistics, summarise } from "../../src/ublk/statistics.ts";

const sampleRecord: RecordStatus = {
  nvram: "/mnt/pmem/data.nvram",
  durableBy: "persistent memory",
  chunkBytes: 65536,
  chunks: 16384,
  limitBytes: 2 ** 28,
  crashCopyBytes: 2 ** 24,
  owedBytes: 2 ** 20,
  inFlightBytes: 65536,
  predictedBytes: 2 ** 22,
  hitRate: 0.99,
  updatesPer1000Writes: 4,
  counts: {
    writes: 1000,
    held: 10,
    updates: 4,
    wanted: 12,
    predicted: 60,
    removed: 3,
    wasted: 2,
    stalls: 1,
    flushes: 5,
    failures: 0,
  },
};

export const sampleMirror: MirrorStatus = {
  state: "in step",
  sinceMs: 1_767_323_045_678,
  fault: null,
  lastPoint: { point: 12, createdMs: 1_767_323_046_000, isClosed: true },
  lastClosed: { point: 12, createdMs: 1_767_323_046_000, isClosed: true },
  compared: {
    copied: { comparedBytes: 2 ** 24, equalBytes: 2 ** 23 },
    verified: { comparedBytes: 2 ** 26, differentBytes: 4096 },
  },
  verification: null,
  connections: 2,
  sentBytes: { transfers: 2 ** 24, points: 2 ** 14, sums: 2 ** 16 },
  wireBytes: 2 ** 23,
  points: { closed: 10, open: 2 },
  to: "backup.example:7450",
  transport: "clear",
  mode: "async",
  policy: "continue",
  isLogging: true,
  toCopyBytes: 0,
  copyBytesPerSecond: null,
  lag: { bytes: 12_288, seconds: 0.5, points: 1 },
  overflows: 1,
  heldWrites: 4,
};

const sampleStore: SnapshotStoreStatus = {
  store: "/srv/data.store",
  blockBytes: 16384,
  sizeBytes: 2 ** 30,
  usedBytes: 2 ** 24,
  fillingBytesPerSecond: 2 ** 20,
  fullInSeconds: 1008,
  warnings: 1,
  whenFull: "invalidate",
  counts: {
    held: 1100,
    holding: 2,
    moved: 1024,
    readBytes: 2 ** 24,
    writtenBytes: 2 ** 24 + 2 ** 18,
    relocated: 5,
    lost: 0,
    givenUp: 1,
    usedSlots: 1024,
    freeSlots: 64_512,
  },
};

export const sampleBulk: BulkStatus = {
  state: "copying",
  begun: "2026-01-02T03:04:05.000Z",
  sizeBytes: 2 ** 30,
  ranges: [{ offset: 0, length: 2 ** 30 }],
  originalBytes: 3 * 2 ** 20,
  blockBytes: 16_384,
  stream: "0123456789abcdef0123456789abcdef",
};

const sampleSnapshot: SnapshotRow = {
  name: "monday",
  kind: "snapshot",
  created: "2026-01-02T03:04:05.678Z",
  sizeBytes: 2 ** 30,
  state: "valid",
  device: null,
};

export const sampleCopy: CopyRow = {
  name: "copy-1",
  state: "running",
  error: null,
  destinations: ["/backup/data.img"],
  created: "2026-03-01T12:00:00.000Z",
  volumeBytes: 2 ** 21,
  copiedBytes: 2 ** 20,
  segmentBytes: 2 ** 20,
  order: "linear",
  bytesPerSecond: null,
  rateBytesPerSecond: 2 ** 20,
  remainingSeconds: 1,
};

export function sampleStatus(changes: Partial<VolumeStatus> = {}): VolumeStatus {
  const queue = new QueueStatistics();
  for (let us = 1; us <= 100; us++) queue.count(Operation.WRITE, 4096, 0, us);
  queue.count(Operation.READ, 4096, -5, 1_000_000);
  return {
    name: "data",
    version: "1.2.3",
    config: "/etc/sluice/data.toml",
    state: "live",
    device: { id: 3, path: "/dev/ublkb3", link: "/dev/sluice/data" },
    sizeBytes: 2 ** 30,
    logicalBlockBytes: 512,
    readOnly: false,
    queues: 1,
    depth: 128,
    target: "file /srv/data.img",
    backing: ["regular file, locked", "direct I/O"],
    pid: 4711,
    since: "2026-01-02T03:04:05.678Z",
    recovered: true,
    memory: { residentBytes: 80 * 2 ** 20, buffersLocked: true, ioFlusher: true },
    statistics: summarise([queue]),
    record: sampleRecord,
    snapshots: sampleStore,
    copies: [sampleCopy],
    mirror: sampleMirror,
    pending: [],
    ...changes,
  };
}

/** Notes what it is asked to do, and does what it is told to. */
export class SampleVolume implements ControlledVolume {
  readonly calls: string[] = [];
  /** Thrown by whatever is called next. */
  error: Error | undefined;
  whenCalled: (call: string) => void = () => undefined;

  status(): VolumeStatus {
    this.#note("status");
    return sampleStatus();
  }

  recordMap(): RecordMap {
    this.#note("record");
    return { status: sampleRecord, cellBytes: 2 ** 20, cells: "..prow" };
  }

  readonly copies: ControlledCopies = {
    list: () => [sampleCopy],
    start: ({ name, destinations, ...how }) => {
      this.#note(`copy ${String(name)} to ${destinations.join(" ")} ${JSON.stringify(how)}`);
      return Promise.resolve({ ...sampleCopy, destinations });
    },
    prepare: ({ name, destinations }) => {
      this.#note(`prepare ${String(name)} to ${destinations.join(" ")}`);
      this.#prepared = sampleCopy;
      return Promise.resolve("ticket");
    },
    release: () => this.#copied("release", ""),
    pause: (name) => this.#copied("pause", name),
    resume: (name) => this.#copied("resume", name),
    limit: (name, bytesPerSecond) => this.#copied("limit", name, bytesPerSecond),
    prioritize: (name, offset, length) => {
      this.#note(`prioritize ${name} ${offset}+${length}`);
      return sampleCopy;
    },
    toCopy: (name) => ({ name, ranges: [{ offset: 2 ** 20, length: 2 ** 20 }], isCut: false }),
    cancel: async (name) => {
      await this.#copied("cancel", name);
    },
  };

  #copied(...what: unknown[]): Promise<CopyRow> {
    this.#note(what.join(" "));
    return Promise.resolve(sampleCopy);
  }

  readonly snapshots: ControlledSnapshots = {
    list: () => {
      this.#note("snapshots");
      return Promise.resolve({ store: sampleStore, snapshots: [sampleSnapshot] });
    },
    create: (name) => {
      this.#note(`create ${name}`);
      return Promise.resolve({ ...sampleSnapshot, name });
    },
    prepare: (name) => {
      this.#note(`prepare ${name}`);
      this.#prepared = sampleSnapshot;
      return Promise.resolve("ticket");
    },
    drop: (name) => {
      this.#note(`drop ${name}`);
      return Promise.resolve();
    },
    diff: (from, to) => {
      this.#note(`diff ${from} ${String(to)}`);
      const ranges = [{ offset: 4096, length: 8192 }];
      return Promise.resolve({ from, to: to ?? null, blockBytes: 4096, sizeBytes: 2 ** 30, ranges });
    },
    export: (name) => {
      this.#note(`export ${name}`);
      return Promise.resolve({ ...sampleSnapshot, name, device: "/dev/ublkb4" });
    },
    unexport: (name, force) => {
      this.#note(`unexport ${name} ${force}`);
      return Promise.resolve();
    },
  };

  readonly group: ControlledGroup = {
    hold: (ticket) => {
      this.#note(`hold ${ticket}`);
      return Promise.resolve();
    },
    take: (ticket, createdMs) => {
      this.createdMs = createdMs;
      this.#note(`take ${ticket}`);
      return Promise.resolve(this.#prepared);
    },
    finish: (ticket, keep) => {
      this.#note(`${keep ? "keep" : "undo"} ${ticket}`);
      return Promise.resolve();
    },
  };
  #prepared: SnapshotRow | CopyRow | TakenPointRow = sampleSnapshot;
  /** What the instant was called. */
  createdMs = 0;

  readonly bulk: ControlledBulk = {
    status: () => {
      this.#note("bulk");
      return Promise.resolve(this.bulkStatus);
    },
    begin: (ranges) => {
      this.#note(`bulk begin${(ranges ?? []).map(({ offset, length }) => ` ${offset}+${length}`).join("")}`);
      return Promise.resolve({ ...this.bulkStatus, ranges: ranges ?? this.bulkStatus.ranges });
    },
    mark: () => {
      this.#note("bulk mark");
      return Promise.resolve({ ...this.bulkStatus, state: "marked" });
    },
    endCow: () => {
      this.#note("bulk end-cow");
      return Promise.resolve({ ...this.bulkStatus, state: "marked" });
    },
    originals: (recordBytes, from) => {
      this.#note(`bulk originals ${recordBytes} ${from}`);
      return Promise.resolve(this.originals(recordBytes, from));
    },
    drop: (stream) => {
      this.#note(`bulk drop ${String(stream)}`);
      return Promise.resolve();
    },
  };
  bulkStatus = sampleBulk;

  readonly mirror: ControlledMirror = {
    status: () => {
      this.#note("mirror");
      return sampleMirror;
    },
    pause: () => {
      this.#note("mirror pause");
    },
    resume: () => {
      this.#note("mirror resume");
    },
    cutPoint: () => {
      this.#note("mirror cp");
      return Promise.resolve({ point: 13, createdMs: 1_767_323_047_000, isClosed: true });
    },
    verify: (isRepairing) => {
      this.#note(`mirror verify ${isRepairing}`);
      return Promise.resolve(this.verification());
    },
    prepare: () => {
      this.#note("prepare point");
      this.#prepared = { point: 14 };
      return Promise.resolve("ticket-p");
    },
    committedPoint: (point) => {
      this.#note(`committed ${point}`);
      return Promise.resolve({ point, createdMs: this.createdMs, isClosed: true });
    },
    limit: (bytesPerSecond) => {
      this.#note(`mirror limit ${String(bytesPerSecond)}`);
    },
    setMode: (mode) => {
      this.#note(`mirror mode ${mode}`);
    },
    setPolicy: (policy) => {
      this.#note(`mirror policy ${policy}`);
    },
  };

  /** What is told of a verification. */
  verification: () => AsyncIterable<VerificationStatus> = () => Readable.from([]) as AsyncIterable<VerificationStatus>;

  /** What is given for originals. */
  originals: (recordBytes: number, from: number) => AsyncIterable<Uint8Array> = () => Readable.from([]);

  async rollBack(snapshot: string): Promise<void> {
    this.#note(`roll back ${snapshot}`);
    return Promise.resolve();
  }

  async stop(force: boolean): Promise<void> {
    this.#note(`stop ${force}`);
    return Promise.resolve();
  }

  async resize(sizeBytes: number | undefined): Promise<number> {
    this.#note(`resize ${String(sizeBytes)}`);
    return Promise.resolve(sizeBytes ?? 1024);
  }

  #note(call: string): void {
    this.calls.push(call);
    this.whenCalled(call);
    if (this.error !== undefined) throw this.error;
  }
}
