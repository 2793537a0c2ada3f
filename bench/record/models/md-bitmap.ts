/**
 * The write-intent bitmap of md: a bit for 64 MiB, set before the first write there, and cleared by a daemon that comes
 * every 5 s and finds it idle for two rounds. All bits that are cleared in one round are one update.
 *
 * Left out: bits of one page that are set by writes at the same time share an update.
 */
import type { RecordModel } from "./model.ts";

const CHUNK_BYTES = 64 * 2 ** 20;
const ROUND_US = 5e6;
const IDLE_US = 2 * ROUND_US;

export class MdBitmap implements RecordModel {
  /** When each chunk was written last, for those whose bit is set. */
  readonly #writtenUs = new Map<number, number>();
  #nextRoundUs = ROUND_US;
  updates = 0;

  get sizeBytes(): number {
    return this.#writtenUs.size * CHUNK_BYTES;
  }

  write(offsetBytes: number, lengthBytes: number, timeUs: number): void {
    for (; this.#nextRoundUs <= timeUs; this.#nextRoundUs += ROUND_US) this.#clear(this.#nextRoundUs);
    let missing = false;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / CHUNK_BYTES);
    for (let chunk = Math.floor(offsetBytes / CHUNK_BYTES); chunk <= last; chunk++) {
      if (!this.#writtenUs.has(chunk)) missing = true;
      this.#writtenUs.set(chunk, timeUs);
    }
    if (missing) this.updates++;
  }

  #clear(nowUs: number): void {
    const before = this.#writtenUs.size;
    for (const [chunk, writtenUs] of this.#writtenUs) if (nowUs - writtenUs >= IDLE_US) this.#writtenUs.delete(chunk);
    if (this.#writtenUs.size < before) this.updates++;
  }
}
