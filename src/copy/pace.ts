/** A limit for the bytes a second: a bucket that fills with time, and holds what half a second is worth. */

const BURST_SECONDS = 0.5;

export class Pace {
  #bytesPerSecond: number | null;
  #credit = 0;
  #sinceMs: number;

  /** Null for no limit. */
  constructor(bytesPerSecond: number | null, nowMs: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#sinceMs = nowMs;
  }

  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond;
  }

  limit(bytesPerSecond: number | null, nowMs: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = 0;
    this.#sinceMs = nowMs;
  }

  /** Takes the bytes if they may go now, and gives 0; else gives the milliseconds after which to ask again. */
  take(bytes: number, nowMs: number): number {
    const rate = this.#bytesPerSecond;
    if (rate === null) return 0;
    const filled = this.#credit + (rate * (nowMs - this.#sinceMs)) / 1000;
    // A negative credit is a debt: what is larger than the bucket goes as a whole, and what follows waits.
    this.#credit = Math.min(filled, rate * BURST_SECONDS);
    this.#sinceMs = nowMs;
    if (this.#credit < 0) return Math.ceil((-this.#credit / rate) * 1000);
    this.#credit -= bytes;
    return 0;
  }
}
