/**
 * What a database writes under transactions: for each its redo log, at once, in a ring; and pages of a table and of two
 * indexes, a few when room is needed, the others at checkpoints in the order of their places.
 *
 * Invariant. A page is written only when a transaction has changed it since it was written last.
 */
import { Random, scatter, Zipf } from "./random.ts";
import type { Write } from "./trace.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAGE = 8 * KIB;
const LOG_BLOCK = 4 * KIB;

const TABLE_PAGES = (3 * GIB) / PAGE;
const INDEX_PAGES = (512 * MIB) / PAGE;
const LOG_START = 4 * GIB;
const LOG_BYTES = 256 * MIB;
export const DATABASE_BYTES = LOG_START + LOG_BYTES;

/** Of the rows some are hot, by the law that is usual in benchmarks of key-value stores. */
const SKEW = 0.99;
const ROWS_IN_TRANSACTION = 3;
/** Share of the transactions that append a row at the table's end. */
const APPENDING = 0.2;
/** Appended rows that fill a page. */
const ROWS_IN_PAGE = 64;
/** The first part of the table is filled at the start. */
const FILLED_PAGES = Math.floor(TABLE_PAGES * 0.9);
const TRANSACTIONS_IN_CHECKPOINT = 4000;
class Database {
  readonly #random = new Random(7);
  readonly #rows = new Zipf(this.#random, FILLED_PAGES, SKEW);
  readonly #changed = new Set<number>();
  readonly #writtenEarly: number;
  #appended = 0;
  #log = 0;

  constructor(writtenEarly: number) {
    this.#writtenEarly = writtenEarly;
  }

  *transaction(): Generator<Write> {
    const random = this.#random;
    for (let row = 0; row < ROWS_IN_TRANSACTION; row++) {
      const rank = this.#rows.next();
      this.#changed.add(scatter(rank) % FILLED_PAGES);
      // Keys of the first index lie scattered; half of the updates leave the second index alone.
      this.#changed.add(TABLE_PAGES + (scatter(rank + 0x10000000) % INDEX_PAGES));
      if (random.next() < 0.5)
        this.#changed.add(TABLE_PAGES + INDEX_PAGES + (scatter(rank + 0x20000000) % INDEX_PAGES));
    }
    if (random.next() < APPENDING) this.#changed.add(FILLED_PAGES + Math.floor(this.#appended++ / ROWS_IN_PAGE));
    yield* this.#redo(1 + random.below(4));
    if (random.next() < this.#writtenEarly) yield* this.#writeOldest();
  }

  *checkpoint(): Generator<Write> {
    for (const page of [...this.#changed].sort((a, b) => a - b)) yield { offsetBytes: page * PAGE, lengthBytes: PAGE };
    this.#changed.clear();
  }

  *#writeOldest(): Generator<Write> {
    const { value: page } = this.#changed.values().next();
    if (page === undefined) return;
    this.#changed.delete(page);
    yield { offsetBytes: page * PAGE, lengthBytes: PAGE };
  }

  /** Appends to the log; its last block is written again with what comes next. */
  *#redo(blocks: number): Generator<Write> {
    if (this.#log + blocks * LOG_BLOCK > LOG_BYTES) this.#log = 0;
    yield { offsetBytes: LOG_START + this.#log, lengthBytes: blocks * LOG_BLOCK };
    this.#log += (blocks - 1) * LOG_BLOCK;
    if (blocks === 1 && this.#random.next() < 0.5) this.#log += LOG_BLOCK;
  }
}

/**
 * `writtenEarly` is the chance that a transaction needs room in memory, so that the page that was changed the longest ago
 * is written ahead of the checkpoint.
 */
export function* databaseWrites(writes: number, writtenEarly: number): Generator<Write> {
  const database = new Database(writtenEarly);
  let written = 0;
  for (let transaction = 1; written < writes; transaction++) {
    for (const write of database.transaction()) {
      written++;
      yield write;
    }
    if (transaction % TRANSACTIONS_IN_CHECKPOINT !== 0) continue;
    for (const write of database.checkpoint()) {
      written++;
      yield write;
    }
  }
}
