/**
 * The thread of one queue: opens the target, fetches when told to, serves until the kernel has taken every tag back.
 *
 * While it serves, the thread waits in the ring and nowhere else; messages are read when the wake event fires.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { codeOf, messageOf } from "./errors.ts";
import { native } from "./native.ts";
import { Queue } from "./queue.ts";
import type { Limits, Target, TargetModule, TargetSource } from "./target.ts";

/** What the thread is given. */
export interface QueueWorkerData {
  readonly device: number;
  readonly queue: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly limits: Limits;
  readonly deviceFile: number;
  readonly wakeEvent: number;
  readonly statistics: SharedArrayBuffer;
  readonly source: TargetSource;
  /** The kernel's bitmap of the CPUs that the queue belongs to; null to run anywhere. */
  readonly affinity: Uint8Array | null;
  readonly protectMemory: boolean;
  /** Fetch without CAP_SYS_ADMIN, so that START does not read the partition table (see device.ts). */
  readonly withoutAdmin: boolean;
}

/** What the device tells the thread. */
export type QueueOrder =
  | { readonly type: "fetch" }
  | { readonly type: "resize"; readonly sizeBytes: number }
  | { readonly type: "target"; readonly id: number; readonly order: unknown }
  | { readonly type: "quit" };

/** What the thread tells the device. */
export type QueueReport =
  | { readonly type: "opened" | "fetched" | "resized" | "ended" }
  | { readonly type: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly type: "failed"; readonly code: string | undefined; readonly message: string };

const CAP_SYS_ADMIN = 21;

const port = parentPort;
if (port === null) throw new Error("queue-worker is a worker thread");
const data = workerData as QueueWorkerData;

function report(what: QueueReport): void {
  port?.postMessage(what);
}

function nextOrder(): Promise<QueueOrder> {
  return new Promise((resolve) => port?.once("message", resolve));
}

async function openTarget(queue: Queue): Promise<Target> {
  const module = (await import(data.source.module)) as TargetModule<unknown>;
  return module.openTarget(data.source.options, queue.context);
}

/** Carries out the orders that have arrived while the thread was serving. */
function obeyOrders(queue: Queue): void {
  for (;;) {
    const received = port === null ? undefined : receiveMessageOnPort(port);
    if (received === undefined) return;
    const order = received.message as QueueOrder;
    switch (order.type) {
      case "resize":
        queue.resize(order.sizeBytes);
        report({ type: "resized" });
        break;
      case "target":
        queue.obey(order.order, (answer) => report({ type: "answer", id: order.id, answer }));
        break;
      case "quit":
        queue.stop();
        break;
      case "fetch":
        throw new Error("A queue is fetched once");
    }
  }
}

async function run(): Promise<void> {
  if (data.protectMemory) native.setIoFlusher();
  if (data.affinity !== null) native.setAffinity(data.affinity);
  let obey = (): void => undefined;
  using queue = new Queue({ ...data, lockMemory: data.protectMemory, onWake: () => obey() });
  obey = (): void => obeyOrders(queue);
  const target = await openTarget(queue);
  report({ type: "opened" });
  const order = await nextOrder();
  if (order.type !== "fetch") return;
  if (data.withoutAdmin) native.dropCapability(CAP_SYS_ADMIN);
  queue.fetch(target);
  report({ type: "fetched" });
  queue.serve();
}

try {
  await run();
  report({ type: "ended" });
} catch (error) {
  report({
    type: "failed",
    code: codeOf(error),
    message: error instanceof Error ? (error.stack ?? error.message) : messageOf(error),
  });
}
port.close();
