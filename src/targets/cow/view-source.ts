/** What a device that shows a point is served by. */
import { closeSync } from "node:fs";
import { BRIDGE, BridgeMemory } from "../../ublk/bridge.ts";
import { signalEvent } from "../../ublk/event.ts";
import { native } from "../../ublk/native.ts";
import type { TargetSource } from "../../ublk/target.ts";
import type { ViewBridge } from "./cow-orders.ts";

const MODULE = new URL(import.meta.url.endsWith(".ts") ? "./view-target.ts" : "./view-target.js", import.meta.url).href;

/** A bridge for a device with queues of this depth, to be closed with `closeView`. */
export function newViewBridge(depth: number, maxIoBytes: number): ViewBridge {
  return {
    shared: new BridgeMemory(depth).shared,
    depth,
    maxIoBytes,
    askEvent: native.eventDescriptor(),
    answerEvent: native.eventDescriptor(),
  };
}

/** The thread that served the view has ended by itself: requests are answered with EIO from now on. */
export function endView({ shared, depth, answerEvent }: ViewBridge): void {
  Atomics.store(new BridgeMemory(depth, shared).control, BRIDGE.closed, 1);
  signalEvent(answerEvent);
}

/** Neither thread uses it any more. */
export function closeView({ askEvent, answerEvent }: ViewBridge): void {
  closeSync(askEvent);
  closeSync(answerEvent);
}

export function viewSource(bridge: ViewBridge): TargetSource {
  return { module: MODULE, options: bridge };
}
