/**
 * The record in its part of the NVRAM file: bits are set in private memory, changed lines are sealed there, copied, and
 * committed together.
 *
 * A process that is killed leaves mapped memory as it is at that moment. So a line of the file is only ever wrong while its
 * 64 bytes are being copied, and not while an update is put together.
 */
import type { Persistence } from "./persistence.ts";
import { LINE_BYTES, RecordLines } from "./record-lines.ts";
import type { RecordStore } from "./record.ts";

const WORDS_PER_LINE = LINE_BYTES / Int32Array.BYTES_PER_ELEMENT;

function wordsOf({ buffer, byteOffset, length }: Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length / Int32Array.BYTES_PER_ELEMENT);
}

export class PersistentRecordStore implements RecordStore {
  readonly #persistence: Persistence;
  readonly #lines: RecordLines;
  /** The same bytes here, and in the file, as words. */
  readonly #words: Int32Array;
  readonly #fileWords: Int32Array;
  /** Lines that were changed since the last commit, and those of a commit that failed. */
  readonly #changed: Int32Array;
  readonly #isChanged: Uint8Array;
  #changedCount = 0;
  #done: (result: number) => void = () => undefined;
  readonly #committed = (result: number): void => this.#end(result);

  constructor(persistence: Persistence, chunks: number, salt: number) {
    this.#persistence = persistence;
    const bytes = persistence.bytes.slice();
    this.#lines = new RecordLines(bytes, chunks, salt);
    this.#words = wordsOf(bytes);
    this.#fileWords = wordsOf(persistence.bytes);
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
    for (const line of changed) {
      this.#lines.seal(line);
      this.#copy(line);
    }
    this.#persistence.commit(changed, changed.length, this.#committed);
  }

  #copy(line: number): void {
    const end = (line + 1) * WORDS_PER_LINE;
    for (let word = line * WORDS_PER_LINE; word < end; word++) this.#fileWords[word] = this.#words[word] as number;
  }

  #end(result: number): void {
    if (result === 0) {
      for (let index = 0; index < this.#changedCount; index++) this.#isChanged[this.#changed[index] as number] = 0;
      this.#changedCount = 0;
    }
    this.#done(result);
  }
}
