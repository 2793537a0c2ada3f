/** An instrument: holds every chosen request for a while before it passes it on. */
import type { CompletionHandler, IoMemory } from "../ublk/io.ts";
import type { OperationName, Request } from "../ublk/request.ts";
import type { Ring } from "../ublk/ring.ts";
import type { QueueContext, Target } from "../ublk/target.ts";
import { operationSet } from "./filter.ts";

export interface DelayOptions {
  readonly delayMs: number;
  readonly operations: readonly OperationName[] | null;
}

const TIMESPEC_BYTES = 16;

export class DelayTarget implements Target, CompletionHandler {
  readonly #next: Target;
  readonly #ring: Ring;
  readonly #handler: number;
  readonly #operations: ReadonlySet<number>;
  readonly #timespec: IoMemory;
  readonly #held: Request[];

  constructor({ delayMs, operations }: DelayOptions, next: Target, context: QueueContext) {
    this.#next = next;
    this.#ring = context.ring;
    this.#handler = context.ring.addHandler(this);
    this.#operations = operationSet(operations);
    this.#held = new Array<Request>(context.depth);
    this.#timespec = context.ring.memory(TIMESPEC_BYTES);
    const time = new BigInt64Array(this.#timespec.buffer, 0, 2);
    time[0] = BigInt(Math.floor(delayMs / 1000));
    time[1] = BigInt(Math.round((delayMs % 1000) * 1e6));
  }

  submit(request: Request): void {
    if (!this.#operations.has(request.operation)) {
      this.#next.submit(request);
      return;
    }
    this.#held[request.slot] = request;
    this.#ring.timeout(this.#timespec.address, this.#handler, request.slot);
  }

  /** The time is over (the kernel says ETIME). */
  completed(slot: number): void {
    this.#next.submit(this.#held[slot] as Request);
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  close(): void {
    this.#next.close?.();
  }
}
