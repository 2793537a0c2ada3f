/**
 * The target of a device that shows a point: hands every request to the thread of the volume (view-server.ts).
 *
 * Invariant: where that thread has ended by itself (endView), no request waits for it: all are answered with EIO.
 */
import { BRIDGE, BridgeMemory } from "../../ublk/bridge.ts";
import { ERRNO } from "../../ublk/errors.ts";
import { RingEvent, signalEvent } from "../../ublk/event.ts";
import type { Request } from "../../ublk/request.ts";
import type { QueueContext, Target } from "../../ublk/target.ts";
import type { ViewBridge } from "./cow-orders.ts";

class ViewTarget implements Target {
  readonly #bridge: ViewBridge;
  readonly #memory: BridgeMemory;
  readonly #requests: Request[];
  /** By slot: 1 while the other thread has its request. */
  readonly #isAsked: Uint8Array;
  #taken = 0;
  #hasAsked = false;

  constructor(bridge: ViewBridge, context: QueueContext) {
    this.#bridge = bridge;
    this.#memory = new BridgeMemory(bridge.depth, bridge.shared);
    this.#requests = new Array<Request>(context.depth);
    this.#isAsked = new Uint8Array(context.depth);
    new RingEvent(context.ring, bridge.answerEvent).listen(() => {
      this.#takeAnswers();
      if (this.#isEnded) this.#failAll();
    });
    context.afterBatch(() => {
      if (this.#hasAsked) signalEvent(this.#bridge.askEvent);
      this.#hasAsked = false;
    });
  }

  get #isEnded(): boolean {
    return Atomics.load(this.#memory.control, BRIDGE.closed) !== 0;
  }

  submit(request: Request): void {
    if (this.#isEnded) {
      request.answer(-ERRNO.EIO);
      return;
    }
    const memory = this.#memory;
    const { slot } = request;
    this.#requests[slot] = request;
    this.#isAsked[slot] = 1;
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
      this.#isAsked[slot] = 0;
      (this.#requests[slot] as Request).answer(memory.result(slot));
    }
  }

  #failAll(): void {
    for (let slot = 0; slot < this.#isAsked.length; slot++) {
      if (this.#isAsked[slot] === 0) continue;
      this.#isAsked[slot] = 0;
      (this.#requests[slot] as Request).answer(-ERRNO.EIO);
    }
  }
}

/** The entry that a queue calls (TargetModule). */
export function openTarget(bridge: ViewBridge, context: QueueContext): Target {
  return new ViewTarget(bridge, context);
}
