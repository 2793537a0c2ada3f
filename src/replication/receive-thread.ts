/**
 * The thread of a mirrored volume as its owner sees it: what it is told, what it tells, and how it ended.
 *
 * Invariant: a thread that has ended, however it did, and one whose volume has failed, leave nobody waiting: what was asked of
 * them is rejected.
 */
import { closeSync } from "node:fs";
import { isMarkedAsUntransferable, Worker } from "node:worker_threads";
import type { ViewBridge } from "../targets/cow/cow-orders.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { signalEvent } from "../ublk/event.ts";
import { native } from "../ublk/native.ts";
import type { Granted } from "./messages.ts";
import type { SourceConnection } from "./receiver.ts";
import type {
  Finished,
  Frame,
  Kept,
  KeptPoint,
  ReceivedFrame,
  ReceiveOrder,
  ReceiveReport,
  ReceiveWorkerData,
  Settled,
} from "./receive-orders.ts";

/** How long what is under way may take to end. */
const QUIT_PATIENCE_MS = 5_000;
/** One piece of memory may be large, and is moved; what has to be collected is little. */
const YOUNG_GENERATION_MIB = 3;

const WORKER_URL = new URL(
  import.meta.url.endsWith(".ts") ? "./receive-worker.ts" : "./receive-worker.js",
  import.meta.url,
);

export interface ReceiveThreadEvents {
  /** For the source of a connection, whose own frames were dealt with: so many bytes of them. */
  onFrames(connection: number, frames: readonly Frame[], taken: number): void;
  /** The source of a connection has sent what may not be. */
  onFault(connection: number, error: UblkError): void;
  onWarning(message: string): void;
  /** The volume goes on no more. Told once. */
  onFailed(error: UblkError): void;
}

export class ReceiveThread {
  readonly #worker: Worker;
  readonly #wakeEvent: number;
  readonly #events: ReceiveThreadEvents;
  readonly #opened = Promise.withResolvers<undefined>();
  readonly #exited = Promise.withResolvers<undefined>();
  /** By number: what was asked and is not answered. */
  readonly #asked = new Map<number, PromiseWithResolvers<unknown>>();
  #lastAsked = 0;
  #failure: UblkError | undefined;
  #isQuitting = false;
  #hasExited = false;

  private constructor(data: Omit<ReceiveWorkerData, "wakeEvent">, events: ReceiveThreadEvents) {
    this.#events = events;
    this.#wakeEvent = native.eventDescriptor();
    const workerData: ReceiveWorkerData = { ...data, wakeEvent: this.#wakeEvent };
    const resourceLimits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB };
    this.#worker = new Worker(WORKER_URL, {
      workerData,
      name: `receive ${data.volume}`,
      trackUnmanagedFds: false,
      resourceLimits,
    });
    this.#opened.promise.catch(() => undefined);
    this.#worker.on("message", (message: ReceiveReport) => {
      this.#hear(message);
    });
    this.#worker.on("error", (cause) => {
      this.#fail(new UblkError("ERECEIVE", messageOf(cause), { cause }));
    });
    this.#worker.on("exit", () => {
      this.#hasExited = true;
      if (!this.#isQuitting) this.#fail(new UblkError("ERECEIVE", "its thread has ended"));
      this.#rejectAll(new UblkError("ERECEIVE", "its thread has ended"));
      closeSync(this.#wakeEvent);
      this.#exited.resolve(undefined);
    });
  }

  /** Resolves when the volume is open. Throws what opening it throws; the thread has ended then. */
  static async start(data: Omit<ReceiveWorkerData, "wakeEvent">, events: ReceiveThreadEvents): Promise<ReceiveThread> {
    const thread = new ReceiveThread(data, events);
    try {
      await thread.#opened.promise;
    } catch (error) {
      await thread.#exited.promise;
      throw error;
    }
    return thread;
  }

  #hear(message: ReceiveReport): void {
    switch (message.type) {
      case "opened":
        this.#opened.resolve(undefined);
        break;
      case "ended":
        break;
      case "answer":
        this.#asked.get(message.id)?.resolve(message.answer);
        this.#asked.delete(message.id);
        break;
      case "refused":
        this.#asked.get(message.id)?.reject(new UblkError(message.code, message.message));
        this.#asked.delete(message.id);
        break;
      case "frames":
        this.#events.onFrames(message.connection, message.frames, message.taken);
        break;
      case "fault":
        this.#events.onFault(message.connection, new UblkError(message.code, message.message));
        break;
      case "warning":
        this.#events.onWarning(message.message);
        break;
      case "failed":
        this.#fail(new UblkError(message.code, message.message));
        break;
    }
  }

  #fail(error: UblkError): void {
    this.#opened.reject(error);
    this.#rejectAll(error);
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#events.onFailed(error);
  }

  #rejectAll(error: UblkError): void {
    for (const waiter of this.#asked.values()) waiter.reject(error);
    this.#asked.clear();
  }

  #order(order: ReceiveOrder, moved: readonly ArrayBuffer[] = []): void {
    if (this.#hasExited) return;
    this.#worker.postMessage(order, moved);
    signalEvent(this.#wakeEvent);
  }

  async #ask(order: (id: number) => ReceiveOrder): Promise<unknown> {
    if (this.#hasExited) throw this.#failure ?? new UblkError("ERECEIVE", "its thread has ended");
    const id = ++this.#lastAsked;
    const waiter = Promise.withResolvers<unknown>();
    this.#asked.set(id, waiter);
    this.#order(order(id));
    return waiter.promise;
  }

  /** Ends the connection that there is. Resolves when all that it has brought is durable. */
  async settle(): Promise<Settled> {
    if (this.#failure !== undefined) throw this.#failure;
    return (await this.#ask((id) => ({ type: "settle", id }))) as Settled;
  }

  /** What the log has, durable or not, while a connection goes on. */
  async state(): Promise<Settled> {
    return (await this.#ask((id) => ({ type: "state", id }))) as Settled;
  }

  /** Begins with a source; resolves with what it may send. */
  async connect(
    connection: number,
    source: Pick<SourceConnection, "incarnation" | "generation" | "lacks">,
  ): Promise<Granted> {
    return (await this.#ask((id) => ({ type: "connect", id, connection, ...source }))) as Granted;
  }

  /** There will be no source any more: resolves when the image is at the last moment that is known here. */
  async finish(): Promise<Finished> {
    return (await this.#ask((id) => ({ type: "finish", id }))) as Finished;
  }

  /** Frames of a source, of so many bytes. Their memory is gone here afterwards. */
  frames(connection: number, frames: readonly ReceivedFrame[], bytes: number): void {
    const moved = new Set<ArrayBuffer>();
    const own = frames.map((frame) => ({ ...frame, payload: ownMemory(frame.payload, moved) }));
    this.#order({ type: "frames", connection, frames: own, bytes }, [...moved]);
  }

  disconnect(connection: number): void {
    this.#order({ type: "disconnect", connection });
  }

  async status(): Promise<Kept> {
    return (await this.#ask((id) => ({ type: "status", id }))) as Kept;
  }

  /**
   * A closed point, null for the last one, is not dropped from now on; resolves when the image has been brought to it. Throws
   * ENOPOINT, ENOENT, EINVALID, ENOSPC where the image waits for room, and ECANCELED after `endAwaiting`.
   */
  async hold(point: number | null): Promise<KeptPoint> {
    return (await this.#ask((id) => ({ type: "hold", id, point }))) as KeptPoint;
  }

  /** Serves a point that is held to the thread of a device. What the view needs may be closed when this has resolved, not before. */
  async show(point: number, view: ViewBridge): Promise<void> {
    await this.#ask((id) => ({ type: "show", id, point, view }));
  }

  /** A point is not held any more, and its device, if there was one, is gone. */
  letGo(point: number): void {
    this.#order({ type: "let-go", point });
  }

  /** Whoever waits for the image to be brought to a point is refused. */
  endAwaiting(): void {
    this.#order({ type: "end-awaiting" });
  }

  /** Resolves when the thread has ended, however it did. */
  get exited(): Promise<undefined> {
    return this.#exited.promise;
  }

  /** Resolves when the thread has ended: what was received is durable by then, if that was possible in some seconds. */
  async quit(): Promise<void> {
    this.#isQuitting = true;
    this.#order({ type: "quit" });
    const timer = setTimeout(() => {
      this.#order({ type: "abandon" });
    }, QUIT_PATIENCE_MS);
    await this.#exited.promise;
    clearTimeout(timer);
  }
}

/**
 * A payload in memory that can be moved to another thread: its own, if it was put together of pieces. That of a piece of the
 * stream belongs to the stream, which may go on using it, as TLS does.
 */
function ownMemory(payload: Uint8Array, moved: Set<ArrayBuffer>): Uint8Array {
  const { buffer } = payload;
  const isOwn = buffer instanceof ArrayBuffer && payload.length > 0 && payload.length === buffer.byteLength;
  if (!isOwn || isMarkedAsUntransferable(buffer)) return new Uint8Array(payload);
  moved.add(buffer);
  return payload;
}
