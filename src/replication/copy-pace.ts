/**
 * How fast is copied what no log tells the receiver of: never faster than the limit, and slower while the host is at work.
 *
 * Invariants. So many reads are under way at most as there is memory for. While the host asks for something, one part is read at
 * a time for copying, and then nothing for as long as three such reads take. A rest is never longer than a tenth of a second, so
 * copying comes to an end however busy the host is. What a point cannot do without waits for nothing of this: the host does for it.
 */
import { Pace } from "../copy/pace.ts";
import { POINT_READS } from "../targets/mirror/mirror-target.ts";

/** Between two reads, as long as so many of them; but never longer than so many milliseconds. */
const REST_FACTOR = 3;
const REST_MAX_MS = 100;
/** With one point, what the limit allows in so long. */
const POINT_SECONDS = 0.5;

export interface CopyPaceParts {
  readonly nowMs: () => number;
  /** Calls `action` after a while. */
  readonly later: (ms: number, action: () => void) => void;
  /** What the host has asked of the volume, in all. */
  readonly hostRequests: () => number;
}

/** A read that has begun. */
export interface PacedRead {
  readonly isCopy: boolean;
  readonly sinceMs: number;
  readonly hostRequests: number;
}

export class CopyPace {
  readonly #parts: CopyPaceParts;
  readonly #limit: Pace;
  /** Told when a read may begin that might not before. */
  readonly #whenRested: () => void;
  #underWay = 0;
  #copying = 0;
  #isHostBusy = false;
  #restUntilMs = 0;
  #isResting = false;

  constructor(parts: CopyPaceParts, whenRested: () => void) {
    this.#parts = parts;
    this.#limit = new Pace(null, parts.nowMs());
    this.#whenRested = whenRested;
  }

  /** In bytes a second; null for no limit. */
  limit(bytesPerSecond: number | null): void {
    this.#limit.limit(bytesPerSecond, this.#parts.nowMs());
  }

  /** Milliseconds until something may be copied with a point: 0 where it may now. */
  get waitMs(): number {
    return this.#limit.take(0, this.#parts.nowMs());
  }

  /** So much may be copied with one point at most, in bytes. */
  get pointBytesMax(): number {
    const { bytesPerSecond } = this.#limit;
    return bytesPerSecond === null ? Infinity : bytesPerSecond * POINT_SECONDS;
  }

  /** So much is copied with a point: it was allowed when that was cut. */
  copies(bytes: number): void {
    this.#limit.take(bytes, this.#parts.nowMs());
  }

  /** Begins a read, if one may begin now. `isCopy`: of what is copied. */
  begin(isCopy: boolean): PacedRead | undefined {
    if (this.#underWay === POINT_READS || (isCopy && !this.#mayCopy())) return undefined;
    this.#underWay++;
    if (isCopy) this.#copying++;
    return { isCopy, sinceMs: this.#parts.nowMs(), hostRequests: this.#parts.hostRequests() };
  }

  #mayCopy(): boolean {
    if (!this.#isHostBusy) return true;
    if (this.#copying > 0) return false;
    const restMs = this.#restUntilMs - this.#parts.nowMs();
    if (restMs <= 0) return true;
    this.#rest(restMs);
    return false;
  }

  #rest(ms: number): void {
    if (this.#isResting) return;
    this.#isResting = true;
    this.#parts.later(ms, () => {
      this.#isResting = false;
      this.#whenRested();
    });
  }

  /** It has ended, whatever came of it. */
  end({ isCopy, sinceMs, hostRequests }: PacedRead): void {
    this.#underWay--;
    if (!isCopy) return;
    this.#copying--;
    const nowMs = this.#parts.nowMs();
    this.#isHostBusy = this.#parts.hostRequests() !== hostRequests;
    this.#restUntilMs = nowMs + Math.min(REST_FACTOR * (nowMs - sinceMs), REST_MAX_MS);
  }
}
