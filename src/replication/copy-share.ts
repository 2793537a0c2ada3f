/**
 * How much is copied with each point, so that points follow each other about once a second while something is to be copied,
 * however fast the link is.
 *
 * Invariant: it never falls so low that copying does not come to an end: what the host writes takes its time as well, and points
 * that are slow for that are no reason to copy less.
 */
const FIRST_BYTES = 4 * 2 ** 20;
const LEAST_BYTES = 2 ** 20;
const SHORT_MS = 400;
const LONG_MS = 800;

export class CopyShare {
  #bytes = FIRST_BYTES;

  /** For the next point, in bytes; at most `maxBytes`. */
  bytes(maxBytes: number): number {
    return Math.min(this.#bytes, maxBytes);
  }

  /** A point that so much was copied with took so long, from its cut until it was committed. */
  took(bytes: number, ms: number): void {
    // One with less than its share tells nothing of a larger one.
    if (ms < SHORT_MS && bytes >= this.#bytes / 2) this.#bytes *= 2;
    else if (ms > LONG_MS) this.#bytes = Math.max(LEAST_BYTES, this.#bytes / 2);
  }
}
