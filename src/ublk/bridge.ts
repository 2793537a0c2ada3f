/**
 * The two ends of a bridge from a queue's thread to the thread that owns the device, where handlers return promises.
 *
 * Memory shared by both: a ring of submitted slots (queue to owner), a ring of answered slots (owner to queue), and what
 * is asked in each slot. A slot is at one end at a time, so each ring has room for all of them and never overflows.
 * The owner is woken by Atomics.notify, the queue by an eventfd that it polls in its ring.
 */
const CONTROL_WORDS = 16;
const WORDS_PER_SLOT = 4;
const NUMBERS_PER_SLOT = 2;

/** 32-bit words at the start. */
export const BRIDGE = { submitted: 0, answered: 1, closed: 2 } as const;

/** Bits of a slot's flags. */
export const BRIDGE_FLAG = { NO_UNMAP: 1 } as const;

export interface BridgeOptions {
  readonly shared: SharedArrayBuffer;
  /** An eventfd that wakes the queue. */
  readonly event: number;
}

/** A view of a bridge's memory; both ends make one. */
export class BridgeMemory {
  readonly shared: SharedArrayBuffer;
  readonly depth: number;
  readonly control: Int32Array;
  /** Slots in the order of their submission, and of their answers. */
  readonly submittedSlots: Int32Array;
  readonly answeredSlots: Int32Array;
  readonly #words: Int32Array;
  readonly #numbers: Float64Array;

  constructor(depth: number, shared?: SharedArrayBuffer) {
    const slotBytes = 4 * (2 + WORDS_PER_SLOT) + 8 * NUMBERS_PER_SLOT;
    const wordsBytes = 4 * (CONTROL_WORDS + depth * (2 + WORDS_PER_SLOT));
    const numbersAt = Math.ceil(wordsBytes / 8) * 8;
    this.shared = shared ?? new SharedArrayBuffer(numbersAt + depth * slotBytes + 8);
    this.depth = depth;
    this.control = new Int32Array(this.shared, 0, CONTROL_WORDS);
    this.submittedSlots = new Int32Array(this.shared, 4 * CONTROL_WORDS, depth);
    this.answeredSlots = new Int32Array(this.shared, 4 * (CONTROL_WORDS + depth), depth);
    this.#words = new Int32Array(this.shared, 4 * (CONTROL_WORDS + 2 * depth), depth * WORDS_PER_SLOT);
    this.#numbers = new Float64Array(this.shared, numbersAt, depth * NUMBERS_PER_SLOT);
  }

  ask(slot: number, operation: number, offset: number, length: number, flags: number): void {
    this.#words[slot * WORDS_PER_SLOT] = operation;
    this.#words[slot * WORDS_PER_SLOT + 1] = length / 512;
    this.#words[slot * WORDS_PER_SLOT + 2] = flags;
    this.#numbers[slot * NUMBERS_PER_SLOT] = offset;
  }

  answer(slot: number, result: number): void {
    this.#words[slot * WORDS_PER_SLOT + 3] = result;
  }

  operation(slot: number): number {
    return this.#words[slot * WORDS_PER_SLOT] as number;
  }

  length(slot: number): number {
    return ((this.#words[slot * WORDS_PER_SLOT + 1] as number) >>> 0) * 512;
  }

  flags(slot: number): number {
    return this.#words[slot * WORDS_PER_SLOT + 2] as number;
  }

  result(slot: number): number {
    return this.#words[slot * WORDS_PER_SLOT + 3] as number;
  }

  offset(slot: number): number {
    return this.#numbers[slot * NUMBERS_PER_SLOT] as number;
  }

  /** Address of a slot's buffer, for the other thread to look at. */
  bufferAddress(slot: number): number {
    return this.#numbers[slot * NUMBERS_PER_SLOT + 1] as number;
  }

  setBufferAddress(slot: number, address: number): void {
    this.#numbers[slot * NUMBERS_PER_SLOT + 1] = address;
  }
}
