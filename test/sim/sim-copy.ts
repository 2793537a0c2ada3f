/**
 * A copy of a simulated volume: the production job over a destination whose writes are lost with the power, and a journal.
 *
 * The oracle: when the job says that it is complete, the destination durably holds what the point showed, whatever died
 * meanwhile.
 */
import { CopyJob, type CopyState, type Ended } from "../../src/copy/copy-job.ts";
import { COPY_ORDERS } from "../../src/copy/segment-list.ts";
import type { ByteRange } from "../../src/targets/cow/byte-range.ts";
import type { CowTarget } from "../../src/targets/cow/cow-target.ts";
import type { Random } from "./random.ts";
import { readStamp, SECTOR_BYTES } from "./stamps.ts";

/** Read from the volume, but of no sector that it has: the wrong bytes. */
const FOREIGN = -2;

interface Pending {
  /** What it changes at the destination, or in the journal. */
  effect(): void;
  end(): void;
}

export interface CopyFaults {
  /** Of writes and syncs at the destination, and of the journal. */
  readonly failures: number;
}

export class SimCopy {
  readonly epoch: number;
  readonly #shows: Int32Array;
  readonly #sectors: number;
  readonly #unitBytes: number;
  readonly #random: Random;
  readonly #tell: (line: () => string) => void;
  /** Sequences of the stamps that the destination shows, and those that survive a power cut. */
  readonly #current: Int32Array;
  readonly #durable: Int32Array;
  #journal: Uint8Array | undefined;
  /** What the destination and the journal have been asked, and not answered. */
  readonly #pending: Pending[] = [];
  #job: CopyJob | undefined;
  #reading = 0;
  #isComplete = false;

  constructor(
    epoch: number,
    shows: Int32Array,
    sectorsPerBlock: number,
    random: Random,
    tell: (line: () => string) => void,
  ) {
    this.epoch = epoch;
    this.#shows = shows;
    this.#sectors = shows.length;
    this.#unitBytes = sectorsPerBlock * random.pick([1, 2]) * SECTOR_BYTES;
    this.#random = random;
    this.#tell = tell;
    this.#current = new Int32Array(this.#sectors);
    this.#durable = new Int32Array(this.#sectors);
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  get state(): CopyState | undefined {
    return this.#job?.state;
  }

  /** A read of the point is under way. */
  get isReading(): boolean {
    return this.#reading > 0;
  }

  /** A new process takes the job up where its journal says. */
  attach(engine: CowTarget, faults: CopyFaults): void {
    const plan = {
      volumeBytes: this.#sectors * SECTOR_BYTES,
      unitBytes: this.#unitBytes,
      segmentBytes: this.#unitBytes * this.#random.pick([1, 4, 8]),
      order: this.#random.pick(COPY_ORDERS),
      bytesPerSecond: null,
      copied: this.#journal,
    };
    const later = (what: string, effect: () => void, ended: Ended): void => {
      this.#pending.push({
        effect,
        end: () => {
          const isFailed = this.#random.chance(faults.failures);
          this.#tell(() => `  copy of ${this.epoch}: ${what}${isFailed ? " FAILED" : ""}`);
          // What failed may have been done.
          if (!isFailed || this.#random.chance(0.5)) effect();
          ended(isFailed ? new Error("it fails") : undefined);
        },
      });
    };
    const job = new CopyJob(plan, {
      source: {
        read: (ranges, into, ended) => this.#read(engine, ranges, into, ended),
        pass: (ranges) => {
          const { blockBytes } = engine;
          const runs = ranges.map(({ offset, length }) => ({
            first: offset / blockBytes,
            end: Math.ceil((offset + length) / blockBytes),
          }));
          engine.pass(this.epoch, runs);
        },
        heat: (found) => found(engine.readHeat()),
      },
      destinations: [
        {
          write: (offset, bytes, ended) => {
            later(`write ${offset}+${bytes.length}`, () => this.#write(offset, bytes), ended);
          },
          sync: (ended) => {
            const begun = this.#current.slice();
            later("sync", () => this.#durable.set(begun), ended);
          },
          finish: (ended) => later("end", () => undefined, ended),
        },
      ],
      journal: {
        save: (copied, ended) => {
          later("journal", () => (this.#journal = copied), ended);
        },
      },
      clock: { nowMs: () => 0, after: () => undefined },
    });
    job.whenComplete = () => this.#completed();
    this.#job = job;
    job.start();
  }

  #read(engine: CowTarget, ranges: readonly ByteRange[], shared: SharedArrayBuffer, ended: Ended): void {
    this.#reading++;
    engine.reader.readRanges(this.epoch, ranges, shared, (error) => {
      this.#reading--;
      ended(error < 0 ? new Error(`errno ${-error}`) : undefined);
    });
  }

  #write(offset: number, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      const sector = (offset + at) / SECTOR_BYTES;
      const found = readStamp(view, at);
      this.#current[sector] = found.sequence === 0 || found.sector === sector ? found.sequence : FOREIGN;
    }
  }

  #completed(): void {
    this.#isComplete = true;
    for (let sector = 0; sector < this.#sectors; sector++) {
      if (this.#durable[sector] === this.#shows[sector]) continue;
      throw new Error(
        `R4: the copy of point ${this.epoch} has write ${this.#durable[sector]} in sector ${sector}, wanted write ${this.#shows[sector]}`,
      );
    }
    this.#tell(() => `copy of ${this.epoch} is complete`);
  }

  cancel(): void {
    this.#job?.cancel();
  }

  /** Something that it waits for happens, or somebody gives it an order. */
  step(): void {
    const job = this.#job;
    if (job === undefined || this.#isComplete) return;
    if (job.state !== "running") {
      if (this.#random.chance(0.3)) job.resume();
    } else if (this.#random.chance(0.05)) {
      job.pause();
    }
    if (this.#random.chance(0.05)) {
      const offset = this.#random.below(this.#sectors) * SECTOR_BYTES;
      job.prioritize(offset, Math.min(4096, this.#sectors * SECTOR_BYTES - offset));
    }
    const { length } = this.#pending;
    if (length > 0) this.#pending.splice(this.#random.below(length), 1)[0]?.end();
  }

  /** The process is no more. What was being written may be there or not, and after a power cut what was not synced. */
  die(how: "power cut" | "kill"): void {
    this.#job = undefined;
    this.#reading = 0;
    for (const each of this.#pending.splice(0)) if (this.#random.chance(0.3)) each.effect();
    if (how === "kill") return;
    for (let sector = 0; sector < this.#sectors; sector++) {
      if (this.#random.chance(0.5)) this.#current[sector] = this.#durable[sector] as number;
      else this.#durable[sector] = this.#current[sector] as number;
    }
  }
}
