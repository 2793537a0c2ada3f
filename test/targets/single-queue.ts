/** A queue without a kernel device: real rings, files and targets, and requests that a test makes itself. */
import { MappedMemory } from "../../src/ublk/memory.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { Ring } from "../../src/ublk/ring.ts";
import type { Limits, QueueContext, Target } from "../../src/ublk/target.ts";

export const SLOT_BYTES = 64 * 1024;
const DEPTH = 8;

/** What a test asks: the parts of a request that matter for it. */
export interface Asked {
  readonly operation: keyof typeof Operation;
  readonly offset?: number;
  readonly length?: number;
  readonly data?: Uint8Array;
  readonly fua?: boolean;
  readonly noUnmap?: boolean;
}

export class SingleQueue implements Layer, Disposable {
  readonly ring = new Ring({ entries: 64, singleThread: true });
  readonly requests: readonly Request[];
  /** Slots in the order of their answers. */
  readonly answeredSlots: number[] = [];
  readonly #files: number[] = [];
  readonly #afterBatch: (() => void)[] = [];
  readonly #memory = MappedMemory.anonymous(DEPTH * SLOT_BYTES);
  readonly #results = new Map<number, number>();
  readonly #limits: Limits;
  #target: Target | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.requests = Array.from({ length: DEPTH }, (_, slot) => {
      const buffer = new Uint8Array(this.#memory.buffer, slot * SLOT_BYTES, SLOT_BYTES);
      return new Request(slot, buffer, this.#memory.address + slot * SLOT_BYTES);
    });
  }

  /** Opens the target as a queue's thread does. */
  open<T extends Target>(make: (context: QueueContext) => T): T {
    const useFile = (fd: number): number => this.#files.push(fd) - 1;
    const afterBatch = (callback: () => void): void => void this.#afterBatch.push(callback);
    const target = make({
      device: 0,
      queue: 0,
      depth: DEPTH,
      limits: this.#limits,
      ring: this.ring,
      useFile,
      afterBatch,
    });
    if (this.#files.length > 0) this.ring.registerFiles(this.#files);
    this.#target = target;
    return target;
  }

  /** Hands a request to the target without waiting for its answer. */
  submit(slot: number, asked: Asked): void {
    const request = this.requests[slot] as Request;
    request.operation = Operation[asked.operation];
    request.offset = asked.offset ?? 0;
    request.length = asked.data?.length ?? asked.length ?? 0;
    request.fua = asked.fua ?? false;
    request.noUnmap = asked.noUnmap ?? false;
    if (asked.data !== undefined) request.buffer.set(asked.data);
    this.#results.delete(slot);
    request.pass(this.#target as Target, this);
  }

  answered(request: Request, result: number): void {
    if (this.#results.has(request.slot)) throw new Error(`slot ${request.slot} was answered twice`);
    this.#results.set(request.slot, result);
    this.answeredSlots.push(request.slot);
  }

  isAnswered(slot: number): boolean {
    return this.#results.has(slot);
  }

  /** Turns the ring until the slot is answered; gives its result. */
  finish(slot: number): number {
    for (;;) {
      const result = this.#results.get(slot);
      if (result !== undefined) return result;
      this.turn();
    }
  }

  /** Waits for a completion, and hands it over. */
  turn(): void {
    this.ring.submitAndWait();
    this.ring.reap();
    this.endBatch();
  }

  /** The end of a batch, as a queue tells it. */
  endBatch(): void {
    for (const callback of this.#afterBatch) callback();
  }

  /** Asks and waits, in slot 0. */
  ask(asked: Asked): number {
    this.submit(0, asked);
    return this.finish(0);
  }

  /** What is read there; throws on an error. */
  read(offset: number, length: number): Uint8Array {
    const result = this.ask({ operation: "READ", offset, length });
    if (result !== length) throw new Error(`read of ${length} bytes at ${offset} gave ${result}`);
    return Uint8Array.from((this.requests[0] as Request).buffer.subarray(0, length));
  }

  [Symbol.dispose](): void {
    this.#target?.close?.();
    this.ring[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}
