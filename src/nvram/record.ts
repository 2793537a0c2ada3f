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
import { COUNT, RecordCounts } from "./record-counts.ts";
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
  /** Members at most. */
  readonly limitChunks: number;
  /** Where all members are owed there may be more: a write never waits for the remote. Else it waits for room. */
  readonly growsWithOwed?: boolean | undefined;
  readonly store: RecordStore;
  /** Where to count; counts of its own unless given. */
  readonly counts?: RecordCounts | undefined;
  /** Who guesses; the streams and regions of stream-predictor.ts unless given, nobody for null. */
  readonly predictor?: ((places: Places) => Predictor) | null | undefined;
}

/** Of the record, this part may wait for a flush. */
const UNFLUSHED_SHARE = 4;
/** So many at most leave at once when the record is larger than its limit: a turn does not take long for it. */
const SHRINK_CHUNKS = 1024;
/** Epochs in which the record is renewed once. */
const EPOCHS_PER_TURNOVER = 8;

export class PredictiveRecord implements Proposals, Room {
  readonly places: Places;
  readonly limit: number;
  readonly counts: RecordCounts;
  readonly #store: RecordStore;
  readonly #predictor: Predictor | null;
  readonly #eviction: Eviction;
  readonly #growsWithOwed: boolean;
  /** Nothing could be taken out when so much had been settled: it is not looked for again before more is. */
  #fullAt = -1;
  /** Chunks of the update that is being put together or under way. */
  readonly #adding: Int32Array;
  #addingCount = 0;
  #underWay = false;
  #isRepairing = false;
  #addedInEpoch = 0;
  readonly #epochChunks: number;
  #onUpdated: (result: number) => void = () => undefined;
  readonly #done = (result: number): void => this.#updated(result);

  constructor(options: RecordOptions) {
    this.places = new Places(options);
    this.limit = Math.min(options.limitChunks, options.chunks);
    this.#store = options.store;
    this.counts = options.counts ?? new RecordCounts();
    this.#predictor =
      options.predictor === null
        ? null
        : (options.predictor?.(this.places) ?? new StreamPredictor(this.places, options.chunkBytes));
    this.#eviction = new Eviction(this.places);
    this.#growsWithOwed = options.growsWithOwed ?? false;
    this.#adding = new Int32Array(this.limit);
    this.#epochChunks = Math.max(1, Math.floor(this.limit / EPOCHS_PER_TURNOVER));
  }

  /** Chunks that may be added without taking others out. */
  get free(): number {
    return Math.max(0, this.limit - this.places.count);
  }

  /**
   * Whether the backing store should be flushed, for the sake of what is to leave the record (see Places.beginFlush): a
   * quarter of it is not durable, or something could not leave that was to. The latter is said once.
   */
  takeFlushWish(): boolean {
    const { lacksFlush } = this.#eviction;
    this.#eviction.lacksFlush = false;
    return lacksFlush || this.places.unflushed > this.limit / UNFLUSHED_SHARE;
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

  /**
   * Lines of the durable record were damaged, and read as members all through. Nothing is admitted before they are written
   * anew: a damaged line on persistent memory may become a whole one again, and say less, when it is written in part.
   */
  repair(): void {
    this.#isRepairing = true;
    this.#commit();
  }

  /** What was damaged is not durable yet, so nothing is admitted. */
  get isRepairing(): boolean {
    return this.#isRepairing;
  }

  /** Whether a write to chunks `first` to `last` may go on now. */
  admits(first: number, last: number): boolean {
    const { places } = this;
    if (this.#isRepairing) return false;
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
    if (this.#addingCount + missing > this.#adding.length) return false;
    // None of its own may go to make room for the others, or for what is predicted.
    places.pin(first, last);
    const hasRoom = this.#makeRoom(missing);
    if (hasRoom) {
      for (let chunk = first; chunk <= last; chunk++) if (!places.isMember(chunk)) this.#add(chunk, false);
      this.counts.add(COUNT.wanted, missing);
      this.#predictor?.missed(first, last, this, this);
    }
    places.unpin(first, last);
    return hasRoom;
  }

  /** Takes a prediction into the update that is being put together. */
  propose(chunk: number): boolean {
    if (this.places.isMember(chunk)) return true;
    if (this.#addingCount === this.#adding.length) return false;
    if (this.places.count >= this.limit && !this.#tryEvict()) return false;
    this.#add(chunk, true);
    this.counts.add(COUNT.predicted);
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
    while (this.places.count + missing > this.limit) {
      if (!this.#tryEvict()) return this.#growsWithOwed;
    }
    return true;
  }

  /** As `#evict`. To find that none may go takes a look at every member: with all owed, not for each write anew. */
  #tryEvict(): boolean {
    const { settled } = this.places;
    if (this.#growsWithOwed && this.#fullAt === settled) return false;
    if (this.#evict()) return true;
    this.#fullAt = settled;
    return false;
  }

  /** Takes the coldest chunk out; false when none may go. */
  #evict(): boolean {
    const chunk = this.#eviction.choose();
    if (chunk < 0) return false;
    const used = this.places.isUsed(chunk);
    const predicted = this.places.isPredicted(chunk);
    this.places.remove(chunk);
    this.#store.set(chunk, false);
    this.counts.add(COUNT.removed);
    if (predicted && !used) this.counts.add(COUNT.wasted);
    if (predicted) this.#predictor?.evicted(chunk, used);
    return true;
  }

  /**
   * Takes out all that is not owed, in an update of its own, before a clean end: nothing of it would have to be copied
   * afterwards.
   */
  retire(): void {
    if (this.#underWay) return;
    const { places } = this;
    for (let position = places.count - 1; position >= 0; position--) {
      const chunk = places.member(position);
      if (!places.isSpare(chunk) || !places.isDurable(chunk)) continue;
      places.remove(chunk);
      this.#store.set(chunk, false);
    }
    this.#commit();
  }

  /** Takes out what is more than the limit because it was owed, as far as it is so no more, in an update of its own. */
  shrink(): void {
    const { places } = this;
    if (!this.#growsWithOwed || places.count <= this.limit || this.#underWay) return;
    let left = SHRINK_CHUNKS;
    while (left > 0 && places.count > this.limit && this.#tryEvict()) left--;
    if (left < SHRINK_CHUNKS) this.#commit();
  }

  /** Starts an update with all that is wanted, unless one is under way or nothing is wanted. */
  update(): void {
    if (!this.#underWay && (this.#addingCount > 0 || this.#isRepairing)) this.#commit();
  }

  #commit(): void {
    this.#underWay = true;
    this.counts.add(COUNT.updates);
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
    if (result !== 0) this.counts.add(COUNT.failures);
    else this.#isRepairing = false;
    this.#onUpdated(result);
  }
}
