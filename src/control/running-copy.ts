/** A copy job while it is under way in this process: its machine, what it writes to, and how fast it is. */
import { CopyJob, type CopySource } from "../copy/copy-job.ts";
import type { CopyRecord } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import { closeAll, withMarks } from "./copy-destinations.ts";

export interface RunningParts {
  readonly source: CopySource;
  readonly destinations: readonly Destination[];
  /** Changes the record, durably. */
  readonly note: (change: Partial<CopyRecord>) => Promise<void>;
  /** All of it is durable. */
  readonly whenComplete: () => void;
  /** It may go on when the reason is mended. */
  readonly whenFailed: (error: Error) => void;
}

export class RunningCopy {
  readonly job: CopyJob;
  readonly #destinations: readonly Destination[];
  /** Since it began in this process, or went on after a pause. */
  #since: { readonly ms: number; readonly copiedBytes: number };

  /** Goes on from what the record says; reads nothing until it is resumed where the record says that it is paused. */
  constructor(record: CopyRecord, { source, destinations, note, whenComplete, whenFailed }: RunningParts) {
    this.#destinations = destinations;
    this.job = new CopyJob(record, {
      source,
      destinations,
      journal: {
        save: (copied, ended) => {
          note({ copied, destinations: withMarks(record, destinations) }).then(() => ended(undefined), ended);
        },
      },
      clock: { nowMs: () => performance.now(), after: (ms, then) => void setTimeout(then, ms) },
    });
    this.job.whenComplete = whenComplete;
    this.job.whenFailed = whenFailed;
    this.#since = this.#now();
    if (record.state === "paused") this.job.pause();
    this.job.start();
  }

  #now(): { ms: number; copiedBytes: number } {
    return { ms: performance.now(), copiedBytes: this.job.copiedBytes };
  }

  /** In bytes a second; null while nothing is copied. */
  get rate(): number | null {
    if (this.job.state !== "running") return null;
    const { ms, copiedBytes } = this.#now();
    const seconds = (ms - this.#since.ms) / 1000;
    return seconds > 0 ? Math.round((copiedBytes - this.#since.copiedBytes) / seconds) : 0;
  }

  resume(): void {
    this.#since = this.#now();
    this.job.resume();
  }

  async close(): Promise<void> {
    await closeAll(this.#destinations);
  }
}
