/** Waking whoever waits for an eventfd. */
import { writeSync } from "node:fs";

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Adds one to the counter of an eventfd, from any thread. */
export function signalEvent(eventDescriptor: number): void {
  writeSync(eventDescriptor, ONE);
}
