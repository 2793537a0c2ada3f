/**
 * What the remote is owed: each chunk of the record, either through the log or by copying it.
 *
 * Invariants. A chunk stays owed until the remote has committed a closed consistency point, one that reproduces a moment of
 * the source, with all that was written there before the point's cut. There is a closed point only when nothing is to be
 * copied: what was written while nothing was logged, or before this process, is in no log. What was copied counts as such when
 * the remote has it durably, and not before. What was to be copied before an outage is copied before what the outage has added;
 * of what is as old, the longest runs come first.
 */
import type { Drain } from "../../nvram/drain.ts";
import type { Places } from "../../nvram/places.ts";
import { LongestRuns, type ByteRun } from "./longest-runs.ts";

/** Of a chunk: nothing is to be copied, or it is on its way; from WANTED on it is to be copied, the older the smaller. */
const NOTHING = 0;
const TAKEN = 1;
const WANTED = 2;
/** Outages that are told apart; what the later ones have added counts as of the last one of these. */
const AGES = 254;

/** Chunks one behind the other. */
export type ChunkRun = ByteRun;

export class OwedChunks implements Drain {
  readonly #places: Places;
  readonly #copies: Uint8Array;
  /** Chunks that are to be copied, by what stands for them; all of them; and the runs that were taken. */
  readonly #wantedBy = new Float64Array(WANTED + AGES);
  #wanted = 0;
  #taken: ChunkRun[] = [];
  /** What stands for a chunk that is to be copied from now on. */
  #now = WANTED;
  readonly #longest: LongestRuns;
  /** Chunks that are retired when the closed point that was cut is committed. */
  readonly #settling: number[] = [];

  constructor(places: Places) {
    this.#places = places;
    this.#copies = new Uint8Array(places.chunks);
    this.#longest = new LongestRuns(this.#copies);
  }

  /** All that is in the record is to be copied: nobody knows what of it the remote has, nor since when. */
  begin(): void {
    this.copyAll();
  }

  /** Writes are told of when they begin (`unlogged`); one that ends changes nothing here. */
  written(): void {
    // Until a point with it is committed the chunk is owed, as every chunk of the record is.
  }

  /** A write begins that no log tells the remote of. */
  unlogged(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) this.#want(chunk, this.#now);
  }

  /** One that is to be copied already stays as old as it is. */
  #want(chunk: number, age: number): void {
    if ((this.#copies[chunk] as number) >= WANTED) return;
    this.#copies[chunk] = age;
    this.#count(age, 1);
  }

  #count(age: number, chunks: number): void {
    this.#wantedBy[age] = (this.#wantedBy[age] as number) + chunks;
    this.#wanted += chunks;
  }

  /** The log does not tell all any more: what is owed is to be copied, and what is to be copied already. */
  copyAll(): void {
    for (const run of [...this.#taken]) this.giveBack(run);
    this.#now = this.#wanted === 0 ? WANTED : Math.min(this.#now + 1, WANTED + AGES - 1);
    for (let position = 0; position < this.#places.count; position++) {
      this.#want(this.#places.member(position), this.#now);
    }
    this.#longest.clear();
  }

  /** The remote has nothing of the volume: all of it is to be copied, whatever the record holds. */
  copyVolume(): void {
    this.#taken = [];
    this.#longest.clear();
    this.#now = WANTED;
    this.#wantedBy.fill(0);
    this.#wanted = 0;
    this.#copies.fill(WANTED);
    this.#count(WANTED, this.#copies.length);
  }

  /** Chunks that are to be copied, and those on their way: 0 where a point can be closed. */
  get toCopy(): number {
    return this.#taken.reduce((sum, { count }) => sum + count, this.#wanted);
  }

  /** Whether one of the chunks from `first` to `last` is to be copied, or on its way. */
  isToCopy(first: number, last: number): boolean {
    for (let chunk = first; chunk <= last; chunk++) if (this.#copies[chunk] !== NOTHING) return true;
    return false;
  }

  /** Takes chunks that are to be copied next, at most so many, one behind the other; undefined where all are on their way. */
  take(most: number): ChunkRun | undefined {
    if (this.#wanted === 0) return undefined;
    const oldest = this.#wantedBy.findIndex((chunks) => chunks > 0);
    const run = this.#longest.take(oldest, most);
    if (run === undefined) return undefined;
    this.#copies.fill(TAKEN, run.first, run.first + run.count);
    this.#count(oldest, -run.count);
    this.#taken.push(run);
    return run;
  }

  /** The remote has durably what was taken. A run that `copyAll` has overtaken is none any more. */
  copied(run: ChunkRun): void {
    this.#end(run, (chunk) => {
      this.#copies[chunk] = NOTHING;
    });
  }

  /** What was taken could not be copied, and is wanted again: it was the oldest, and is so still. */
  giveBack(run: ChunkRun): void {
    this.#end(run, (chunk) => {
      this.#want(chunk, WANTED);
    });
  }

  /** Those of its chunks that were not written meanwhile. */
  #end(run: ChunkRun, action: (chunk: number) => void): void {
    const at = this.#taken.indexOf(run);
    if (at < 0) return;
    this.#taken.splice(at, 1);
    for (let chunk = run.first; chunk < run.first + run.count; chunk++) {
      if (this.#copies[chunk] === TAKEN) action(chunk);
    }
  }

  /** A closed point is cut now: chunks without a write under way are retired when it is committed, unless they are written before. */
  cutClosed(): void {
    const places = this.#places;
    for (let position = 0; position < places.count; position++) {
      const chunk = places.member(position);
      if (places.beginCopy(chunk)) this.#settling.push(chunk);
    }
  }

  /** The closed point that was cut has been committed by the remote, or never will be. */
  endClosed(isCommitted: boolean): void {
    for (const chunk of this.#settling.splice(0)) this.#places.endCopy(chunk, isCommitted);
  }
}
