/**
 * The volatile copy of the record: what is known of each chunk of the volume, in flat arrays.
 *
 * Invariants. A chunk is a member while it is RECORDED (durably in the record) or ADDING (in the update that is under
 * way), and `count` is how many there are. A member may be taken out only while nothing is owed for it (not OWED, not
 * COPYING, no write in flight), and when the backing store was flushed since it was written: otherwise a power cut takes
 * back a write that the remote has, and nothing tells. Nothing here allocates after the start.
 */

/** Bits of a chunk's state. Another thread may read them (`sluice record`), so they are a format of their own. */
export const STATE = {
  /** Durably in the record: writes may pass. */
  RECORDED: 1,
  /** In the update that is under way. */
  ADDING: 2,
  /** Written, and not copied to the remote yet. */
  OWED: 4,
  /** Being copied to the remote. */
  COPYING: 8,
  /** Written since it came into the record. Where this is missing the chunk is only predicted. */
  USED: 16,
  /** A write is under way, or held and counting on it. */
  IN_FLIGHT: 32,
  /** It came in as a prediction, not because a write wanted it. */
  PREDICTED: 64,
} as const;

const MEMBER = STATE.RECORDED | STATE.ADDING;
const BUSY = STATE.ADDING | STATE.OWED | STATE.COPYING | STATE.IN_FLIGHT;
/** Visits are counted up to here: what is visited more often is hot, whatever the number. */
export const VISITS_MAX = 15;

export interface PlacesOptions {
  /** Chunks of the volume. */
  readonly chunks: number;
  /** Where the states are kept; a SharedArrayBuffer of `chunks` bytes if another thread is to see them. */
  readonly states?: SharedArrayBuffer | undefined;
}

export class Places {
  readonly chunks: number;
  /** STATE bits by chunk. */
  readonly states: Uint8Array;
  /** How often a chunk was written in the past, in different epochs. Survives its removal. */
  readonly #visits: Uint8Array;
  /** Epoch (modulo 2^16) in which a chunk was written, or added, last. */
  readonly #touched: Uint16Array;
  readonly #writes: Uint16Array;
  /** A bit for each chunk that is USED, so that the nearest one is found soon. */
  readonly #used: Int32Array;
  readonly #members: Int32Array;
  readonly #positions: Int32Array;
  /** Flush period (modulo 2^16) in which a chunk was written last. */
  readonly #writtenIn: Uint16Array;
  #count = 0;
  /** How often the remote has got what it was owed of a chunk. */
  settled = 0;
  #epoch = 1;
  /** The period that is running, and the last one whose writes are durable. */
  #period = 1;
  #durablePeriod = 0;
  #unflushed = 0;

  constructor({ chunks, states }: PlacesOptions) {
    this.chunks = chunks;
    this.states = new Uint8Array(states ?? new ArrayBuffer(chunks));
    this.#visits = new Uint8Array(chunks);
    this.#touched = new Uint16Array(chunks);
    this.#writes = new Uint16Array(chunks);
    this.#used = new Int32Array(Math.ceil(chunks / 32));
    this.#writtenIn = new Uint16Array(chunks);
    this.#members = new Int32Array(chunks);
    this.#positions = new Int32Array(chunks);
  }

  /** Members. */
  get count(): number {
    return this.#count;
  }

  /** The member at a position from 0 to `count - 1`, in no order. */
  member(position: number): number {
    return this.#members[position] as number;
  }

  isRecorded(chunk: number): boolean {
    return ((this.states[chunk] as number) & STATE.RECORDED) !== 0;
  }

  isMember(chunk: number): boolean {
    return ((this.states[chunk] as number) & MEMBER) !== 0;
  }

  /** Whether it is a member that has been written since it came in. */
  isUsed(chunk: number): boolean {
    return ((this.states[chunk] as number) & STATE.USED) !== 0;
  }

  /** How far below a chunk the nearest used one lies; 0 where none lies within `reach`. */
  usedBelow(chunk: number, reach: number): number {
    const last = Math.max(0, chunk - reach);
    // Bits up to that of the chunk before; shifts count modulo 32.
    let mask = chunk === 0 ? 0 : (-1 >>> -chunk) | 0;
    for (let word = (chunk - 1) >> 5; word >= last >> 5; word--, mask = -1) {
      const bits = (this.#used[word] as number) & mask;
      if (bits === 0) continue;
      const found = (word << 5) + 31 - Math.clz32(bits);
      return found >= last ? chunk - found : 0;
    }
    return 0;
  }

  /** How far above a chunk the nearest used one lies; 0 where none lies within `reach`. */
  usedAbove(chunk: number, reach: number): number {
    const last = Math.min(this.chunks - 1, chunk + reach);
    let mask = -1 << (chunk + 1);
    for (let word = (chunk + 1) >> 5; word <= last >> 5; word++, mask = -1) {
      const bits = (this.#used[word] as number) & mask;
      if (bits === 0) continue;
      const found = (word << 5) + 31 - Math.clz32(bits & -bits);
      return found <= last ? found - chunk : 0;
    }
    return 0;
  }

  /** Whether it is a member for which nothing is owed: it may be taken out, once it is durable. */
  isSpare(chunk: number): boolean {
    return ((this.states[chunk] as number) & (BUSY | MEMBER)) === STATE.RECORDED;
  }

  /** Whether the backing store has been flushed since it was written. (Sometimes false for a chunk that was; never true wrongly.) */
  isDurable(chunk: number): boolean {
    const age = (this.#period - (this.#writtenIn[chunk] as number)) & 0xffff;
    return age >= ((this.#period - this.#durablePeriod) & 0xffff);
  }

  /** Chunks that were written since the last flush began. */
  get unflushed(): number {
    return this.#unflushed;
  }

  /** The backing store is about to be flushed; gives the period that `endFlush` is to be called with. */
  beginFlush(): number {
    const period = this.#period;
    this.#period = (period + 1) & 0xffff;
    this.#unflushed = 0;
    return period;
  }

  /** All that was written up to the end of `period` is durable. */
  endFlush(period: number): void {
    const isLater = ((period - this.#durablePeriod) & 0xffff) < 0x8000;
    if (isLater) this.#durablePeriod = period;
  }

  visits(chunk: number): number {
    return this.#visits[chunk] as number;
  }

  /** Epochs since it was written or added last. */
  age(chunk: number): number {
    return (this.#epoch - (this.#touched[chunk] as number)) & 0xffff;
  }

  /** A new epoch: visits count once in each. */
  nextEpoch(): void {
    this.#epoch = (this.#epoch + 1) & 0xffff;
  }

  /** Chunks `first` to `last`, all recorded, are about to be written. */
  beginWrite(first: number, last: number): void {
    const states = this.states;
    for (let chunk = first; chunk <= last; chunk++) {
      const state = states[chunk] as number;
      states[chunk] = state | STATE.OWED | STATE.USED | STATE.IN_FLIGHT;
      if ((state & STATE.USED) === 0) this.#used[chunk >> 5] = (this.#used[chunk >> 5] as number) | (1 << chunk);
      this.#writes[chunk] = (this.#writes[chunk] as number) + 1;
      if (this.#touched[chunk] !== this.#epoch || this.#visits[chunk] === 0) this.#visit(chunk);
    }
  }

  #visit(chunk: number): void {
    this.#touched[chunk] = this.#epoch;
    const visits = this.#visits[chunk] as number;
    if (visits < VISITS_MAX) this.#visits[chunk] = visits + 1;
  }

  /** Chunks `first` to `last` may not be taken out until `unpin`: a held write counts on them. */
  pin(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) {
      this.states[chunk] = (this.states[chunk] as number) | STATE.IN_FLIGHT;
      this.#writes[chunk] = (this.#writes[chunk] as number) + 1;
    }
  }

  /** The write of chunks `first` to `last` has ended, whatever its result. */
  endWrite(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) {
      if (this.#writtenIn[chunk] === this.#period) continue;
      this.#writtenIn[chunk] = this.#period;
      this.#unflushed++;
    }
    this.unpin(first, last);
  }

  /** They are not pinned any more. */
  unpin(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) {
      const writes = (this.#writes[chunk] as number) - 1;
      this.#writes[chunk] = writes;
      if (writes === 0) this.states[chunk] = (this.states[chunk] as number) & ~STATE.IN_FLIGHT;
    }
  }

  /** Its data is about to be read for the remote; false while writes are in flight there. */
  beginCopy(chunk: number): boolean {
    const state = this.states[chunk] as number;
    if ((state & (STATE.IN_FLIGHT | STATE.COPYING)) !== 0) return false;
    this.states[chunk] = (state & ~STATE.OWED) | STATE.COPYING;
    return true;
  }

  /** The remote has what was read since `beginCopy`; or it has not, and is owed it as before. */
  endCopy(chunk: number, copied: boolean): void {
    const state = this.states[chunk] as number;
    this.states[chunk] = (state & ~STATE.COPYING) | (copied ? 0 : STATE.OWED);
    if (copied) this.settled++;
  }

  /** Whether it is a member that came in as a prediction. */
  isPredicted(chunk: number): boolean {
    return ((this.states[chunk] as number) & STATE.PREDICTED) !== 0;
  }

  /** In the update that is being made. */
  add(chunk: number, predicted: boolean): void {
    this.#members[this.#count] = chunk;
    this.#positions[chunk] = this.#count++;
    this.states[chunk] = STATE.ADDING | (predicted ? STATE.PREDICTED : 0);
    this.#touched[chunk] = this.#epoch;
  }

  /** The update that added it is durable. */
  settle(chunk: number): void {
    this.states[chunk] = ((this.states[chunk] as number) & ~STATE.ADDING) | STATE.RECORDED;
  }

  /** Taken over from the durable record: everything may differ there. */
  restore(chunk: number): void {
    this.add(chunk, false);
    this.states[chunk] = STATE.RECORDED | STATE.OWED;
    this.#writtenIn[chunk] = this.#period;
  }

  /** Out of the record: removable ones, and those whose adding failed. */
  remove(chunk: number): void {
    const position = this.#positions[chunk] as number;
    const moved = this.#members[--this.#count] as number;
    this.#members[position] = moved;
    this.#positions[moved] = position;
    this.states[chunk] = 0;
    this.#used[chunk >> 5] = (this.#used[chunk >> 5] as number) & ~(1 << chunk);
  }

  /** A stream has passed it: it is not worth more than a chunk that was never written, unless it was written before. */
  pass(chunk: number): void {
    if (this.#visits[chunk] === 1) this.#visits[chunk] = 0;
  }

  /** Counts as new again. */
  refresh(chunk: number): void {
    this.#touched[chunk] = this.#epoch;
  }
}
