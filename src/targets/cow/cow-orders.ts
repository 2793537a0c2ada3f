/**
 * What the owner of a volume asks of its copy-on-write, and is answered. Crosses between threads (Device.order).
 */
import { ERRNO } from "../../ublk/errors.ts";
import type { Point, PointKind } from "./catalog.ts";
import type { ByteRange } from "./byte-range.ts";
import type { CowTarget } from "./cow-target.ts";
import type { HeatMap } from "./heat.ts";
import type { BlockRun } from "./points.ts";
import type { ViewServers } from "./view-server.ts";

export type CowOrder =
  | { readonly kind: "list" }
  | {
      readonly kind: "take";
      readonly point: PointKind;
      readonly name: string;
      readonly createdMs: number;
      /** Blocks that the copy of the point never reads: see "pass". */
      readonly passed?: readonly BlockRun[];
    }
  /** Nothing but reads goes on between the two. */
  | { readonly kind: "hold" }
  | { readonly kind: "release" }
  | { readonly kind: "mark"; readonly epoch: number }
  | { readonly kind: "drop"; readonly epoch: number }
  /** `to` is Infinity for now. */
  | { readonly kind: "diff"; readonly from: number; readonly to: number }
  /** Reads parts of what a point shows into shared memory, one behind the other. */
  | {
      readonly kind: "read";
      readonly epoch: number;
      readonly ranges: readonly ByteRange[];
      readonly shared: SharedArrayBuffer;
    }
  /** The copy of a point never reads these blocks again: CowTarget.pass. */
  | { readonly kind: "pass"; readonly epoch: number; readonly runs: readonly BlockRun[] }
  | { readonly kind: "heat" }
  /** Serves a point to the thread of another device. */
  | { readonly kind: "attach"; readonly epoch: number; readonly view: ViewBridge }
  /** That thread has ended. */
  | { readonly kind: "detach"; readonly epoch: number };

/** The memory between a device that shows a point and the volume's own thread. */
export interface ViewBridge {
  readonly shared: SharedArrayBuffer;
  readonly depth: number;
  readonly maxIoBytes: number;
  /** Eventfds: one wakes the volume's thread, one the thread of the device that shows the point. */
  readonly askEvent: number;
  readonly answerEvent: number;
}

/** A negative errno where it could not be done. */
export type CowAnswer =
  | { readonly error: number }
  | { readonly points: readonly Point[] }
  | { readonly blocks: Float64Array }
  | { readonly heat: HeatMap };

/** Carries out an order in the thread of the volume. */
export function obeyCow(
  cow: CowTarget,
  views: ViewServers,
  order: CowOrder,
  answer: (answer: CowAnswer) => void,
): void {
  const list = (): void => answer({ points: cow.points });
  switch (order.kind) {
    case "list":
      list();
      break;
    case "take":
      cow.takePoint(
        order.point,
        order.name,
        order.createdMs,
        (result) => {
          if (typeof result === "number") answer({ error: result });
          else answer({ points: [result] });
        },
        order.passed,
      );
      break;
    case "mark":
      cow.markPoint(order.epoch, (result) => {
        if (typeof result === "number") answer({ error: result });
        else answer({ points: [result] });
      });
      break;
    case "hold":
      cow.holdBack();
      list();
      break;
    case "release":
      cow.letGo();
      list();
      break;
    case "drop":
      cow.dropPoint(order.epoch, (result) => {
        if (result === 0) list();
        else answer({ error: result });
      });
      break;
    case "diff":
      cow.diff(order.from, order.to, (blocks) => answer(blocks === null ? { error: -ERRNO.ENOENT } : { blocks }));
      break;
    case "read":
      cow.reader.readRanges(order.epoch, order.ranges, order.shared, (error) => {
        answer(error < 0 ? { error } : { points: [] });
      });
      break;
    case "pass":
      cow.pass(order.epoch, order.runs);
      list();
      break;
    case "heat":
      answer({ heat: cow.readHeat() });
      break;
    case "attach":
      if (cow.points.some(({ epoch, state }) => epoch === order.epoch && state === "valid")) {
        views.attach(order.epoch, order.view);
        list();
      } else answer({ error: -ERRNO.ENOENT });
      break;
    case "detach":
      views.detach(order.epoch);
      list();
      break;
  }
}
