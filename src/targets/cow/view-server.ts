/**
 * Serves points to other devices' threads, from the thread of the volume: requests come over a bridge, data go straight into
 * the asking queue's buffers.
 *
 * Invariant: a buffer of another queue is written to only between a request and its answer: that queue's device is not
 * stopped before all its requests have been answered, and its buffers live until then.
 */
import { BRIDGE, BridgeMemory } from "../../ublk/bridge.ts";
import { RingEvent, signalEvent } from "../../ublk/event.ts";
import { native } from "../../ublk/native.ts";
import { Request, type Layer, type Operation, type Submission } from "../../ublk/request.ts";
import type { Ring } from "../../ublk/ring.ts";
import type { QueueContext } from "../../ublk/target.ts";
import type { ViewBridge } from "./cow-orders.ts";
import type { PointReader } from "./point-reader.ts";

class ViewServer implements Layer {
  readonly #bridge: ViewBridge;
  readonly #memory: BridgeMemory;
  readonly #view: Submission;
  readonly #requests: (Request | undefined)[];
  #taken = 0;
  isDetached = false;
  hasAnswered = false;

  constructor(bridge: ViewBridge, view: Submission, ring: Ring) {
    this.#bridge = bridge;
    this.#memory = new BridgeMemory(bridge.depth, bridge.shared);
    this.#view = view;
    this.#requests = new Array<Request | undefined>(bridge.depth).fill(undefined);
    new RingEvent(ring, bridge.askEvent).listen(() => this.#takeAsked());
  }

  #takeAsked(): void {
    const memory = this.#memory;
    const submitted = Atomics.load(memory.control, BRIDGE.submitted);
    while (!this.isDetached && this.#taken !== submitted) {
      const slot = memory.submittedSlots[(this.#taken >>> 0) % memory.depth] as number;
      this.#taken = (this.#taken + 1) | 0;
      const request = this.#requestOf(slot);
      request.operation = memory.operation(slot) as Operation;
      request.offset = memory.offset(slot);
      request.length = memory.length(slot);
      request.pass(this.#view, this);
    }
  }

  #requestOf(slot: number): Request {
    const known = this.#requests[slot];
    if (known !== undefined) return known;
    const address = this.#memory.bufferAddress(slot);
    const request = new Request(slot, new Uint8Array(native.view(address, this.#bridge.maxIoBytes)), address);
    this.#requests[slot] = request;
    return request;
  }

  answered(request: Request, result: number): void {
    const memory = this.#memory;
    memory.answer(request.slot, result);
    const answered = Atomics.load(memory.control, BRIDGE.answered);
    memory.answeredSlots[(answered >>> 0) % memory.depth] = request.slot;
    Atomics.store(memory.control, BRIDGE.answered, (answered + 1) | 0);
    this.hasAnswered = true;
  }

  /** At the end of a batch: wakes whoever was answered. */
  wake(): void {
    if (this.hasAnswered) signalEvent(this.#bridge.answerEvent);
    this.hasAnswered = false;
  }
}

export class ViewServers {
  readonly #reader: PointReader;
  readonly #ring: Ring;
  readonly #servers = new Map<number, ViewServer>();

  constructor(reader: PointReader, context: Pick<QueueContext, "ring" | "afterBatch">) {
    this.#reader = reader;
    this.#ring = context.ring;
    context.afterBatch(() => {
      for (const server of this.#servers.values()) server.wake();
    });
  }

  attach(epoch: number, bridge: ViewBridge): void {
    this.#servers.set(epoch, new ViewServer(bridge, this.#reader.view(epoch), this.#ring));
  }

  detach(epoch: number): void {
    const server = this.#servers.get(epoch);
    if (server !== undefined) server.isDetached = true;
    this.#servers.delete(epoch);
  }
}
