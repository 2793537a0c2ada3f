/** The queue's end of a bridge (bridge.ts): a target that hands every request to the thread that owns the device. */
import { BRIDGE, BRIDGE_FLAG, BridgeMemory, type BridgeOptions } from "./bridge.ts";
import { RingEvent } from "./event.ts";
import type { Request } from "./request.ts";
import type { QueueContext, Target } from "./target.ts";

class BridgeTarget implements Target {
  readonly #memory: BridgeMemory;
  readonly #requests: Request[];
  #taken = 0;

  constructor({ shared, event }: BridgeOptions, context: QueueContext) {
    this.#memory = new BridgeMemory(context.depth, shared);
    this.#requests = new Array<Request>(context.depth);
    new RingEvent(context.ring, event).listen(() => this.#takeAnswers());
  }

  submit(request: Request): void {
    const memory = this.#memory;
    this.#requests[request.slot] = request;
    memory.setBufferAddress(request.slot, request.address);
    memory.ask(
      request.slot,
      request.operation,
      request.offset,
      request.length,
      request.noUnmap ? BRIDGE_FLAG.NO_UNMAP : 0,
    );
    const submitted = Atomics.load(memory.control, BRIDGE.submitted);
    memory.submittedSlots[(submitted >>> 0) % memory.depth] = request.slot;
    Atomics.store(memory.control, BRIDGE.submitted, (submitted + 1) | 0);
    Atomics.notify(memory.control, BRIDGE.submitted);
  }

  #takeAnswers(): void {
    const memory = this.#memory;
    const answered = Atomics.load(memory.control, BRIDGE.answered);
    while (this.#taken !== answered) {
      const slot = memory.answeredSlots[(this.#taken >>> 0) % memory.depth] as number;
      this.#taken = (this.#taken + 1) | 0;
      (this.#requests[slot] as Request).answer(memory.result(slot));
    }
  }

  close(): void {
    Atomics.store(this.#memory.control, BRIDGE.closed, 1);
    Atomics.notify(this.#memory.control, BRIDGE.submitted);
  }
}

/** The entry that a queue calls (TargetModule). */
export function openTarget(options: BridgeOptions, context: QueueContext): Target {
  return new BridgeTarget(options, context);
}
