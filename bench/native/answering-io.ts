/** Input and output that ends at the next reaping and keeps nothing: for what is measured beside the disk. */
import type { CompletionHandler, Io } from "../../src/ublk/io.ts";
import { MappedMemory } from "../../src/ublk/memory.ts";

export class AnsweringIo implements Io {
  readonly #handlers: CompletionHandler[] = [];
  /** Handler, index and result of each completion, one after another. */
  #completions: number[] = [];
  #reaped: number[] = [];

  addHandler(handler: CompletionHandler): number {
    return this.#handlers.push(handler) - 1;
  }

  memory(lengthBytes: number): MappedMemory {
    return MappedMemory.anonymous(lengthBytes);
  }

  waitUntil(condition: () => boolean): void {
    while (!condition()) this.reap();
  }

  /** Hands over what was queued before. */
  reap(): void {
    const reaped = this.#completions;
    this.#completions = this.#reaped;
    this.#reaped = reaped;
    for (let at = 0; at < reaped.length; at += 3) {
      const handler = this.#handlers[reaped[at] as number] as CompletionHandler;
      handler.completed(reaped[at + 1] as number, reaped[at + 2] as number, 0);
    }
    reaped.length = 0;
  }

  transfer(
    _opcode: number,
    _file: number,
    _offset: number,
    _address: unknown,
    length: number,
    _flags: number,
    handler: number,
    index: number,
  ): void {
    this.#completions.push(handler, index, length);
  }

  allocate(_file: number, _offset: number, _length: number, _mode: number, handler: number, index: number): void {
    this.turn(handler, index);
  }

  syncData(_file: number, handler: number, index: number): void {
    this.turn(handler, index);
  }

  discard(_file: number, _offset: number, _length: number, handler: number, index: number): void {
    this.turn(handler, index);
  }

  turn(handler: number, index: number): void {
    this.#completions.push(handler, index, 0);
  }
}
