/**
 * Stands in for the remote until there is one: whatever was written counts as copied as soon as no write is in flight
 * there. The record behaves as with a mirror that is never behind.
 */
import type { Places } from "./places.ts";

/** Who copies what is owed. */
export interface Drain {
  /** Called once, before the first write: all that is in the record is owed. */
  begin(): void;
  /** A write to chunks `first` to `last` has ended: they are owed. */
  written(first: number, last: number): void;
}

export class StandInDrain implements Drain {
  readonly #places: Places;

  constructor(places: Places) {
    this.#places = places;
  }

  begin(): void {
    for (let position = 0; position < this.#places.count; position++) this.#copy(this.#places.member(position));
  }

  written(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) this.#copy(chunk);
  }

  #copy(chunk: number): void {
    if (this.#places.beginCopy(chunk)) this.#places.endCopy(chunk, true);
  }
}
