/**
 * What the remote is owed: each chunk of the record, either through the log or by copying it.
 *
 * Invariants. A chunk stays owed until the remote has committed a closed consistency point, one that reproduces a moment of
 * the source, with all that was written there before the point's cut. There is a closed point only when nothing is to be
 * copied: what was written while nothing was logged, or before this process, is in no log. What was copied counts as such when
 * the remote has it durably, and not before.
 */
import type { Drain } from "../../nvram/drain.ts";
import type { Places } from "../../nvram/places.ts";

/** Of a chunk: nothing is to be copied, it is to be, or it is on its way. */
const COPY = { NOTHING: 0, WANTED: 1, TAKEN: 2 } as const;

/** Chunks one behind the other. */
export interface ChunkRun {
  readonly first: number;
  readonly count: number;
}

export class OwedChunks implements Drain {
  readonly #places: Places;
  readonly #copies: Uint8Array;
  /** Chunks that are WANTED; and the runs that were taken. */
  #wanted = 0;
  #taken: ChunkRun[] = [];
  /** Where the next run is looked for: in turns, so that none waits for longer than a round. */
  #cursor = 0;
  /** Chunks that are retired when the closed point that was cut is committed. */
  readonly #settling: number[] = [];

  constructor(places: Places) {
    this.#places = places;
    this.#copies = new Uint8Array(places.chunks);
  }

  /** All that is in the record is to be copied: nobody knows what of it the remote has. */
  begin(): void {
    this.copyAll();
  }

  /** Writes are told of when they begin (`unlogged`); one that ends changes nothing here. */
  written(): void {
    // Until a point with it is committed the chunk is owed, as every chunk of the record is.
  }

  /** A write begins that no log tells the remote of. */
  unlogged(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) this.#want(chunk);
  }

  #want(chunk: number): void {
    if (this.#copies[chunk] !== COPY.WANTED) this.#wanted++;
    this.#copies[chunk] = COPY.WANTED;
  }

  /** The log does not tell all any more: what is owed is to be copied, and what is to be copied already. */
  copyAll(): void {
    for (const { first, count } of this.#taken) this.unlogged(first, first + count - 1);
    for (let position = 0; position < this.#places.count; position++) this.#want(this.#places.member(position));
    this.#taken = [];
    this.#cursor = 0;
  }

  /** The remote has nothing of the volume: all of it is to be copied, whatever the record holds. */
  copyVolume(): void {
    this.copyAll();
    this.#copies.fill(COPY.WANTED);
    this.#wanted = this.#copies.length;
  }

  /** Chunks that are to be copied, and those on their way: 0 where a point can be closed. */
  get toCopy(): number {
    return this.#taken.reduce((sum, { count }) => sum + count, this.#wanted);
  }

  /** Whether one of the chunks from `first` to `last` is to be copied, or on its way. */
  isToCopy(first: number, last: number): boolean {
    for (let chunk = first; chunk <= last; chunk++) if (this.#copies[chunk] !== COPY.NOTHING) return true;
    return false;
  }

  /** Takes chunks that are to be copied next, at most so many, one behind the other; undefined where all are on their way. */
  take(most: number): ChunkRun | undefined {
    if (this.#wanted === 0) return undefined;
    const copies = this.#copies;
    let first = copies.indexOf(COPY.WANTED, this.#cursor);
    if (first < 0) first = copies.indexOf(COPY.WANTED);
    let end = first;
    while (end < copies.length && end - first < most && copies[end] === COPY.WANTED) copies[end++] = COPY.TAKEN;
    const run = { first, count: end - first };
    this.#wanted -= run.count;
    this.#cursor = end;
    this.#taken.push(run);
    return run;
  }

  /** The remote has durably what was taken. A run that `copyAll` has overtaken is none any more. */
  copied(run: ChunkRun): void {
    this.#end(run, COPY.NOTHING);
  }

  /** What was taken could not be copied, and is wanted again. */
  giveBack(run: ChunkRun): void {
    this.#wanted += this.#end(run, COPY.WANTED);
  }

  /** Gives how many of its chunks are so now: those that were not written meanwhile. */
  #end(run: ChunkRun, state: number): number {
    const at = this.#taken.indexOf(run);
    if (at < 0) return 0;
    this.#taken.splice(at, 1);
    let changed = 0;
    for (let chunk = run.first; chunk < run.first + run.count; chunk++) {
      if (this.#copies[chunk] !== COPY.TAKEN) continue;
      this.#copies[chunk] = state;
      changed++;
    }
    return changed;
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
