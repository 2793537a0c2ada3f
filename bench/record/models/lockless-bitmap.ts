/**
 * The lockless bitmap of md (llbitmap): a byte for a chunk of 64 KiB, or of the power of two more that makes 127 Ki chunks
 * enough. The second chunk that becomes dirty within a sector of the bitmap, 512 chunks, makes all of that sector dirty:
 * the sector is written as a whole anyway. A daemon comes every 30 s and cleans the pages of the bitmap, eight sectors each,
 * in which nothing was written for 5 s; all that it cleans in one round is one update.
 *
 * Left out: the superblock of 1 KiB that shifts sectors and pages; writes that find a page suspended; that chunks which
 * become dirty at the same time share an update; and that the daemon's rounds begin with the first dirty chunk.
 */
import type { RecordModel } from "./model.ts";

const CHUNKS_MAX = 127 * 2 ** 10;
const LEAST_CHUNK_BYTES = 64 * 2 ** 10;
const SECTOR_CHUNKS = 512;
const PAGE_SECTORS = 8;
const ROUND_US = 30e6;
const IDLE_US = 5e6;

export class LocklessBitmap implements RecordModel {
  readonly #chunkBytes: number;
  readonly #sectorBytes: number;
  /** The one chunk that is dirty in each sector that has any; ALL where the whole sector is. */
  readonly #sectors = new Map<number, number>();
  readonly #writtenUs = new Map<number, number>();
  #nextRoundUs = ROUND_US;
  updates = 0;
  sizeBytes = 0;

  constructor(volumeBytes: number) {
    let chunkBytes = LEAST_CHUNK_BYTES;
    while (volumeBytes / chunkBytes > CHUNKS_MAX) chunkBytes *= 2;
    this.#chunkBytes = chunkBytes;
    this.#sectorBytes = chunkBytes * SECTOR_CHUNKS;
  }

  write(offsetBytes: number, lengthBytes: number, timeUs: number): void {
    for (; this.#nextRoundUs <= timeUs; this.#nextRoundUs += ROUND_US) this.#clean(this.#nextRoundUs);
    let missing = false;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.#chunkBytes);
    for (let chunk = Math.floor(offsetBytes / this.#chunkBytes); chunk <= last; chunk++) {
      if (this.#makeDirty(chunk)) missing = true;
      this.#writtenUs.set(Math.floor(chunk / SECTOR_CHUNKS / PAGE_SECTORS), timeUs);
    }
    if (missing) this.updates++;
  }

  /** Whether it was clean. */
  #makeDirty(chunk: number): boolean {
    const sector = Math.floor(chunk / SECTOR_CHUNKS);
    const dirty = this.#sectors.get(sector);
    if (dirty === ALL || dirty === chunk) return false;
    this.#sectors.set(sector, dirty === undefined ? chunk : ALL);
    this.sizeBytes += dirty === undefined ? this.#chunkBytes : this.#sectorBytes - this.#chunkBytes;
    return true;
  }

  #clean(nowUs: number): void {
    const before = this.#sectors.size;
    for (const [sector, dirty] of this.#sectors) {
      const writtenUs = this.#writtenUs.get(Math.floor(sector / PAGE_SECTORS)) ?? 0;
      if (nowUs - writtenUs < IDLE_US) continue;
      this.#sectors.delete(sector);
      this.sizeBytes -= dirty === ALL ? this.#sectorBytes : this.#chunkBytes;
    }
    if (this.#sectors.size < before) this.updates++;
  }
}

const ALL = -1;
