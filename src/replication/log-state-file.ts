/**
 * Keeps the superblock of the receiver's log durable: one write at a time, each to the slot that does not hold the newest.
 * Whoever asks while one is under way is served by the next, together.
 *
 * Invariant: `durable` is what a recovery finds at least: it changes when the write has ended, and not before.
 */
import { OPCODE, RWF_DSYNC } from "../ublk/abi.ts";
import { ERRNO } from "../ublk/errors.ts";
import type { CompletionHandler, IoMemory } from "../ublk/io.ts";
import type { LogIo } from "./log-io.ts";
import { encodeLogSuperblock, slotOffset, type LogState, type LogSuperblock } from "./log-superblock.ts";

export class LogStateFile implements CompletionHandler {
  readonly #io: LogIo;
  readonly #file: number;
  readonly #handler: number;
  readonly #memory: IoMemory;
  #superblock: LogSuperblock;
  #writing: LogState | undefined;
  #wanted: LogState;
  /** Who waits for the write that is under way, and for the one after it. */
  #served: ((result: number) => void)[] = [];
  #waiting: ((result: number) => void)[] = [];

  /** `file` is the log's index in the ring; `superblock` is the newest. */
  constructor(superblock: LogSuperblock, io: LogIo, file: number) {
    this.#superblock = superblock;
    this.#wanted = superblock.state;
    this.#io = io;
    this.#file = file;
    this.#handler = io.addHandler(this);
    this.#memory = io.memory(superblock.geometry.sectorBytes);
  }

  get durable(): LogState {
    return this.#superblock.state;
  }

  /** The newest that was asked for. */
  get wanted(): LogState {
    return this.#wanted;
  }

  /** `done` is called once: with 0 when this state, or one that was asked for later, is durable, or with a negative errno. */
  save(state: LogState, done: (result: number) => void): void {
    this.#wanted = state;
    this.#waiting.push(done);
    if (this.#writing === undefined) this.#write();
  }

  #write(): void {
    this.#served = this.#waiting;
    this.#waiting = [];
    this.#writing = this.#wanted;
    const sequence = this.#superblock.sequence + 1;
    const next = { ...this.#superblock, sequence, state: this.#writing };
    encodeLogSuperblock(new Uint8Array(this.#memory.buffer), next);
    const { address } = this.#memory;
    const length = next.geometry.sectorBytes;
    const offset = slotOffset(sequence);
    this.#io.transfer(OPCODE.WRITE, this.#file, offset, address, length, RWF_DSYNC, this.#handler, length);
  }

  /** `length` is that of the write. After one that has failed the slot may hold anything: the next goes to the same. */
  completed(length: number, result: number): void {
    const state = this.#writing as LogState;
    this.#writing = undefined;
    if (result === length) {
      this.#superblock = { ...this.#superblock, sequence: this.#superblock.sequence + 1, state };
    }
    const served = this.#served;
    this.#served = [];
    for (const done of served) done(result === length ? 0 : result < 0 ? result : -ERRNO.EIO);
    if (this.#waiting.length > 0 && !this.isBusy) this.#write();
  }

  get isBusy(): boolean {
    return this.#writing !== undefined;
  }
}
