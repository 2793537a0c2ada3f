/**
 * The copy jobs of a running volume: staged, begun, steered, and taken up again by the next daemon.
 *
 * Invariants. A job's record is there before its point is taken, and goes after the point has gone: a point without a record
 * is worth nothing, since nobody knows what its copy has passed, and is dropped. What the volume's own thread does for a
 * job is reading; a destination that is slow, or stands still, is waited for here.
 */
import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { randomBytes } from "node:crypto";
import { CopyJob, unitBytesFor, type CopySource, type Ended } from "../copy/copy-job.ts";
import type { CopyRecord, CopyRecords, RecordedDestination } from "../copy/copy-record.ts";
import { openDestination, type DestinationUse, type FileDestination } from "../copy/file-destination.ts";
import type { CopyOrder } from "../copy/segment-list.ts";
import { openStreamDestination, StreamDestination } from "../copy/stream-destination.ts";
import { STREAM_ID_BYTES } from "../copy/stream-format.ts";
import type { Point } from "../targets/cow/catalog.ts";
import type { CowOrder } from "../targets/cow/cow-orders.ts";
import type { CowView } from "../targets/volume.ts";
import type { Device } from "../ublk/device.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import type { CopyRemainder, CopyRow } from "./copy-status.ts";
import { askCow } from "./cow-order.ts";
import { log } from "./log.ts";
import { checkPointName } from "./point-name.ts";
import { formatSize } from "./sizes.ts";

/** Each may have one thread of the process wait for a destination that stands still. */
const RUNNING_MAX = 3;
const SEGMENT_BYTES_MIN = 64 * 1024;
const SEGMENT_BYTES_MAX = 16 * 2 ** 20;
/** Ranges that are told of at once. */
const RANGES_MAX = 10_000;

const HALT_RETRY_MS = 10;

/** What is asked for. */
export interface NewCopy {
  /** Undefined: one is made up. */
  readonly name: string | undefined;
  readonly destinations: readonly string[];
  /** A power of two from 64 KiB to 16 MiB. */
  readonly segmentBytes: number;
  readonly order: CopyOrder;
  readonly bytesPerSecond: number | null;
  /** Of the records of a stream; null for images. */
  readonly recordBytes: number | null;
  /** What is at a destination is overwritten. */
  readonly force: boolean;
  /** It only begins when it is released. */
  readonly staged: boolean;
}

type Destination = FileDestination | StreamDestination;

interface Live {
  readonly job: CopyJob;
  readonly destinations: readonly Destination[];
  /** Since it began in this process, or went on after a pause. */
  since: { readonly ms: number; readonly copiedBytes: number };
}

interface Entry {
  record: CopyRecord;
  live: Live | undefined;
}

export class Copies {
  readonly #volume: string;
  readonly #view: CowView;
  readonly #device: Device;
  readonly #records: CopyRecords;
  readonly #entries = new Map<string, Entry>();
  /** One thing at a time: names are checked before they are given. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(volume: string, view: CowView, device: Device, records: CopyRecords) {
    this.#volume = volume;
    this.#view = view;
    this.#device = device;
    this.#records = records;
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  #ask(order: CowOrder): ReturnType<typeof askCow> {
    return askCow(this.#volume, this.#device, order);
  }

  async #points(): Promise<readonly Point[]> {
    const answer = await this.#ask({ kind: "list" });
    return "points" in answer ? answer.points.filter(({ kind }) => kind === "copy") : [];
  }

  #find(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume} has no copy job "${name}"`);
    return entry;
  }

  #findLive(name: string): Entry & { live: Live } {
    const entry = this.#find(name);
    if (entry.live !== undefined) return entry as Entry & { live: Live };
    throw new UblkError("EINVALID", `Copy job "${name}" is ${entry.record.state}: it cannot be steered`);
  }

  list(): CopyRow[] {
    return [...this.#entries.values()].map((entry) => this.#row(entry));
  }

  #row({ record, live }: Entry): CopyRow {
    const { name, state, error, volumeBytes, segmentBytes, order } = record;
    const destinations = record.destinations.map(({ path }) => path);
    const copiedBytes =
      live?.job.copiedBytes ?? (record.state === "complete" ? record.volumeBytes : countBytes(record));
    const rate = live?.job.state === "running" ? rateOf(live, copiedBytes) : null;
    return {
      ...{ name, state, error, destinations, volumeBytes, segmentBytes, order },
      bytesPerSecond: live?.job.bytesPerSecond ?? record.bytesPerSecond,
      created: new Date(record.createdMs).toISOString(),
      copiedBytes,
      rateBytesPerSecond: rate,
      remainingSeconds: rate === null || rate === 0 ? null : Math.ceil((record.volumeBytes - copiedBytes) / rate),
    };
  }

  /**
   * Begins a copy of this moment, or stages one. Throws ENAME, EEXIST, EUSAGE, ELIMIT, and as openDestination.
   */
  start(wanted: NewCopy): Promise<CopyRow> {
    return this.#inTurn(async () => {
      const name = wanted.name ?? this.#freeName();
      checkPointName(name, "copy job");
      if (this.#entries.has(name)) {
        throw new UblkError("EEXIST", `Volume ${this.#volume} has a copy job "${name}" already`);
      }
      const record = await this.#newRecord(name, wanted);
      if (!wanted.staged) return this.#begin(record);
      await checkDestinations(record);
      await this.#records.save(record);
      this.#entries.set(name, { record, live: undefined });
      log("info", `Copy job ${name} is staged`);
      return this.#row(this.#find(name));
    });
  }

  #freeName(): string {
    let number = 1;
    while (this.#entries.has(`copy-${number}`)) number++;
    return `copy-${number}`;
  }

  async #newRecord(
    name: string,
    { destinations, order, bytesPerSecond, segmentBytes, recordBytes, force }: NewCopy,
  ): Promise<CopyRecord> {
    if (
      segmentBytes < SEGMENT_BYTES_MIN ||
      segmentBytes > SEGMENT_BYTES_MAX ||
      !Number.isInteger(Math.log2(segmentBytes))
    ) {
      throw new UblkError("EUSAGE", `A segment is a power of two from 64KiB to 16MiB, found ${segmentBytes} bytes`);
    }
    const own = (await stat(this.#device.path)).rdev;
    for (const path of destinations) {
      const found = await stat(path).catch(() => undefined);
      if (found?.isBlockDevice() === true && found.rdev === own) {
        throw new UblkError("EINVAL", `Destination ${path} is the volume itself`);
      }
    }
    const { sizeBytes } = this.#device.limits;
    const unitBytes = unitBytesFor(sizeBytes, this.#view.geometry.blockBytes);
    return {
      name,
      state: "staged",
      error: null,
      epoch: null,
      createdMs: Date.now(),
      volumeBytes: sizeBytes,
      unitBytes,
      segmentBytes: Math.max(segmentBytes, unitBytes),
      order,
      bytesPerSecond,
      destinations: destinations.map((path) => newDestination(path, recordBytes)),
      overwrites: force,
      copied: new Uint8Array(Math.ceil(Math.ceil(sizeBytes / unitBytes) / 8)),
    };
  }

  /** Begins the staged jobs, all of one moment, as one: the volume is read once. Throws ENOENT where there is none. */
  release(): Promise<CopyRow> {
    return this.#inTurn(async () => {
      const staged = [...this.#entries.values()].map(({ record }) => record).filter(({ state }) => state === "staged");
      const [first, ...others] = staged;
      if (first === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume} has no staged copy job`);
      const { sizeBytes } = this.#device.limits;
      if (first.volumeBytes !== sizeBytes) {
        throw new UblkError(
          "ESIZE",
          `Volume ${this.#volume} was resized since copy job "${first.name}" was staged: stage it anew`,
        );
      }
      const destinations = staged.flatMap((record) => record.destinations);
      const overwrites = staged.every((record) => record.overwrites);
      const row = await this.#begin({ ...first, createdMs: Date.now(), destinations, overwrites });
      for (const { name } of others) {
        this.#entries.delete(name);
        await this.#records.remove(name);
      }
      return row;
    });
  }

  async #begin(staged: CopyRecord): Promise<CopyRow> {
    this.#checkLimit();
    const use = staged.overwrites ? "replace" : "new";
    const destinations = await this.#openAll(staged, use);
    try {
      const { name, createdMs } = staged;
      const record = { ...staged, state: "running" } as const;
      await this.#records.save(record);
      const answer = await this.#ask({ kind: "take", point: "copy", name, createdMs });
      const point = "points" in answer ? answer.points[0] : undefined;
      if (point === undefined) throw new UblkError("ECOPY", "The copy's point was not taken");
      const entry: Entry = { record: { ...record, epoch: point.epoch }, live: undefined };
      this.#entries.set(name, entry);
      this.#run(entry, destinations);
      log("info", `Copy job ${name} has begun: ${formatSize(record.volumeBytes)} to ${pathsOf(record)}`);
      return this.#row(entry);
    } catch (error) {
      await closeAll(destinations);
      await this.#records.remove(staged.name);
      throw error;
    }
  }

  async #openAll(record: CopyRecord, use: DestinationUse): Promise<Destination[]> {
    const opened: Destination[] = [];
    try {
      for (const { path, stream } of record.destinations) {
        if (stream === null) opened.push(await openDestination(path, record.volumeBytes, use));
        else {
          const { volumeBytes, createdMs } = record;
          const id = Buffer.from(stream.id, "hex");
          const start = { stream: id, volume: this.#volume, volumeBytes, createdMs, content: "copy" } as const;
          opened.push(await openStreamDestination(path, use, start, stream.recordBytes, stream));
        }
      }
      return opened;
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  }

  #checkLimit(): void {
    const running = [...this.#entries.values()].filter(({ live }) => live !== undefined).length;
    if (running < RUNNING_MAX) return;
    throw new UblkError(
      "ELIMIT",
      `Volume ${this.#volume} has ${running} copy jobs under way: wait for one, or cancel it`,
    );
  }

  #run(entry: Entry, destinations: readonly Destination[]): void {
    const { name, epoch, volumeBytes, unitBytes, segmentBytes, order, bytesPerSecond, copied } = entry.record;
    const job = new CopyJob(
      { volumeBytes, unitBytes, segmentBytes, order, bytesPerSecond, copied },
      {
        source: this.#source(epoch as number),
        destinations,
        journal: {
          save: (copied, ended) => this.#save(entry, { copied, destinations: marked(entry, destinations) }, ended),
        },
        clock: { nowMs: () => performance.now(), after: (ms, then) => void setTimeout(then, ms) },
      },
    );
    entry.live = { job, destinations, since: { ms: performance.now(), copiedBytes: job.copiedBytes } };
    job.whenComplete = () => void this.#inTurn(() => this.#completed(entry));
    job.whenFailed = (error) => {
      log("warning", `Copy job ${name} has failed and waits: ${messageOf(error)}`);
      this.#save(entry, { state: "failed", error: messageOf(error) }, () => undefined);
    };
    if (entry.record.state === "paused") job.pause();
    job.start();
  }

  #source(epoch: number): CopySource {
    const { blockBytes } = this.#view.geometry;
    return {
      read: (offset, length, into, ended) => {
        this.#ask({ kind: "read", epoch, offset, length, shared: into }).then(() => ended(undefined), ended);
      },
      pass: (offset, length) => {
        const end = Math.ceil((offset + length) / blockBytes);
        // A queue that ends does not need to know.
        this.#ask({ kind: "pass", epoch, first: offset / blockBytes, end }).catch(() => undefined);
      },
      heat: (found) => {
        this.#ask({ kind: "heat" }).then(
          (answer) => "heat" in answer && found(answer.heat),
          () => undefined,
        );
      },
    };
  }

  #save(entry: Entry, change: Partial<CopyRecord>, ended: Ended): void {
    entry.record = { ...entry.record, ...change };
    this.#records.save(entry.record).then(() => ended(undefined), ended);
  }

  async #completed(entry: Entry): Promise<void> {
    const { name } = entry.record;
    try {
      await this.#dropPoint(entry);
      entry.record = { ...entry.record, state: "complete", epoch: null };
      await this.#records.save(entry.record);
      log("info", `Copy job ${name} is complete`);
    } catch (error) {
      // The next daemon finds the point, and that all is copied.
      log("warning", `Copy job ${name} is complete, but its point is kept: ${messageOf(error)}`);
    }
    await this.#close(entry);
  }

  async #dropPoint({ record }: Entry): Promise<void> {
    if (record.epoch !== null) await this.#ask({ kind: "drop", epoch: record.epoch });
  }

  async #close(entry: Entry): Promise<void> {
    const { live } = entry;
    entry.live = undefined;
    if (live !== undefined) await closeAll(live.destinations);
  }

  /** Throws ENOENT, EINVALID where it does not run. */
  async pause(name: string): Promise<CopyRow> {
    const entry = this.#findLive(name);
    entry.live.job.pause();
    await this.#note(entry, { state: "paused" });
    return this.#row(entry);
  }

  /** Goes on after a pause, or after a failure. */
  async resume(name: string): Promise<CopyRow> {
    const entry = this.#findLive(name);
    await this.#note(entry, { state: "running", error: null });
    entry.live.since = { ms: performance.now(), copiedBytes: entry.live.job.copiedBytes };
    entry.live.job.resume();
    return this.#row(entry);
  }

  /** Null for no limit. */
  async limit(name: string, bytesPerSecond: number | null): Promise<CopyRow> {
    const entry = this.#findLive(name);
    entry.live.job.limit(bytesPerSecond);
    await this.#note(entry, { bytesPerSecond });
    return this.#row(entry);
  }

  async #note(entry: Entry, change: Partial<CopyRecord>): Promise<void> {
    entry.record = { ...entry.record, ...change };
    await this.#records.save(entry.record);
  }

  /** What lies there is copied next. */
  prioritize(name: string, offset: number, length: number): CopyRow {
    const entry = this.#findLive(name);
    const { volumeBytes } = entry.record;
    if (length < 1 || offset < 0 || offset + length > volumeBytes) {
      throw new UblkError("ERANGE", `${offset}+${length} is no range of a volume of ${volumeBytes} bytes`);
    }
    entry.live.job.prioritize(offset, length);
    return this.#row(entry);
  }

  toCopy(name: string): CopyRemainder {
    const { record, live } = this.#find(name);
    const whole = record.state === "complete" ? [] : [{ offset: 0, length: record.volumeBytes }];
    const ranges = live?.job.toCopy(RANGES_MAX + 1) ?? whole;
    return { name, ranges: ranges.slice(0, RANGES_MAX), isCut: ranges.length > RANGES_MAX };
  }

  /** Stops a job, whose destinations are worth nothing then; forgets one that is staged or complete. */
  cancel(name: string): Promise<void> {
    return this.#inTurn(async () => {
      const entry = this.#find(name);
      entry.live?.job.cancel();
      await this.#dropPoint(entry);
      await this.#records.remove(name);
      this.#entries.delete(name);
      log("info", `Copy job ${name} is ${entry.record.state === "complete" ? "forgotten" : "cancelled"}`);
      // A destination that stands still keeps nobody waiting.
      void this.#close(entry);
    });
  }

  /** Takes up the jobs of the daemon before this one. */
  recover(): Promise<void> {
    return this.#inTurn(async () => {
      const { records, faults } = await this.#records.load();
      for (const { path, error } of faults) log("warning", `Copy job ${path}: ${error}`);
      const points = new Map((await this.#points()).map((point) => [point.name, point]));
      for (const record of records) {
        const point = points.get(record.name);
        points.delete(record.name);
        await this.#recoverOne({ record, live: undefined }, point);
      }
      for (const { name, epoch } of points.values()) {
        log("warning", `Copy job ${name} has no record: its point is dropped`);
        await this.#ask({ kind: "drop", epoch });
      }
    });
  }

  async #recoverOne(entry: Entry, point: Point | undefined): Promise<void> {
    const { name, state, epoch } = entry.record;
    this.#entries.set(name, entry);
    if (state === "staged" || state === "complete") return;
    if (point === undefined && isWhole(entry.record)) {
      await this.#note(entry, { state: "complete", epoch: null });
      return;
    }
    try {
      if (point === undefined || (epoch !== null && epoch !== point.epoch))
        throw new UblkError("ECOPY", "its point is gone");
      if (point.state !== "valid") throw new UblkError("ECOPY", `what it needs was given up (${point.state})`);
      const opened = await this.#openAll(entry.record, "resume");
      entry.record = { ...entry.record, epoch: point.epoch, state: state === "failed" ? "running" : state };
      this.#run(entry, opened);
      log("info", `Copy job ${name} goes on`);
    } catch (error) {
      log("warning", `Copy job ${name} cannot go on: ${messageOf(error)}`);
      await this.#note(entry, { state: "failed", error: messageOf(error) });
    }
  }

  /** Before the volume is stopped: no job asks it for anything any more. They go on with the next start, or when told so. */
  halt(): Promise<() => void> {
    return this.#inTurn(async () => {
      const halted = [...this.#entries.values()].flatMap(({ live }) =>
        live?.job.state === "running" ? [live.job] : [],
      );
      for (const job of halted) job.pause();
      while (halted.some((job) => job.isReading)) await sleep(HALT_RETRY_MS);
      return () => {
        for (const job of halted) job.resume();
      };
    });
  }
}

function rateOf({ since }: Live, copiedBytes: number): number {
  const seconds = (performance.now() - since.ms) / 1000;
  return seconds > 0 ? Math.round((copiedBytes - since.copiedBytes) / seconds) : 0;
}

function countBytes({ copied, unitBytes, volumeBytes }: CopyRecord): number {
  let units = 0;
  for (let bits of copied) for (; bits !== 0; bits &= bits - 1) units++;
  return Math.min(units * unitBytes, volumeBytes);
}

function isWhole(record: CopyRecord): boolean {
  return countBytes(record) === record.volumeBytes;
}

function pathsOf({ destinations }: CopyRecord): string {
  return destinations.map(({ path }) => path).join(", ");
}

function newDestination(path: string, recordBytes: number | null): RecordedDestination {
  const id = randomBytes(STREAM_ID_BYTES).toString("hex");
  return { path, stream: recordBytes === null ? null : { id, recordBytes, records: 0, payloadBytes: 0 } };
}

/** How far the streams are, beside what is copied. */
function marked({ record }: Entry, destinations: readonly Destination[]): RecordedDestination[] {
  return record.destinations.map((recorded, index) => {
    const destination = destinations[index];
    if (recorded.stream === null || !(destination instanceof StreamDestination)) return recorded;
    return { ...recorded, stream: { ...recorded.stream, ...destination.mark } };
  });
}

/** That they can be used when the job begins is seen when it is staged, as well as it can be. */
async function checkDestinations({ destinations, overwrites }: CopyRecord): Promise<void> {
  for (const { path } of destinations) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() === true && !overwrites) {
      throw new UblkError("EEXIST", `Destination ${path} exists already: name another, or overwrite it with --force`);
    }
  }
}

async function closeAll(destinations: readonly Destination[]): Promise<void> {
  for (const destination of destinations) await destination[Symbol.asyncDispose]();
}
