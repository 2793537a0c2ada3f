/**
 * How a part of the NVRAM file becomes durable: the one interface over persistent memory, ordinary files and the
 * simulated memory of tests.
 *
 * Invariant. Nothing that is written to `bytes` may be taken for durable before a commit of its line has ended with 0.
 * Parts of it may well become durable earlier, in any order (a cache writes back when it likes).
 */

export interface Persistence {
  /** How it is done, in a word or two, for people. */
  readonly kind: string;
  /** The part of the file, in memory; aligned to a line. */
  readonly bytes: Uint8Array;
  /**
   * Makes the first `count` lines (LINE_BYTES each) of `lines` durable, with one barrier. One commit at a time; their
   * bytes must not be changed until it has ended. `done` is called once, now or later, with 0 or a negative errno.
   */
  commit(lines: Int32Array, count: number, done: (result: number) => void): void;
}
