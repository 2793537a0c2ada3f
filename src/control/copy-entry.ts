/**
 * A copy job that a volume has: its record, and while it is under way what carries it out.
 *
 * Invariant: what is told of a job is what its record says, or will say if nobody dies.
 */
import type { CopySource } from "../copy/copy-job.ts";
import { copiedBytesOf, type CopyRecord, type CopyRecords } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import type { CopyRow } from "./copy-status.ts";
import { log } from "./log.ts";
import { RunningCopy } from "./running-copy.ts";

export class CopyEntry {
  readonly #records: CopyRecords;
  #record: CopyRecord;
  #running: RunningCopy | undefined;

  constructor(records: CopyRecords, record: CopyRecord) {
    this.#records = records;
    this.#record = record;
  }

  get record(): CopyRecord {
    return this.#record;
  }

  /** Undefined where it has not begun, is complete, or cannot go on. */
  get running(): RunningCopy | undefined {
    return this.#running;
  }

  /** Throws EINVALID where it is not under way. */
  get steered(): RunningCopy {
    if (this.#running !== undefined) return this.#running;
    const { name, state } = this.#record;
    throw new UblkError("EINVALID", `Copy job "${name}" is ${state}: it cannot be steered`);
  }

  row(): CopyRow {
    const { name, state, error, volumeBytes, segmentBytes, order } = this.#record;
    const job = this.#running?.job;
    const copiedBytes = job?.copiedBytes ?? (state === "complete" ? volumeBytes : copiedBytesOf(this.#record));
    const rate = this.#running?.rate ?? null;
    return {
      ...{ name, state, error, volumeBytes, segmentBytes, order },
      destinations: this.#record.destinations.map(({ path }) => path),
      bytesPerSecond: job === undefined ? this.#record.bytesPerSecond : job.bytesPerSecond,
      created: new Date(this.#record.createdMs).toISOString(),
      copiedBytes,
      rateBytesPerSecond: rate,
      remainingSeconds: rate === null || rate === 0 ? null : Math.ceil((volumeBytes - copiedBytes) / rate),
    };
  }

  /** Durable when it resolves. */
  async note(change: Partial<CopyRecord>): Promise<void> {
    this.#record = { ...this.#record, ...change };
    await this.#records.save(this.#record);
  }

  async forget(): Promise<void> {
    await this.#records.remove(this.#record.name);
  }

  /** Carries it out, or on. */
  run(source: CopySource, destinations: readonly Destination[], whenComplete: () => void): void {
    this.#running = new RunningCopy(this.#record, {
      source,
      destinations,
      note: (change) => this.note(change),
      whenComplete,
      whenFailed: (error) => {
        log("warning", `Copy job ${this.#record.name} has failed and waits: ${messageOf(error)}`);
        // What cannot be noted is found again by the next daemon.
        this.note({ state: "failed", error: messageOf(error) }).catch(() => undefined);
      },
    });
  }

  /** It is not under way any more. */
  async close(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.close();
  }
}
