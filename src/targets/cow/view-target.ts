/** The target of a device that shows a point: hands every request to the thread of the volume (view-server.ts). */
import { BRIDGE, BridgeMemory } from "../../ublk/bridge.ts";
import { RingEvent, signalEvent } from "../../ublk/event.ts";
import type { Request } from "../../ublk/request.ts";
import type { QueueContext, Target } from "../../ublk/target.ts";
import type { ViewBridge } from "./cow-orders.ts";

class ViewTarget implements Target {
  readonly #bridge: ViewBridge;
  readonly #memory: BridgeMemory;
  readonly #requests: Request[];
  #taken = 0;
  #hasAsked = false;

  constructor(bridge: ViewBridge, context: QueueContext) {
    this.#bridge = bridge;
    this.#memory = new BridgeMemory(bridge.depth, bridge.shared);
    this.#requests = new Array<Request>(context.depth);
    new RingEvent(context.ring, bridge.answerEvent).listen(() => this.#takeAnswers());
    context.afterBatch(() => {
      if (this.#hasAsked) signalEvent(this.#bridge.askEvent);
      this.#hasAsked = false;
    });
  }

  submit(request: Request): void {
    const memory = this.#memory;
    const { slot } = request;
    this.#requests[slot] = request;
    memory.setBufferAddress(slot, request.address);
    memory.ask(slot, request.operation, request.offset, request.length, 0);
    const submitted = Atomics.load(memory.control, BRIDGE.submitted);
    memory.submittedSlots[(submitted >>> 0) % memory.depth] = slot;
    Atomics.store(memory.control, BRIDGE.submitted, (submitted + 1) | 0);
    this.#hasAsked = true;
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
}

/** The entry that a queue calls (TargetModule). */
export function openTarget(bridge: ViewBridge, context: QueueContext): Target {
  return new ViewTarget(bridge, context);
}
