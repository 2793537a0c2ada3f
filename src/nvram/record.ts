/**
 * The predictive record: which chunks of a volume may differ from the remote, and which are expected to be written soon.
 *
 * Invariants. R1: a write may go on only when all its chunks are durably in the record (`admits`). R2: what is durable
 * covers every chunk that is owed, being copied, or written to. R3: a write that is admitted touches volatile memory only.
 * One update is under way at a time, and carries every addition that was wanted since the one before, the predictions that
 * came with them, and the removals that make room for them. A chunk that is taken out counts as absent from the moment in
 * which the update is handed to the store, since nobody knows when it lands. At most `limitChunks` are members, except
 * that chunks which are owed are never dropped, however many there are.
 *
 * The record does not know where it is kept: see RecordStore.
 */
import { Eviction } from "./eviction.ts";
import { Places, type PlacesOptions } from "./places.ts";
import type { Predictor, Proposals, Room } from "./predictor.ts";
import { StreamPredictor } from "./stream-predictor.ts";

/** Where the record is kept for good. */
export interface RecordStore {
  /** The bit of a chunk, as the next commit will make it durable. Nothing is durable before that. */
  set(chunk: number, isMember: boolean): void;
  /**
   * One barrier for all that was set. `done` is called once: with 0 when all of it is durable, at once or later, or with
   * a negative errno when nobody knows how much of it is; all of that goes with the next commit again.
   */
  commit(done: (result: number) => void): void;
}

export interface RecordOptions extends PlacesOptions {
  readonly chunkBytes: number;
  /** Members at most, beside those that are owed. */
  readonly limitChunks: number;
  readonly store: RecordStore;
  /** Who guesses; the streams and regions of stream-predictor.ts unless given, nobody for null. */
  readonly predictor?: ((places: Places) => Predictor) | null | undefined;
}

/** Epochs in which the record is renewed once. */
const EPOCHS_PER_TURNOVER = 8;

export interface RecordCounts {
  /** Barriers. */
  updates: number;
  /** Chunks added because a write wanted them. */
  wanted: number;
  /** Chunks added because they were predicted. */
  predicted: number;
  removed: number;
  /** Predicted chunks that were taken out unwritten. */
  wasted: number;
  failures: number;
}

export class PredictiveRecord implements Proposals, Room {
  readonly places: Places;
  readonly limit: number;
  readonly counts: RecordCounts = { updates: 0, wanted: 0, predicted: 0, removed: 0, wasted: 0, failures: 0 };
  readonly #store: RecordStore;
  readonly #predictor: Predictor | null;
  readonly #eviction: Eviction;
  /** Chunks of the update that is being put together or under way. */
  readonly #adding: Int32Array;
  #addingCount = 0;
  #underWay = false;
  /** The chunks of the write that is being served. */
  #sparedFirst = -1;
  #sparedLast = -1;
  #addedInEpoch = 0;
  readonly #epochChunks: number;
  #onUpdated: (result: number) => void = () => undefined;
  readonly #done = (result: number): void => this.#updated(result);

  constructor(options: RecordOptions) {
    this.places = new Places(options);
    this.limit = Math.min(options.limitChunks, options.chunks);
    this.#store = options.store;
    this.#predictor =
      options.predictor === null
        ? null
        : (options.predictor?.(this.places) ?? new StreamPredictor(this.places, options.chunkBytes));
    this.#eviction = new Eviction(this.places, this.limit);
    this.#adding = new Int32Array(this.limit);
    this.#epochChunks = Math.max(1, Math.floor(this.limit / EPOCHS_PER_TURNOVER));
  }

  /** Chunks that may be added without taking others out. */
  get free(): number {
    return Math.max(0, this.limit - this.places.count);
  }

  /** An update is under way: its end is told to whoever called `whenUpdated`. */
  get isUpdating(): boolean {
    return this.#underWay;
  }

  /** Called with 0, or a negative errno, whenever an update has ended: wanted writes may be asked about again. */
  whenUpdated(callback: (result: number) => void): void {
    this.#onUpdated = callback;
  }

  /** What was durable when the process before this one ended. */
  restore(chunk: number): void {
    this.places.restore(chunk);
  }

  /** Whether a write to chunks `first` to `last` may go on now. */
  admits(first: number, last: number): boolean {
    const { places } = this;
    for (let chunk = first; chunk <= last; chunk++) if (!places.isRecorded(chunk)) return false;
    return true;
  }

  /**
   * Wants chunks `first` to `last` in the next update, with what is predicted from them. False while an update is under
   * way, and where there is no room for them: ask again after the next update, or when something has been copied.
   */
  want(first: number, last: number): boolean {
    const { places } = this;
    if (this.#underWay) return false;
    let missing = 0;
    for (let chunk = first; chunk <= last; chunk++) if (!places.isMember(chunk)) missing++;
    if (missing === 0) return true;
    this.#sparedFirst = first;
    this.#sparedLast = last;
    if (this.#addingCount + missing > this.#adding.length || !this.#makeRoom(missing)) return false;
    for (let chunk = first; chunk <= last; chunk++) if (!places.isMember(chunk)) this.#add(chunk, false);
    this.counts.wanted += missing;
    this.#predictor?.missed(first, last, this, this);
    return true;
  }

  /** Takes a prediction into the update that is being put together. */
  propose(chunk: number): boolean {
    if (this.places.isMember(chunk)) return true;
    if (this.#addingCount === this.#adding.length) return false;
    if (this.places.count >= this.limit && !this.#evict()) return false;
    this.#add(chunk, true);
    this.counts.predicted++;
    return true;
  }

  #add(chunk: number, predicted: boolean): void {
    this.places.add(chunk, predicted);
    this.#store.set(chunk, true);
    this.#adding[this.#addingCount++] = chunk;
    if (++this.#addedInEpoch >= this.#epochChunks) {
      this.#addedInEpoch = 0;
      this.places.nextEpoch();
    }
  }

  #makeRoom(missing: number): boolean {
    while (this.places.count + missing > this.limit) if (!this.#evict()) return false;
    return true;
  }

  /** Takes the coldest chunk out, but none of those that the write being served needs: it would never be admitted. */
  #evict(): boolean {
    const chunk = this.#eviction.choose(this.#sparedFirst, this.#sparedLast);
    if (chunk < 0) return false;
    const used = this.places.isUsed(chunk);
    const predicted = this.places.isPredicted(chunk);
    this.places.remove(chunk);
    this.#store.set(chunk, false);
    this.counts.removed++;
    if (predicted && !used) this.counts.wasted++;
    if (predicted) this.#predictor?.evicted(chunk, used);
    return true;
  }

  /** Starts an update with all that is wanted, unless one is under way or nothing is wanted. */
  update(): void {
    if (this.#underWay || this.#addingCount === 0) return;
    this.#underWay = true;
    this.counts.updates++;
    this.#store.commit(this.#done);
  }

  #updated(result: number): void {
    for (let index = 0; index < this.#addingCount; index++) {
      const chunk = this.#adding[index] as number;
      if (result === 0) this.places.settle(chunk);
      else {
        this.places.remove(chunk);
        this.#store.set(chunk, false);
      }
    }
    this.#addingCount = 0;
    this.#underWay = false;
    if (result !== 0) this.counts.failures++;
    this.#onUpdated(result);
  }
}
