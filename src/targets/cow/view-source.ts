/** What a device that shows a point is served by. */
import { BridgeMemory } from "../../ublk/bridge.ts";
import { native } from "../../ublk/native.ts";
import type { TargetSource } from "../../ublk/target.ts";
import type { ViewBridge } from "./cow-orders.ts";

const MODULE = new URL(import.meta.url.endsWith(".ts") ? "./view-target.ts" : "./view-target.js", import.meta.url).href;

/** A bridge for a device with queues of this depth. Its eventfds are the caller's to close. */
export function newViewBridge(depth: number, maxIoBytes: number): ViewBridge {
  return {
    shared: new BridgeMemory(depth).shared,
    depth,
    maxIoBytes,
    askEvent: native.eventDescriptor(),
    answerEvent: native.eventDescriptor(),
  };
}

export function viewSource(bridge: ViewBridge): TargetSource {
  return { module: MODULE, options: bridge };
}
