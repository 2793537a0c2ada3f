/**
 * The thread of one volume that is mirrored to here: takes what its source sends, keeps it in the log, and brings the image from
 * point to point.
 *
 * While it serves, the thread waits in the ring and nowhere else; orders are read when the wake event fires.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { codeOf, errnoName, errnoText, messageOf, UblkError } from "../ublk/errors.ts";
import { RingEvent } from "../ublk/event.ts";
import { Ring } from "../ublk/ring.ts";
import type { FrameType } from "./frame.ts";
import { openReceiver, type OpenReceiver } from "./open-receiver.ts";
import type { Frame, ReceivedFrame, ReceiveOrder, ReceiveReport, ReceiveWorkerData } from "./receive-orders.ts";

/** More than what log, applier and copy-on-write have under way at once. */
const RING_ENTRIES = 1024;

const port = parentPort;
if (port === null) throw new Error("receive-worker is a worker thread");
const data = workerData as ReceiveWorkerData;

function report(what: ReceiveReport): void {
  port?.postMessage(what);
}

class Service {
  readonly #ring: Ring;
  readonly #open: OpenReceiver;
  /** Of the connection that there is; 0 for none. */
  #connection = 0;
  /** For the source, and how much of its own was dealt with, since the last turn. */
  #frames: Frame[] = [];
  #taken = 0;
  #isQuitting = false;
  #isSettled = false;
  #isAbandoned = false;

  constructor(ring: Ring) {
    this.#ring = ring;
    this.#open = openReceiver(data, ring, (message) => {
      report({ type: "warning", message });
    });
    this.#open.receiver.whenFailed = (result) => {
      // What the gate has cut off is no failure.
      if (this.#isQuitting) return;
      const message = `log, image or store have failed: ${errnoText(-result)}`;
      report({ type: "failed", code: errnoName(-result), message });
    };
    new RingEvent(ring, data.wakeEvent).listen(() => {
      this.#obeyAll();
    });
  }

  /** Serves until it is told to quit. */
  run(): void {
    const { applier, replay, gate, cow, status } = this.#open;
    const isIdle = (): boolean => applier.isIdle && replay.isIdle && gate.isIdle;
    while (!this.#isAbandoned && !(this.#isQuitting && this.#isSettled && isIdle())) {
      this.#ring.submitAndWait();
      this.#ring.reap();
      this.#open.afterBatch();
      this.#tell();
      // What waits for room in the store waits for good.
      if (this.#isQuitting && this.#isSettled && status().isStoreFull) return;
    }
    if (this.#isAbandoned) return;
    cow.close();
    // A point may have been taken meanwhile, and what follows it have begun.
    this.#ring.waitUntil(isIdle);
  }

  #tell(): void {
    if (this.#frames.length === 0 && this.#taken === 0) return;
    report({ type: "frames", connection: this.#connection, frames: this.#frames, taken: this.#taken });
    this.#frames = [];
    this.#taken = 0;
  }

  #obeyAll(): void {
    for (;;) {
      const received = port === null ? undefined : receiveMessageOnPort(port);
      if (received === undefined) return;
      this.#obey(received.message as ReceiveOrder);
    }
  }

  #obey(order: ReceiveOrder): void {
    const { receiver, log, gate, settled, status, finished, hold, show, letGo, endAwaiting } = this.#open;
    switch (order.type) {
      case "settle":
        this.#disconnect();
        receiver.settle(() => {
          report({ type: "answer", id: order.id, answer: settled() });
        });
        break;
      case "state":
        report({ type: "answer", id: order.id, answer: settled() });
        break;
      case "connect": {
        this.#disconnect();
        const { id, connection, incarnation, generation, lacks } = order;
        this.#connection = connection;
        const send = (type: FrameType, payload: Uint8Array): void => void this.#frames.push({ type, payload });
        report({ type: "answer", id, answer: receiver.connect({ incarnation, generation, lacks, send }) });
        receiver.endBatch();
        break;
      }
      case "finish":
        this.#disconnect();
        receiver.finish(() => {
          try {
            report({ type: "answer", id: order.id, answer: finished() });
          } catch (error) {
            const code = codeOf(error) ?? "EIO";
            report({ type: "failed", code, message: messageOf(error) });
          }
        });
        break;
      case "frames":
        if (order.connection === this.#connection) this.#take(order.frames, order.bytes);
        break;
      case "disconnect":
        if (order.connection === this.#connection) this.#disconnect();
        break;
      case "status":
        report({ type: "answer", id: order.id, answer: status() });
        break;
      case "hold":
        hold(order.point, (held) => {
          const { id } = order;
          if (held instanceof UblkError) report({ type: "refused", id, code: held.code, message: held.message });
          else report({ type: "answer", id, answer: held });
        });
        break;
      case "show":
        show(order.point, order.view);
        // Its owner may close the events of a bridge that the kernel has been told to poll, and no others.
        this.#ring.submit();
        report({ type: "answer", id: order.id, answer: null });
        break;
      case "let-go":
        letGo(order.point);
        break;
      case "end-awaiting":
        endAwaiting();
        break;
      case "quit":
        this.#isQuitting = true;
        this.#disconnect();
        gate.close();
        log.sync(() => {
          this.#isSettled = true;
        });
        break;
      case "abandon":
        this.#isAbandoned = true;
        break;
    }
  }

  #disconnect(): void {
    this.#tell();
    this.#open.receiver.disconnect();
    this.#connection = 0;
  }

  #take(frames: readonly ReceivedFrame[], bytes: number): void {
    const { receiver } = this.#open;
    this.#taken += bytes;
    try {
      for (const { type, payload, checksum } of frames) receiver.take(type, payload, checksum);
      receiver.endBatch();
    } catch (error) {
      if (!(error instanceof UblkError)) throw error;
      const connection = this.#connection;
      this.#disconnect();
      report({ type: "fault", connection, code: error.code, message: error.message });
    }
  }
}

try {
  using ring = new Ring({ entries: RING_ENTRIES, singleThread: true });
  const service = new Service(ring);
  report({ type: "opened" });
  service.run();
  report({ type: "ended" });
} catch (error) {
  report({ type: "failed", code: codeOf(error) ?? "EFAULT", message: messageOf(error) });
}
port.close();
