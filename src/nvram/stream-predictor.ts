/**
 * Predicts from streams and from neighbours.
 *
 * - Streams, several at once: forward, backward and strided. Each has a window that doubles when what was predicted was
 *   all written, and halves when some of it was thrown away. One miss tops up every stream that has moved on: the update
 *   is paid for anyway.
 * - Regions: around a miss that belongs to no stream, the aligned region that it lies in; large while the record has room,
 *   and as large as it has proved worth when it is full. Chunks that were written in the past come back with them.
 *
 * Ideas taken from the literature of prefetching: sequentiality detected from what the cache holds, and several streams in
 * one small table replaced by age (Gill and Bathen, AMP; Gill and Modha, SARC); windows that double on success (Linux
 * readahead); strides from equal distances in the recent history (Baer and Chen's reference prediction table);
 * throttling by measured waste (Srinath et al., feedback-directed prefetching); regions as spatial streams (Somogyi et
 * al.). What differs here: a prefetch costs no input or output, only room in the record, and a miss costs a barrier
 * however much it adds; so predictions are made at misses only, for all streams together.
 *
 * Invariants. Work at a miss is bounded by the table and by the windows; nothing happens at a hit. State is of a fixed
 * size.
 */
import type { Predictor, Proposals, Room, Seen } from "./predictor.ts";

const STREAMS = 32;
const RECENT_MISSES = 32;
/** The first window of a stream, in chunks. */
const FIRST_WINDOW = 4;
/** A stream that has not moved on for so many misses has ended. */
const STREAM_IDLE_MISSES = 256;
/** Chunks that a stream may leave out on its way and still be the same. */
const GAP = 4;
/** Streams together may fill this share of the record. */
const STREAMS_SHARE = 0.75;
const STRIDE_MAX = 4096;
/** The largest region, in bytes. */
const REGION_BYTES = 4 * 2 ** 20;
/** Of the room that is left, one region takes at most this share. */
const REGION_SHARE = 1 / 8;
/** Region chunks whose fate is known, after which their worth is judged again. */
const JUDGE_AFTER = 64;
const WORTH_GROWING = 0.25;
const WORTH_SHRINKING = 0.1;

export class StreamPredictor implements Predictor {
  readonly #seen: Seen;
  readonly #regionMax: number;
  /** Of each stream: the chunk that it has reached, the first chunk that is not predicted any more, and its step. */
  readonly #position = new Int32Array(STREAMS);
  readonly #end = new Int32Array(STREAMS);
  /** Signed; 0 for an unused place in the table. */
  readonly #stride = new Int32Array(STREAMS);
  readonly #window = new Int32Array(STREAMS);
  readonly #movedAt = new Float64Array(STREAMS);
  /** First chunks of the last misses that belong to no stream. */
  readonly #recent = new Int32Array(RECENT_MISSES).fill(-1);
  #misses = 0;
  #region: number;
  #regionUsed = 0;
  #regionWasted = 0;

  constructor(seen: Seen, chunkBytes: number) {
    this.#seen = seen;
    this.#regionMax = Math.max(1, REGION_BYTES / chunkBytes);
    this.#region = this.#regionMax;
  }

  missed(first: number, last: number, room: Room, proposals: Proposals): void {
    this.#misses++;
    this.#advance();
    const stream = this.#streamOf(first, last);
    if (stream < 0) this.#proposeRegion(first, last, room, proposals);
    this.#topUp(stream, room, proposals);
  }

  evicted(_chunk: number, used: boolean): void {
    if (used) this.#regionUsed++;
    else this.#regionWasted++;
    const judged = this.#regionUsed + this.#regionWasted;
    if (judged < JUDGE_AFTER) return;
    const worth = this.#regionUsed / judged;
    if (worth >= WORTH_GROWING) this.#region = Math.min(this.#region * 2, this.#regionMax);
    else if (worth < WORTH_SHRINKING) this.#region = Math.max(1, this.#region >> 1);
    this.#regionUsed = 0;
    this.#regionWasted = 0;
  }

  /** Moves every stream to where the writes have come, and lets go of what lies behind. */
  #advance(): void {
    const seen = this.#seen;
    for (let stream = 0; stream < STREAMS; stream++) {
      const stride = this.#stride[stream] as number;
      if (stride === 0) continue;
      let position = this.#position[stream] as number;
      const end = this.#end[stream] as number;
      const start = position;
      for (let ahead = position + stride, gap = 0; ahead !== end && gap <= GAP; ahead += stride) {
        if (seen.isUsed(ahead)) {
          for (; position !== ahead; position += stride) seen.pass(position);
          gap = 0;
        } else gap++;
      }
      if (position !== start) {
        this.#position[stream] = position;
        this.#movedAt[stream] = this.#misses;
      } else if (this.#misses - (this.#movedAt[stream] as number) > STREAM_IDLE_MISSES) this.#stride[stream] = 0;
    }
  }

  /** The stream that the miss goes on with, or that it makes known; -1 for none. The stream then ends behind the miss. */
  #streamOf(first: number, last: number): number {
    const known = this.#continued(first, last);
    if (known >= 0) return known;
    const length = last - first + 1;
    const seen = this.#seen;
    if (first > 0 && seen.isUsed(first - 1)) return this.#begin(last, 1, length);
    if (last + 1 < seen.chunks && seen.isUsed(last + 1)) return this.#begin(first, -1, length);
    const stride = this.#strideTo(first);
    if (stride !== 0) return this.#begin(first, stride, 1);
    if (length > 1) return this.#begin(last, 1, length);
    this.#recent[this.#misses % RECENT_MISSES] = first;
    return -1;
  }

  #continued(first: number, last: number): number {
    for (let stream = 0; stream < STREAMS; stream++) {
      const stride = this.#stride[stream] as number;
      if (stride === 0) continue;
      const end = this.#end[stream] as number;
      const ahead = stride > 0 ? first - end : end - last;
      const reach = stride === 1 || stride === -1 ? GAP + (this.#window[stream] as number) : 0;
      if (ahead < 0 || ahead > reach || (ahead !== 0 && reach === 0)) continue;
      // What was predicted has been written: a larger window next time. Where it was jumped over: a smaller one.
      const window = this.#window[stream] as number;
      const remaining = (end - stride - (this.#position[stream] as number)) / stride;
      this.#window[stream] = remaining <= GAP ? window * 2 : Math.max(FIRST_WINDOW, window >> 1);
      this.#moveTo(stream, stride > 0 ? last : first);
      return stream;
    }
    return -1;
  }

  #moveTo(stream: number, chunk: number): void {
    this.#position[stream] = chunk;
    this.#end[stream] = chunk + (this.#stride[stream] as number);
    this.#movedAt[stream] = this.#misses;
  }

  #begin(chunk: number, stride: number, length: number): number {
    let oldest = 0;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#stride[stream] === 0) {
        oldest = stream;
        break;
      }
      if ((this.#movedAt[stream] as number) < (this.#movedAt[oldest] as number)) oldest = stream;
    }
    this.#stride[oldest] = stride;
    this.#window[oldest] = Math.max(FIRST_WINDOW, 2 * length);
    this.#moveTo(oldest, chunk);
    return oldest;
  }

  /** Three chunks at equal distances, with nothing between them, make a stride; 0 for none. */
  #strideTo(chunk: number): number {
    const { chunks } = this.#seen;
    const used = (at: number): boolean => at >= 0 && at < chunks && this.#seen.isUsed(at);
    for (let age = 1; age <= RECENT_MISSES; age++) {
      const recent = this.#recent[(this.#misses - age + RECENT_MISSES) % RECENT_MISSES] as number;
      const stride = chunk - recent;
      if (recent < 0 || stride === 0 || stride > STRIDE_MAX || stride < -STRIDE_MAX) continue;
      if (used(recent) && used(recent - stride) && !used(recent - (stride >> 1)) && !used(recent + 1)) return stride;
    }
    return 0;
  }

  /** Fills the windows: of the stream that missed, then of all that have used up half of theirs. */
  #topUp(missed: number, room: Room, proposals: Proposals): void {
    let active = 0;
    for (let stream = 0; stream < STREAMS; stream++) if (this.#stride[stream] !== 0) active++;
    if (active === 0) return;
    const most = Math.max(FIRST_WINDOW, Math.floor((room.limit * STREAMS_SHARE) / active));
    if (missed >= 0 && !this.#fill(missed, most, proposals)) return;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (stream === missed || this.#stride[stream] === 0) continue;
      if (this.#movedAt[stream] === this.#misses && !this.#fill(stream, most, proposals)) return;
    }
  }

  /** False when there is no room for more. */
  #fill(stream: number, most: number, proposals: Proposals): boolean {
    const { chunks } = this.#seen;
    const stride = this.#stride[stream] as number;
    const window = Math.min(this.#window[stream] as number, most);
    this.#window[stream] = window;
    const position = this.#position[stream] as number;
    const end = this.#end[stream] as number;
    for (let ahead = position + stride; ahead !== end; ahead += stride) this.#seen.refresh(ahead);
    const wanted = position + (window + 1) * stride;
    let chunk = end;
    for (; stride > 0 ? chunk < wanted && chunk < chunks : chunk > wanted && chunk >= 0; chunk += stride) {
      if (!proposals.propose(chunk)) {
        this.#end[stream] = chunk;
        return false;
      }
    }
    this.#end[stream] = chunk;
    return true;
  }

  #proposeRegion(first: number, last: number, room: Room, proposals: Proposals): void {
    const affordable = Math.floor(room.free * REGION_SHARE);
    const largest = affordable >= 2 ? Math.min(this.#regionMax, affordable) : this.#region;
    const size = 2 ** Math.floor(Math.log2(Math.max(1, largest)));
    if (size === 1) return;
    const start = first - (first % size);
    const end = Math.min(last - (last % size) + size, this.#seen.chunks);
    for (let chunk = start; chunk < end; chunk++) if (!proposals.propose(chunk)) return;
  }
}
