/** Our own record, as it is: not a model but the product's code over a store that is durable at once. */
import { PredictiveRecord, type RecordOptions, type RecordStore } from "../../../src/nvram/record.ts";
import type { Trace } from "../trace.ts";
import { InFlight } from "./in-flight.ts";
import type { RecordModel } from "./model.ts";

export const CHUNK_BYTES = 64 * 2 ** 10;

const INSTANT: RecordStore = { set: () => undefined, commit: (done) => done(0) };

export class Predictive implements RecordModel {
  flushes = 0;
  readonly #record: PredictiveRecord;
  readonly #inFlight = new InFlight((first, last) => this.#end(first, last));

  /** The predictor is the product's unless one is given; null for none. */
  constructor(trace: Trace, limitBytes: number, predictor?: RecordOptions["predictor"]) {
    this.#record = new PredictiveRecord({
      chunks: Math.ceil(trace.volumeBytes / CHUNK_BYTES),
      chunkBytes: CHUNK_BYTES,
      limitChunks: Math.floor(limitBytes / CHUNK_BYTES),
      store: INSTANT,
      predictor,
    });
  }

  get updates(): number {
    return this.#record.counts.read().updates;
  }

  get sizeBytes(): number {
    return this.#record.places.count * CHUNK_BYTES;
  }

  write(offsetBytes: number, lengthBytes: number): void {
    const first = Math.floor(offsetBytes / CHUNK_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / CHUNK_BYTES);
    const { places } = this.#record;
    this.#inFlight.makeRoom();
    while (!this.#record.admits(first, last)) {
      // Where everything is owed to the remote, the write waits until something has been copied.
      if (this.#record.want(first, last)) this.#record.update();
      else if (this.#record.takeFlushWish()) this.#flush();
      else if (!this.#inFlight.endOldest()) throw new RangeError(`a write of ${lengthBytes} bytes exceeds the record`);
    }
    // Asked for by the record when chunks could leave it but for a flush; it does not hold up anybody.
    if (this.#record.takeFlushWish()) this.#flush();
    places.beginWrite(first, last);
    this.#inFlight.begin(first, last);
  }

  #flush(): void {
    const { places } = this.#record;
    places.endFlush(places.beginFlush());
    this.flushes++;
  }

  /** The write has ended, and the remote has it. */
  #end(first: number, last: number): void {
    const { places } = this.#record;
    places.endWrite(first, last);
    // A chunk with another write under way is copied when that one ends.
    for (let chunk = first; chunk <= last; chunk++) if (places.beginCopy(chunk)) places.endCopy(chunk, true);
  }
}
