/**
 * The thread of one queue as the device sees it: what it is told, what it tells, and how it ended.
 *
 * Invariant: a thread that has ended, however it did, leaves nobody waiting: each wait for a report of it is rejected.
 */
import { Worker, type Transferable } from "node:worker_threads";
import { messageOf, UblkError } from "./errors.ts";
import { signalEvent } from "./event.ts";
import { native } from "./native.ts";
import type { QueueOrder, QueueReport, QueueWorkerData } from "./queue-worker.ts";
import { QueueStatistics } from "./statistics.ts";

/** Nothing is allocated per request, so there is little to collect. */
const YOUNG_GENERATION_MIB = 3;

/** Thread, wake event and counters of one queue, as the device sees them. */
export interface QueueThread {
  readonly wakeEvent: number;
  readonly statistics: QueueStatistics;
  readonly ended: Promise<unknown>;
  expect(type: QueueReport["type"]): Promise<void>;
  order(order: QueueOrder): void;
  /** Gives the target an order, once requests are being served; gives its answer. What is in `moved` goes over to it. */
  ask(order: unknown, moved: readonly Transferable[]): Promise<unknown>;
}

const WORKER_URL = new URL(
  import.meta.url.endsWith(".ts") ? "./queue-worker.ts" : "./queue-worker.js",
  import.meta.url,
);

export function startQueueThread(data: Omit<QueueWorkerData, "wakeEvent" | "statistics">): QueueThread {
  const wakeEvent = native.eventDescriptor();
  const statistics = new QueueStatistics();
  const workerData: QueueWorkerData = { ...data, wakeEvent, statistics: statistics.shared };
  const name = `ublk${data.device}q${data.queue}`;
  const resourceLimits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB };
  const worker = new Worker(WORKER_URL, { workerData, name, trackUnmanagedFds: false, resourceLimits });
  let failed: UblkError | undefined;
  let hasEnded = false;
  const waiting = new Map<QueueReport["type"], PromiseWithResolvers<undefined>>();
  const settle = (type: QueueReport["type"]): PromiseWithResolvers<undefined> => {
    const found = waiting.get(type) ?? Promise.withResolvers<undefined>();
    waiting.set(type, found);
    found.promise.catch(() => undefined);
    return found;
  };
  /** Orders that the target has not answered, by their number. */
  const asked = new Map<number, PromiseWithResolvers<unknown>>();
  let lastAsked = 0;
  const end = Promise.withResolvers<undefined>();
  end.promise.catch(() => undefined);
  const finish = (error: UblkError | undefined): void => {
    const reason = error ?? new UblkError("EQUEUE", `Queue ${data.queue} of device ${data.device} has ended`);
    for (const waiter of waiting.values()) waiter.reject(reason);
    for (const waiter of asked.values()) waiter.reject(reason);
    if (failed === undefined) failed = reason;
    if (error === undefined) end.resolve(undefined);
    else end.reject(error);
  };
  worker.on("message", (message: QueueReport) => {
    if (message.type === "failed") failed = new UblkError(message.code ?? "EQUEUE", message.message);
    else if (message.type === "ended") hasEnded = true;
    else if (message.type === "answer") {
      asked.get(message.id)?.resolve(message.answer);
      asked.delete(message.id);
    } else settle(message.type).resolve(undefined);
  });
  worker.on("error", (cause) => {
    failed = new UblkError("EQUEUE", messageOf(cause), { cause });
  });
  worker.on("exit", () => {
    finish(failed ?? (hasEnded ? undefined : new UblkError("EQUEUE", "its thread ended without a word")));
  });
  const order = (given: QueueOrder, moved: readonly Transferable[] = []): void => {
    worker.postMessage(given, moved);
    signalEvent(wakeEvent);
  };
  return {
    wakeEvent,
    statistics,
    ended: end.promise,
    expect: async (type) => {
      if (failed !== undefined) throw failed;
      await settle(type).promise;
      waiting.delete(type);
    },
    order,
    ask: async (given, moved) => {
      if (failed !== undefined) throw failed;
      const id = ++lastAsked;
      const answer = Promise.withResolvers<unknown>();
      asked.set(id, answer);
      order({ type: "target", id, order: given }, moved);
      return answer.promise;
    },
  };
}
