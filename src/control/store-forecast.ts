/**
 * How fast the store of originals has been filling lately, and when it is full if that goes on.
 *
 * What is freed is not set against what is newly used: a snapshot that was deleted a moment ago does not hide a host that
 * writes fast. Nothing here is counted per request: samples are taken now and then, of counts that only grow.
 */

/** What "lately" is. */
const WINDOW_MS = 5 * 60_000;
/** Less than this says nothing about a rate. */
const SPAN_MIN_MS = 1_000;

interface Sample {
  readonly ms: number;
  readonly newlyUsedBytes: number;
}

export class StoreForecast {
  readonly #now: () => number;
  /** Within the window, the oldest first. */
  #samples: Sample[] = [];

  /** `now` is a clock in milliseconds that never goes back. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Notes how many bytes have been newly used so far, in all. */
  sample(newlyUsedBytes: number): void {
    const ms = this.#now();
    this.#samples = this.#samples.filter((sample) => ms - sample.ms <= WINDOW_MS);
    this.#samples.push({ ms, newlyUsedBytes });
  }

  /** Bytes newly used per second, over the window or for as long as there have been samples. */
  bytesPerSecond(newlyUsedBytes: number): number {
    const [oldest] = this.#samples;
    const spanMs = oldest === undefined ? 0 : this.#now() - oldest.ms;
    if (oldest === undefined || spanMs < SPAN_MIN_MS) return 0;
    return ((newlyUsedBytes - oldest.newlyUsedBytes) / spanMs) * 1000;
  }
}

/** Seconds until `freeBytes` are used at this rate; null where it does not fill. */
export function secondsUntilFull(freeBytes: number, bytesPerSecond: number): number | null {
  return bytesPerSecond > 0 ? Math.max(0, freeBytes) / bytesPerSecond : null;
}
