/** The record in its part of the NVRAM file: bits are set in memory, changed lines are sealed and committed together. */
import type { Persistence } from "./persistence.ts";
import { RecordLines } from "./record-lines.ts";
import type { RecordStore } from "./record.ts";

export class PersistentRecordStore implements RecordStore {
  readonly #persistence: Persistence;
  readonly #lines: RecordLines;
  /** Lines that were changed since the last commit, and those of a commit that failed. */
  readonly #changed: Int32Array;
  readonly #isChanged: Uint8Array;
  #changedCount = 0;
  #done: (result: number) => void = () => undefined;
  readonly #committed = (result: number): void => this.#end(result);

  constructor(persistence: Persistence, chunks: number, salt: number) {
    this.#persistence = persistence;
    this.#lines = new RecordLines(persistence.bytes, chunks, salt);
    this.#changed = new Int32Array(this.#lines.lines);
    this.#isChanged = new Uint8Array(this.#lines.lines);
  }

  /**
   * Hands every chunk of the durable record to `found`, and gives how many lines were damaged. Those are made whole in
   * memory, with all their bits set, as they were read.
   */
  load(found: (chunk: number) => void): number {
    const damaged = this.#lines.read(found);
    for (let line = 0; line < this.#lines.lines && damaged > 0; line++) {
      if (this.#lines.isWhole(line)) continue;
      this.#lines.fill(line);
      this.#mark(line);
    }
    return damaged;
  }

  set(chunk: number, isMember: boolean): void {
    this.#mark(this.#lines.set(chunk, isMember));
  }

  #mark(line: number): void {
    if (this.#isChanged[line] === 1) return;
    this.#isChanged[line] = 1;
    this.#changed[this.#changedCount++] = line;
  }

  commit(done: (result: number) => void): void {
    this.#done = done;
    const changed = this.#changed.subarray(0, this.#changedCount).sort();
    for (const line of changed) this.#lines.seal(line);
    this.#persistence.commit(changed, changed.length, this.#committed);
  }

  #end(result: number): void {
    if (result === 0) {
      for (let index = 0; index < this.#changedCount; index++) this.#isChanged[this.#changed[index] as number] = 0;
      this.#changedCount = 0;
    }
    this.#done(result);
  }
}
