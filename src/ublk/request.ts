/**
 * One request of the host, from the kernel's descriptor to its answer.
 *
 * Invariants. A request is answered exactly once: an answer to a request that is not under way is our own fault and
 * stops the worker (the device is then recovered, and its requests are served again). Between submission and answer the
 * buffer is lent to the target: it belongs to the kernel again from the answer on.
 *
 * Requests are pooled, one per tag, and continue through a small stack of layers, as a bio does: who passes a request on
 * is told of its result and answers it in turn. Nothing here allocates.
 */
import { UblkError } from "./errors.ts";
import type { Address } from "./native.ts";

/** Operations, by the numbers that the kernel gives them. */
export const Operation = { READ: 0, WRITE: 1, FLUSH: 2, DISCARD: 3, WRITE_ZEROES: 5 } as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

/** Names of the operations by number; undefined for numbers that are not served. */
export const OPERATION_NAMES = ["read", "write", "flush", "discard", undefined, "write-zeroes"] as const;
export type OperationName = NonNullable<(typeof OPERATION_NAMES)[number]>;

/** How many layers may lie over one another. */
export const LAYERS_MAX = 16;

/** Who passed a request on, and hears of its result. */
export interface Layer {
  /** `result` is the byte count (reads, writes), 0 (all others), or a negative errno. */
  answered(request: Request, result: number): void;
}

/** Where a request goes. */
export interface Submission {
  submit(request: Request): void;
}

export class Request {
  /** Number of this request in its pool, 0 to depth - 1: the key for whatever a target keeps per request. */
  readonly slot: number;
  /** All of the slot's memory; the request's data are the first `length` bytes of it (reads and writes only). */
  readonly buffer: Uint8Array;
  /** Address of the buffer, for entries of the ring. */
  readonly address: Address;

  operation: Operation = Operation.READ;
  /** Where on the device, in bytes. 0 for a flush. */
  offset = 0;
  /** How much, in bytes. 0 for a flush. */
  length = 0;
  /** A write that must be durable before it is answered. */
  fua = false;
  /** Zeroes that must stay allocated. */
  noUnmap = false;

  readonly #layers: Layer[];
  #depth = 0;

  constructor(slot: number, buffer: Uint8Array, address: Address) {
    this.slot = slot;
    this.buffer = buffer;
    this.address = address;
    this.#layers = new Array<Layer>(LAYERS_MAX);
  }

  /** Hands the request to `next`; `from` hears of the result before anybody above it. */
  pass(next: Submission, from: Layer): void {
    if (this.#depth === LAYERS_MAX) throw new UblkError("ELAYERS", `More than ${LAYERS_MAX} layers over one another`);
    this.#layers[this.#depth++] = from;
    next.submit(this);
  }

  /** Answers the request: the byte count for reads and writes, 0 for all others, or a negative errno. */
  answer(result: number): void {
    if (this.#depth === 0) throw new UblkError("EANSWERED", `The request in slot ${this.slot} was answered twice`);
    const layer = this.#layers[--this.#depth] as Layer;
    layer.answered(this, result);
  }

  /** Answers with success. */
  succeed(): void {
    this.answer(this.operation === Operation.READ || this.operation === Operation.WRITE ? this.length : 0);
  }

  /** How many layers wait for the answer; 0 when the request is not under way. */
  get layersWaiting(): number {
    return this.#depth;
  }
}
