/** Waking whoever waits for an eventfd: another thread's ring, or a thread of Node's pool. */
import { writeSync } from "node:fs";
import { errnoText, UblkError } from "./errors.ts";
import type { CompletionHandler, IoMemory } from "./io.ts";
import type { Ring } from "./ring.ts";

const COUNTER_BYTES = 8;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Adds one to the counter of an eventfd, from any thread. */
export function signalEvent(eventDescriptor: number): void {
  writeSync(eventDescriptor, ONE);
}

/** A ring's ear on an eventfd. */
export class RingEvent implements CompletionHandler {
  readonly #ring: Ring;
  readonly #eventDescriptor: number;
  #onSignal: () => void = () => undefined;
  readonly #counter: IoMemory;
  readonly #handler: number;

  constructor(ring: Ring, eventDescriptor: number) {
    this.#ring = ring;
    this.#eventDescriptor = eventDescriptor;
    this.#counter = ring.memory(COUNTER_BYTES);
    this.#handler = ring.addHandler(this);
  }

  /** From now on: once or more after each signal, in the ring's thread. */
  listen(onSignal: () => void): void {
    this.#onSignal = onSignal;
    this.#read();
  }

  #read(): void {
    this.#ring.readStream(this.#eventDescriptor, this.#counter.address, COUNTER_BYTES, this.#handler, 0);
  }

  completed(_index: number, result: number): void {
    if (result < 0)
      throw new UblkError("EEVENT", `Cannot listen to an eventfd: ${errnoText(-result)}`, { errno: -result });
    this.#read();
    this.#onSignal();
  }
}
