/**
 * Perfect knowledge: at each miss the record is filled anew with the next different chunks of the future, as many as the
 * limit allows. No record of that limit can do with fewer updates: whatever it holds, it misses no later. It is a bound, not
 * a peer: chunks that are still owed to the remote would have to stay, and do not here.
 */
import type { Trace } from "../trace.ts";
import type { RecordModel } from "./model.ts";

export class Oracle implements RecordModel {
  readonly #trace: Trace;
  readonly #chunkBytes: number;
  readonly #limitChunks: number;
  /** The update that took each chunk in last. */
  readonly #takenBy: Uint32Array;
  #next = 0;
  #end = 0;
  #held = 0;
  updates = 0;

  constructor(trace: Trace, chunkBytes: number, limitBytes: number) {
    this.#trace = trace;
    this.#chunkBytes = chunkBytes;
    this.#limitChunks = Math.floor(limitBytes / chunkBytes);
    this.#takenBy = new Uint32Array(Math.ceil(trace.volumeBytes / chunkBytes));
  }

  get sizeBytes(): number {
    return this.#held * this.#chunkBytes;
  }

  /** The next write of the trace: it knows which. */
  write(): void {
    if (this.#next++ === this.#end) this.#fill();
  }

  #fill(): void {
    const { offsets, lengths, length } = this.#trace;
    this.updates++;
    this.#held = 0;
    const from = this.#end;
    for (; this.#end < length; this.#end++) {
      const offset = offsets[this.#end] as number;
      const first = Math.floor(offset / this.#chunkBytes);
      const last = Math.floor((offset + (lengths[this.#end] as number) - 1) / this.#chunkBytes);
      let missing = 0;
      for (let chunk = first; chunk <= last; chunk++) if (this.#takenBy[chunk] !== this.updates) missing++;
      if (this.#held + missing > this.#limitChunks && this.#end > from) return;
      for (let chunk = first; chunk <= last; chunk++) this.#takenBy[chunk] = this.updates;
      this.#held += missing;
    }
  }
}
