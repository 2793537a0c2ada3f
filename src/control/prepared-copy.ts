/**
 * A copy job that is about to begin: its destinations are open, and its record is there.
 *
 * Invariant: it has begun when its record tells of its point. Whatever ends before that leaves nothing: here it is undone, and what a
 * daemon that died has left is undone by the next (`forgetUnbegun`).
 */
import { rm } from "node:fs/promises";
import type { CopyRecord, CopyRecords } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import { statIfThere } from "../copy/open-copy.ts";
import type { Point } from "../targets/cow/catalog.ts";
import type { CopiedVolume } from "./copied-volume.ts";
import { openNew, takeBackAll } from "./copy-destinations.ts";
import { CopyEntry } from "./copy-entry.ts";

export class PreparedCopy {
  readonly entry: CopyEntry;
  readonly #volume: CopiedVolume;
  /** What it is again where it does not begin. */
  readonly #staged: CopyRecord | undefined;
  readonly destinations: readonly Destination[];
  #point: Point | undefined;

  private constructor(
    volume: CopiedVolume,
    entry: CopyEntry,
    destinations: readonly Destination[],
    staged: CopyRecord | undefined,
  ) {
    this.#volume = volume;
    this.entry = entry;
    this.destinations = destinations;
    this.#staged = staged;
  }

  /** A job that had been `staged` has its record already. Throws as openNew: then there is nothing to be undone. */
  static async prepare(
    volume: CopiedVolume,
    records: CopyRecords,
    record: CopyRecord,
    staged?: CopyRecord,
  ): Promise<PreparedCopy> {
    const destinations = await openNew(volume.name, record);
    const entry = new CopyEntry(records, record);
    const prepared = new PreparedCopy(volume, entry, destinations, staged);
    try {
      if (staged === undefined) await entry.note({ state: "running" });
    } catch (error) {
      await prepared.undo();
      throw error;
    }
    return prepared;
  }

  /** Takes its point, of the moment when this is called. Throws ECOPY, ESNAPSHOT. */
  async take(createdMs: number): Promise<void> {
    this.#point = await this.#volume.take(this.entry.record.name, createdMs);
  }

  get isTaken(): boolean {
    return this.#point !== undefined;
  }

  /** It has begun when this resolves. */
  async begin(): Promise<void> {
    const { epoch, createdMs } = this.#point as Point;
    await this.entry.note({ state: "running", epoch, createdMs });
    for (const destination of this.destinations) await destination.begin(createdMs);
  }

  /** It does not begin. */
  async undo(): Promise<void> {
    await takeBackAll(this.destinations);
    if (this.#point !== undefined) await this.#volume.drop(this.#point.epoch);
    if (this.#staged === undefined) await this.entry.forget();
    else await this.entry.note(this.#staged);
  }
}

/** Whether a daemon that died had prepared it, and not begun. */
export function isUnbegun({ state, epoch }: CopyRecord): boolean {
  return state === "running" && epoch === null;
}

/** Undoes what a daemon that died had prepared. */
export async function forgetUnbegun(volume: CopiedVolume, entry: CopyEntry, point: Point | undefined): Promise<void> {
  const { destinations, overwrites } = entry.record;
  // What is there of a job that overwrites nothing was made for it, and has been empty ever since.
  for (const { path } of overwrites ? [] : destinations) {
    // One that cannot be looked at, or taken away, must not keep the volume from being served.
    const found = await statIfThere(path).catch(() => undefined);
    if (found?.isFile() === true && found.size === 0) await rm(path).catch(() => undefined);
  }
  if (point !== undefined) await volume.drop(point.epoch);
  await entry.forget();
}
