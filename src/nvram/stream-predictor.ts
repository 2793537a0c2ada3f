/**
 * Predicts from streams and from neighbours.
 *
 * - Streams, several at once: forward, backward, strided, and sweeps, which go one way and leave chunks out (a checkpoint in
 *   the order of places). A stream is expected to go on for as long as it has gone already: its window doubles from miss to
 *   miss, and no more is wasted at its end than it was worth before. A new one is expected to go as far as streams usually
 *   did. One miss tops up every stream that has moved on: the update is paid for anyway.
 * - Loops around a stride: where writes go on beside a strided stream, it is expected to be as long as the last time.
 * - Regions: around a miss that belongs to no stream, the aligned region that it lies in; large while the record has room,
 *   and when it is full, as large as it has proved worth: predictions are set against what they push out.
 *
 * Ideas taken from the literature of caching and prefetching: several streams in one small table replaced by age, and
 * prefetched room weighed against kept room (Gill and Modha, SARC; Gill and Bathen, AMP); windows that double on success
 * (Linux readahead); strides from equal distances (Baer and Chen's reference prediction table); prefetching in nested loops,
 * the length of the inner one known from its last round (Chen and Baer); throttling by measured usefulness (Srinath et al.,
 * feedback-directed prefetching); regions as spatial streams (Somogyi et al.). What differs here: a prefetch costs no input
 * or output, only room in the record, and a miss costs a barrier however much it adds; so predictions are made at misses
 * only, for all streams together, and are dense where a stream is sparse.
 *
 * Invariants. Work at a miss is bounded by the table, by the windows, and by the distance that is searched; nothing happens
 * at a hit. State is of a fixed size.
 */
import type { Predictor, Proposals, Room, Seen } from "./predictor.ts";

const STREAMS = 32;
/** Misses that belong to no stream, and are remembered to see a sweep. */
const RECENT_MISSES = 4;
/** The first window of a stream, in chunks. */
const FIRST_WINDOW = 4;
/** Streams over which it is learned how far one usually goes. */
const LEARNING = 16;
/** All windows together, in chunks. */
const WINDOWS_MAX = 8192;
/** A stream that has not moved on for so many misses does not share the room, or has ended. */
const STREAM_RESTING_MISSES = 8;
const STREAM_IDLE_MISSES = 256;
/** Chunks that a stream may leave out on its way and still be the same; more if it is known to. */
const GAP = 4;
/** How many times its largest gap a stream may leave out. */
const GAPS = 4;
/** Streams together may fill this share of the record: what they have passed stays a while, until the remote has it. */
const STREAMS_SHARE = 3 / 4;
/** Strides are looked for up to this distance, in chunks. */
const STRIDE_MAX = 1024;
/** Chunks at equal distances, before the one that is written, that make a stride. */
const STRIDE_PROOF = 3;
/** Two misses within this distance, in chunks, may be a sweep. */
const SWEEP_STEP = 128;
/** The largest region when the record is full, in bytes. */
const REGION_BYTES = 4 * 2 ** 20;
/** Of the room that is left, one region takes at most this share. */
const REGION_SHARE = 1 / 32;
/** Predictions whose fate is known, after which their worth is judged again. */
const JUDGE_AFTER = 128;
/** Regions grow when predictions are worth so many times their room. */
const WORTH_GROWING = 1.5;
/** One miss in so many tries a region of two when regions have proved worth nothing. */
const TRYING = 16;

export class StreamPredictor implements Predictor {
  readonly #seen: Seen;
  readonly #regionMax: number;
  /** Of each stream: its first chunk, the chunk that it has reached, the first one not predicted any more, and its step. */
  readonly #start = new Int32Array(STREAMS);
  readonly #position = new Int32Array(STREAMS);
  readonly #end = new Int32Array(STREAMS);
  /** Signed; 0 for an unused place in the table. */
  readonly #stride = new Int32Array(STREAMS);
  /** Steps from its start that it is expected to go, when it has not gone farther. */
  readonly #promise = new Int32Array(STREAMS);
  /** The largest gap of late. */
  readonly #gap = new Int32Array(STREAMS);
  /** Where it became known. */
  readonly #begunAt = new Int32Array(STREAMS);
  readonly #movedAt = new Float64Array(STREAMS);
  readonly #recent = new Int32Array(RECENT_MISSES).fill(-1);
  #recentCount = 0;
  #misses = 0;
  /** How far a stream goes: the average of the logarithms. */
  #usual = Math.log2(1 + FIRST_WINDOW);
  #region: number;
  /** Since the worth of predictions was judged: predictions taken out, those of them that were written, */
  #judged = 0;
  #used = 0;
  /** chunks that came in, and misses of chunks that had been in before. */
  #added = 0;
  #missedAgain = 0;

  constructor(seen: Seen, chunkBytes: number) {
    this.#seen = seen;
    this.#regionMax = Math.max(1, REGION_BYTES / chunkBytes);
    this.#region = this.#regionMax;
  }

  missed(first: number, last: number, room: Room, proposals: Proposals): void {
    this.#misses++;
    this.#added += last - first + 1;
    if (this.#seen.visits(last) > 0) this.#missedAgain++;
    this.#advance();
    const stream = this.#streamOf(first, last);
    if (stream < 0) this.#proposeRegion(first, last, room, proposals);
    this.#topUp(stream, room, proposals);
  }

  evicted(_chunk: number, used: boolean): void {
    if (used) this.#used++;
    if (++this.#judged === JUDGE_AFTER) this.#judge();
  }

  /**
   * A prediction takes the room of the coldest chunk. It is worth that if predictions are written more often than chunks
   * that were taken out are written again.
   */
  #judge(): void {
    const worth = this.#used / this.#judged;
    // As many are taken out as come in; what was predicted and not written is nobody's loss.
    const price = this.#missedAgain / Math.max(1, this.#added - (this.#judged - this.#used));
    if (worth > price * WORTH_GROWING) this.#region = Math.min(this.#region * 2, this.#regionMax);
    else if (worth < price) this.#region = Math.max(1, this.#region >> 1);
    this.#used = this.#judged = this.#missedAgain = this.#added = 0;
  }

  #isUsed(chunk: number): boolean {
    return chunk >= 0 && chunk < this.#seen.chunks && this.#seen.isUsed(chunk);
  }

  /** Moves every stream to where the writes have come, and lets go of what lies behind. */
  #advance(): void {
    const seen = this.#seen;
    for (let stream = 0; stream < STREAMS; stream++) {
      const stride = this.#stride[stream] as number;
      if (stride === 0) continue;
      const end = this.#end[stream] as number;
      const start = this.#position[stream] as number;
      const gaps = GAP + (this.#gap[stream] as number);
      const isProven = Math.abs(start - (this.#begunAt[stream] as number)) >= FIRST_WINDOW;
      let position = start;
      for (let ahead = position + stride, gap = 0; ahead !== end && gap <= gaps; ahead += stride) {
        if (seen.isUsed(ahead)) {
          for (; position !== ahead; position += stride) if (isProven) seen.pass(position);
          gap = 0;
        } else gap++;
      }
      if (position !== start) {
        this.#position[stream] = position;
        this.#movedAt[stream] = this.#misses;
      } else if (this.#misses - (this.#movedAt[stream] as number) > STREAM_IDLE_MISSES) this.#learn(stream);
    }
  }

  /** The stream that the miss goes on with, or that it makes known; -1 for none. The stream then ends behind the miss. */
  #streamOf(first: number, last: number): number {
    const known = this.#continued(first, last);
    if (known >= 0) return known;
    const looped = this.#looped(first);
    if (looped >= 0) return looped;
    const stride = this.#strideTo(first);
    if (stride !== 0) return this.#begin(first, stride, this.#startOf(first, stride));
    if (this.#isUsed(first - 1)) return this.#begin(last, 1, first);
    if (this.#isUsed(last + 1)) return this.#begin(first, -1, last);
    const swept = this.#swept(first, last);
    if (swept >= 0) return swept;
    if (last > first) return this.#begin(last, 1, first);
    this.#recent[this.#recentCount++ % RECENT_MISSES] = first;
    return -1;
  }

  #continued(first: number, last: number): number {
    for (let stream = 0; stream < STREAMS; stream++) {
      const stride = this.#stride[stream] as number;
      if (stride === 0) continue;
      const position = this.#position[stream] as number;
      const end = this.#end[stream] as number;
      // The write may begin in a chunk that was reached before. What was predicted may have been taken out before it was
      // written: then the miss lies before the end.
      const step = stride > 0 ? last - position : position - first;
      if (step <= 0 || step % stride !== 0) continue;
      const ahead = stride > 0 ? first - end : end - last;
      if (ahead > 0 && ahead > this.#reach(stream)) continue;
      if (ahead > 0) this.#gap[stream] = Math.max(ahead, ((this.#gap[stream] as number) * 7) >> 3);
      this.#moveTo(stream, stride > 0 ? last : first);
      return stream;
    }
    return -1;
  }

  /** How far behind what was predicted a stream may go on. */
  #reach(stream: number): number {
    const stride = this.#stride[stream] as number;
    if (stride > 1 || stride < -1) return 0;
    return this.#isResting(stream) ? GAP : GAP + GAPS * (this.#gap[stream] as number);
  }

  #isResting(stream: number): boolean {
    return this.#misses - (this.#movedAt[stream] as number) > STREAM_RESTING_MISSES;
  }

  /** The strided stream that a chunk goes beside: the loop around it has come to its next round. */
  #looped(chunk: number): number {
    for (let stream = 0; stream < STREAMS; stream++) {
      const stride = this.#stride[stream] as number;
      if (stride >= -1 && stride <= 1) continue;
      const start = this.#start[stream] as number;
      const steps = ((this.#position[stream] as number) - start) / stride;
      const step = Math.round((chunk - start) / stride);
      if (step < 0 || step > steps) continue;
      this.#promise[stream] = Math.max(steps, this.#promise[stream] as number);
      this.#start[stream] = chunk - step * stride;
      this.#moveTo(stream, chunk);
      return stream;
    }
    return -1;
  }

  #swept(first: number, last: number): number {
    for (let age = 1; age <= RECENT_MISSES; age++) {
      const recent = this.#recent[(this.#recentCount - age + RECENT_MISSES) % RECENT_MISSES] as number;
      const step = first - recent;
      if (recent < 0 || step === 0 || Math.abs(step) > SWEEP_STEP) continue;
      const stream = step > 0 ? this.#begin(last, 1, last) : this.#begin(first, -1, first);
      this.#gap[stream] = Math.abs(step);
      return stream;
    }
    return -1;
  }

  #moveTo(stream: number, chunk: number): void {
    this.#position[stream] = chunk;
    this.#end[stream] = chunk + (this.#stride[stream] as number);
    this.#movedAt[stream] = this.#misses;
  }

  #begin(chunk: number, stride: number, start: number): number {
    let oldest = 0;
    for (let stream = 0; stream < STREAMS; stream++) {
      if ((this.#movedAt[stream] as number) < (this.#movedAt[oldest] as number)) oldest = stream;
    }
    this.#learn(oldest);
    this.#stride[oldest] = stride;
    this.#start[oldest] = start;
    this.#begunAt[oldest] = chunk;
    this.#promise[oldest] = Math.max(Math.floor(2 ** this.#usual), this.#region) - 1;
    this.#gap[oldest] = 0;
    this.#moveTo(oldest, chunk);
    return oldest;
  }

  /** How far it went after it had become known. */
  #learn(stream: number): void {
    const stride = this.#stride[stream] as number;
    if (stride === 0) return;
    const steps = ((this.#position[stream] as number) - (this.#begunAt[stream] as number)) / stride;
    this.#usual += (Math.log2(1 + Math.max(0, steps)) - this.#usual) / LEARNING;
    this.#stride[stream] = 0;
  }

  /** The first of the written chunks that lead to a chunk in steps of a stride. */
  #startOf(chunk: number, stride: number): number {
    let start = chunk;
    for (let steps = 0; steps < STRIDE_MAX && this.#isUsed(start - stride); steps++) start -= stride;
    return start;
  }

  /** Written chunks at equal distances before this one, with nothing between them, make a stride; 0 for none. */
  #strideTo(chunk: number): number {
    const below = this.#seen.usedBelow(chunk, STRIDE_MAX);
    const above = this.#seen.usedAbove(chunk, STRIDE_MAX);
    const stride = below === 0 || above === 0 ? Math.max(below, above) : Math.min(below, above);
    if (stride <= 1) return 0;
    if (below === stride && this.#isStride(chunk, stride)) return stride;
    return above === stride && this.#isStride(chunk, -stride) ? -stride : 0;
  }

  #isStride(chunk: number, stride: number): boolean {
    const sign = Math.sign(stride);
    for (let step = 1; step <= STRIDE_PROOF; step++) {
      const before = chunk - step * stride;
      if (!this.#isUsed(before)) return false;
      if (step === STRIDE_PROOF) break;
      for (let between = before - sign; between !== before - stride; between -= sign)
        if (this.#isUsed(between)) return false;
    }
    return true;
  }

  /** Fills the windows: of the stream that missed, then of all that have moved on. */
  #topUp(missed: number, room: Room, proposals: Proposals): void {
    let active = 0;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (this.#stride[stream] === 0 || this.#isResting(stream)) continue;
      active++;
      this.#refresh(stream);
    }
    if (active === 0) return;
    const all = Math.min(WINDOWS_MAX, room.limit * STREAMS_SHARE);
    const most = Math.max(FIRST_WINDOW, Math.floor(all / active));
    if (missed >= 0 && !this.#fill(missed, most, proposals)) return;
    for (let stream = 0; stream < STREAMS; stream++) {
      if (stream === missed || this.#stride[stream] === 0) continue;
      if (this.#movedAt[stream] === this.#misses && !this.#fill(stream, most, proposals)) return;
    }
  }

  #propose(chunk: number, proposals: Proposals): boolean {
    if (!this.#seen.isMember(chunk)) this.#added++;
    return proposals.propose(chunk);
  }

  /** What is predicted already must not be what makes room for more. */
  #refresh(stream: number): void {
    const stride = this.#stride[stream] as number;
    const end = this.#end[stream] as number;
    for (let ahead = (this.#position[stream] as number) + stride; ahead !== end; ahead += stride)
      this.#seen.refresh(ahead);
  }

  /** False when there is no room for more. */
  #fill(stream: number, most: number, proposals: Proposals): boolean {
    const { chunks } = this.#seen;
    const stride = this.#stride[stream] as number;
    const position = this.#position[stream] as number;
    const gone = (position - (this.#start[stream] as number)) / stride;
    const window = Math.min(Math.max(gone, (this.#promise[stream] as number) - gone), most);
    const wanted = position + (window + 1) * stride;
    let chunk = this.#end[stream] as number;
    for (; stride > 0 ? chunk < wanted && chunk < chunks : chunk > wanted && chunk >= 0; chunk += stride) {
      if (!this.#propose(chunk, proposals)) {
        this.#end[stream] = chunk;
        return false;
      }
    }
    this.#end[stream] = chunk;
    return true;
  }

  #proposeRegion(first: number, last: number, room: Room, proposals: Proposals): void {
    const least = this.#misses % TRYING === 0 ? 2 : 1;
    const largest = Math.max(least, this.#region, Math.floor(room.free * REGION_SHARE));
    const size = 2 ** Math.floor(Math.log2(largest));
    if (size === 1) return;
    const start = first - (first % size);
    const end = Math.min(last - (last % size) + size, this.#seen.chunks);
    for (let chunk = start; chunk < end; chunk++) if (!this.#propose(chunk, proposals)) return;
  }
}
