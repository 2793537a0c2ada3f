/**
 * The copy jobs of a running volume: staged, begun, steered, and taken up again by the next daemon.
 *
 * Invariants. A job's record is there before its point is taken, and goes after the point has gone: a point without a record
 * is worth nothing, since nobody knows what its copy has passed, and is dropped. What the volume's own thread does for a
 * job is reading; a destination that is slow, or stands still, is waited for here.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { CopyRecord, CopyRecords } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import type { Point } from "../targets/cow/catalog.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import type { CopiedVolume } from "./copied-volume.ts";
import { checkDestinations, pathsOf } from "./copy-destinations.ts";
import { CopyEntry } from "./copy-entry.ts";
import { isCopied, matchPoints, takeUp } from "./copy-recovery.ts";
import type { CopyRemainder, CopyRow } from "./copy-status.ts";
import { atRest, type FreezeHook } from "./freeze-hook.ts";
import type { GroupEntry } from "./group-part.ts";
import { log } from "./log.ts";
import { newRecord, type NewCopy } from "./new-copy.ts";
import { checkPointName } from "./point-name.ts";
import { forgetUnbegun, isUnbegun, PreparedCopy } from "./prepared-copy.ts";
import { formatSize } from "./sizes.ts";

/** Each may have one thread of the process wait for a destination that stands still. */
const RUNNING_MAX = 3;
/** Ranges that are told of at once. */
const RANGES_MAX = 10_000;

const HALT_RETRY_MS = 10;

export class Copies {
  readonly #volume: CopiedVolume;
  readonly #records: CopyRecords;
  readonly #freezeHook: FreezeHook | null;
  readonly #group: GroupEntry<CopyRow>;
  readonly #entries = new Map<string, CopyEntry>();
  /** One thing at a time: names are checked before they are given. */
  #last: Promise<unknown> = Promise.resolve();

  /** `group` is the volume's part in jobs of several volumes. */
  constructor(volume: CopiedVolume, records: CopyRecords, freezeHook: FreezeHook | null, group: GroupEntry<CopyRow>) {
    this.#volume = volume;
    this.#records = records;
    this.#freezeHook = freezeHook;
    this.#group = group;
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  #find(name: string): CopyEntry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume.name} has no copy job "${name}"`);
    return entry;
  }

  #add(record: CopyRecord): CopyEntry {
    const entry = new CopyEntry(this.#records, record);
    this.#entries.set(record.name, entry);
    return entry;
  }

  list(): CopyRow[] {
    return [...this.#entries.values()].map((entry) => entry.row());
  }

  /**
   * Begins a copy of this moment, or stages one. Throws ENAME, EEXIST, EUSAGE, ELIMIT, EINVAL, EBUSY, as openToWrite, and
   * EFREEZE: then there is none, unless the program could not thaw.
   */
  start(wanted: NewCopy): Promise<CopyRow> {
    return this.#inTurn(async () => {
      this.#group.assertNone();
      const record = await this.#newRecord(wanted);
      if (!wanted.staged) return this.#beginNow(record);
      await checkDestinations(record);
      await this.#records.save(record);
      log("info", `Copy job ${record.name} is staged`);
      return this.#add(record).row();
    });
  }

  /**
   * The first step of a copy of several volumes (see GroupPart): its destinations are opened, and nothing is changed. Gives a ticket for
   * the others. Throws as `start`.
   */
  prepare(wanted: NewCopy): Promise<string> {
    return this.#inTurn(async () => {
      if (wanted.staged) throw new UblkError("EUSAGE", "A copy of several volumes begins at once: it cannot be staged");
      const record = await this.#newRecord(wanted);
      let prepared: PreparedCopy;
      return this.#group.prepare({
        what: `Copy job "${record.name}"`,
        prepare: async () => {
          prepared = await this.#prepare(record);
          try {
            await this.#freezeHook?.freeze();
          } catch (error) {
            await prepared.undo();
            throw error;
          }
        },
        take: async (createdMs) => {
          await prepared.take(createdMs);
          return { ...prepared.entry.row(), created: new Date(createdMs).toISOString() };
        },
        goOn: async () => this.#freezeHook?.thaw(),
        keep: () => this.#begin(prepared),
        undo: () => prepared.undo(),
      });
    });
  }

  async #newRecord(wanted: NewCopy): Promise<CopyRecord> {
    const name = wanted.name ?? this.#freeName();
    checkPointName(name, "copy job");
    if (this.#entries.has(name)) {
      throw new UblkError("EEXIST", `Volume ${this.#volume.name} has a copy job "${name}" already`);
    }
    await this.#volume.refuseAsDestination(wanted.destinations);
    return newRecord(name, wanted, this.#volume);
  }

  #freeName(): string {
    let number = 1;
    while (this.#entries.has(`copy-${number}`)) number++;
    return `copy-${number}`;
  }

  /** Begins the staged jobs, all of one moment, as one: the volume is read once. Throws ENOENT where there is none. */
  release(): Promise<CopyRow> {
    return this.#inTurn(async () => {
      this.#group.assertNone();
      const staged = [...this.#entries.values()].map(({ record }) => record).filter(({ state }) => state === "staged");
      const [first, ...others] = staged;
      if (first === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume.name} has no staged copy job`);
      if (first.volumeBytes !== this.#volume.sizeBytes) {
        throw new UblkError(
          "ESIZE",
          `Volume ${this.#volume.name} was resized since copy job "${first.name}" was staged: stage it anew`,
        );
      }
      const destinations = staged.flatMap((record) => record.destinations);
      const overwrites = staged.every((record) => record.overwrites);
      try {
        return await this.#beginNow({ ...first, destinations, overwrites }, first);
      } finally {
        // Begun, it has taken over the others, also where applications could not be brought back.
        if (this.#find(first.name).running !== undefined) await this.#forgetAll(others);
      }
    });
  }

  async #forgetAll(records: readonly CopyRecord[]): Promise<void> {
    for (const { name } of records) {
      this.#entries.delete(name);
      await this.#records.remove(name);
    }
  }

  async #beginNow(record: CopyRecord, staged?: CopyRecord): Promise<CopyRow> {
    const prepared = await this.#prepare(record, staged);
    try {
      await atRest(this.#freezeHook, () => prepared.take(Date.now()));
    } catch (error) {
      if (prepared.isTaken) await this.#begin(prepared);
      else await prepared.undo();
      throw error;
    }
    await this.#begin(prepared);
    return prepared.entry.row();
  }

  #prepare(record: CopyRecord, staged?: CopyRecord): Promise<PreparedCopy> {
    this.#checkLimit();
    return PreparedCopy.prepare(this.#volume, this.#records, record, staged);
  }

  /** Where it cannot begin, it is undone. */
  async #begin(prepared: PreparedCopy): Promise<void> {
    const { entry, destinations } = prepared;
    try {
      await prepared.begin();
    } catch (error) {
      await prepared.undo();
      throw error;
    }
    const { record } = entry;
    this.#entries.set(record.name, entry);
    this.#run(entry, destinations);
    log("info", `Copy job ${record.name} has begun: ${formatSize(record.volumeBytes)} to ${pathsOf(record)}`);
  }

  #checkLimit(): void {
    const running = [...this.#entries.values()].filter((entry) => entry.running !== undefined).length;
    if (running < RUNNING_MAX) return;
    throw new UblkError(
      "ELIMIT",
      `Volume ${this.#volume.name} has ${running} copy jobs under way: wait for one, or cancel it`,
    );
  }

  #run(entry: CopyEntry, destinations: readonly Destination[]): void {
    const source = this.#volume.source(entry.record.epoch as number);
    entry.run(source, destinations, () => void this.#inTurn(() => this.#completed(entry)));
  }

  async #completed(entry: CopyEntry): Promise<void> {
    const { name } = entry.record;
    try {
      await this.#dropPoint(entry);
      await entry.note({ state: "complete", epoch: null });
      log("info", `Copy job ${name} is complete`);
    } catch (error) {
      // The next daemon finds the point, and that all is copied.
      log("warning", `Copy job ${name} is complete, but its point is kept: ${messageOf(error)}`);
    }
    await entry.close();
  }

  async #dropPoint({ record: { epoch } }: CopyEntry): Promise<void> {
    if (epoch !== null) await this.#volume.drop(epoch);
  }

  /** Throws ENOENT, EINVALID where it does not run. */
  async pause(name: string): Promise<CopyRow> {
    const entry = this.#find(name);
    entry.steered.job.pause();
    await entry.note({ state: "paused" });
    return entry.row();
  }

  /** Goes on after a pause, or after a failure. */
  async resume(name: string): Promise<CopyRow> {
    const entry = this.#find(name);
    const { steered } = entry;
    await entry.note({ state: "running", error: null });
    steered.resume();
    return entry.row();
  }

  /** Null for no limit. */
  async limit(name: string, bytesPerSecond: number | null): Promise<CopyRow> {
    const entry = this.#find(name);
    entry.steered.job.limit(bytesPerSecond);
    await entry.note({ bytesPerSecond });
    return entry.row();
  }

  /** What lies there is copied next. */
  prioritize(name: string, offset: number, length: number): CopyRow {
    const entry = this.#find(name);
    const { steered } = entry;
    const { volumeBytes } = entry.record;
    if (length < 1 || offset < 0 || offset + length > volumeBytes) {
      throw new UblkError("ERANGE", `${offset}+${length} is no range of a volume of ${volumeBytes} bytes`);
    }
    steered.job.prioritize(offset, length);
    return entry.row();
  }

  toCopy(name: string): CopyRemainder {
    const { record, running } = this.#find(name);
    const whole = record.state === "complete" ? [] : [{ offset: 0, length: record.volumeBytes }];
    const ranges = running?.job.toCopy(RANGES_MAX + 1) ?? whole;
    return { name, ranges: ranges.slice(0, RANGES_MAX), isCut: ranges.length > RANGES_MAX };
  }

  /** Stops a job, whose destinations are worth nothing then; forgets one that is staged or complete. */
  cancel(name: string): Promise<void> {
    return this.#inTurn(async () => {
      const entry = this.#find(name);
      entry.running?.job.cancel();
      await this.#dropPoint(entry);
      await entry.forget();
      this.#entries.delete(name);
      log("info", `Copy job ${name} is ${entry.record.state === "complete" ? "forgotten" : "cancelled"}`);
      // A destination that stands still keeps nobody waiting.
      void entry.close();
    });
  }

  /** Takes up the jobs of the daemon before this one. */
  recover(): Promise<void> {
    return this.#inTurn(async () => {
      const { records, faults } = await this.#records.load();
      for (const { path, error } of faults) log("warning", `Copy job ${path}: ${error}`);
      const { matched, strays } = matchPoints(records, await this.#volume.points());
      for (const { record, point } of matched) await this.#recoverOne(this.#add(record), point);
      for (const { name, epoch } of strays) {
        log("warning", `Copy job ${name} has no record: its point is dropped`);
        await this.#volume.drop(epoch);
      }
    });
  }

  async #recoverOne(entry: CopyEntry, point: Point | undefined): Promise<void> {
    const { record } = entry;
    if (record.state === "staged" || record.state === "complete") {
      // It was about to be released.
      if (point !== undefined) await this.#volume.drop(point.epoch);
      return;
    }
    if (isUnbegun(record)) {
      log("warning", `Copy job ${record.name} had not begun when the daemon before this one died: it is forgotten`);
      this.#entries.delete(record.name);
      await forgetUnbegun(this.#volume, entry, point);
      return;
    }
    if (point === undefined && isCopied(record)) {
      await entry.note({ state: "complete", epoch: null });
      return;
    }
    try {
      const { epoch, destinations } = await takeUp(this.#volume.name, record, point);
      await entry.note({ epoch, state: record.state === "failed" ? "running" : record.state });
      this.#run(entry, destinations);
      log("info", `Copy job ${record.name} goes on`);
    } catch (error) {
      log("warning", `Copy job ${record.name} cannot go on: ${messageOf(error)}`);
      await entry.note({ state: "failed", error: messageOf(error) });
    }
  }

  /** Before the volume is stopped: no job asks it for anything any more. They go on with the next start, or when told so. */
  halt(): Promise<() => void> {
    return this.#inTurn(async () => {
      const halted = [...this.#entries.values()].flatMap(({ running }) =>
        running?.job.state === "running" ? [running.job] : [],
      );
      for (const job of halted) job.pause();
      while (halted.some((job) => job.isReading)) await sleep(HALT_RETRY_MS);
      return () => {
        for (const job of halted) job.resume();
      };
    });
  }
}
