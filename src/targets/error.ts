/** An instrument: answers some requests with an error of choice, and passes the others on. */
import { errnoByName, UblkError } from "../ublk/errors.ts";
import type { OperationName, Request } from "../ublk/request.ts";
import type { Target } from "../ublk/target.ts";
import { operationSet, touches } from "./filter.ts";

export interface ErrorOptions {
  /** Name of the errno, such as "EIO". The block layer knows a few by name (ENOSPC, ETIMEDOUT, ...); all others become EIO. */
  readonly errno: string;
  /** Share of the chosen requests that fail, 0 to 1. */
  readonly rate: number;
  readonly operations: readonly OperationName[] | null;
  readonly range: { readonly offsetBytes: number; readonly lengthBytes: number } | null;
  /** The same seed fails the same requests of a sequence. */
  readonly seed: number;
}

export class ErrorTarget implements Target {
  readonly #next: Target;
  readonly #answer: number;
  readonly #options: ErrorOptions;
  readonly #operations: ReadonlySet<number>;
  #random: number;

  constructor(options: ErrorOptions, next: Target) {
    const errno = errnoByName(options.errno);
    if (errno === undefined) throw new UblkError("EINVAL", `"${options.errno}" is no errno: wanted a name such as EIO`);
    this.#next = next;
    this.#answer = -errno;
    this.#options = options;
    this.#operations = operationSet(options.operations);
    this.#random = options.seed | 0 || 1;
  }

  submit(request: Request): void {
    const { range, rate } = this.#options;
    if (this.#operations.has(request.operation) && touches(request, range) && this.#draw() < rate) {
      request.answer(this.#answer);
      return;
    }
    this.#next.submit(request);
  }

  /** xorshift32: a number in [0, 1). */
  #draw(): number {
    let state = this.#random;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#random = state;
    return (state >>> 0) / 2 ** 32;
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  close(): void {
    this.#next.close?.();
  }
}
