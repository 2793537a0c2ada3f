/** Waking whoever waits for an eventfd: another thread's ring, or a thread of Node's pool. */
import { writeSync } from "node:fs";
import { CQE_FLAG } from "./abi.ts";
import { errnoText, UblkError } from "./errors.ts";
import type { CompletionHandler } from "./io.ts";
import type { Ring } from "./ring.ts";

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Adds one to the counter of an eventfd, from any thread. */
export function signalEvent(eventDescriptor: number): void {
  writeSync(eventDescriptor, ONE);
}

/**
 * A ring's ear on an eventfd. It polls and never reads the counter: each signal is an event of its own, and a READ that is
 * under way when the ring is closed might write to memory that is somebody else's by then.
 */
export class RingEvent implements CompletionHandler {
  readonly #ring: Ring;
  readonly #eventDescriptor: number;
  #onSignal: () => void = () => undefined;
  readonly #handler: number;

  constructor(ring: Ring, eventDescriptor: number) {
    this.#ring = ring;
    this.#eventDescriptor = eventDescriptor;
    this.#handler = ring.addHandler(this);
  }

  /** From now on: once or more after each signal, in the ring's thread. */
  listen(onSignal: () => void): void {
    this.#onSignal = onSignal;
    this.#poll();
  }

  #poll(): void {
    this.#ring.poll(this.#eventDescriptor, this.#handler, 0);
  }

  completed(_index: number, result: number, flags: number): void {
    if (result < 0)
      throw new UblkError("EEVENT", `Cannot listen to an eventfd: ${errnoText(-result)}`, { errno: -result });
    // The kernel may end a poll at any time, as when completions overflow.
    if ((flags & CQE_FLAG.MORE) === 0) this.#poll();
    this.#onSignal();
  }
}
