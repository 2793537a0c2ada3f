/** What the owner of a mirrored volume and the thread that keeps it tell each other. Crosses between threads. */
import type { FileOptions } from "../targets/file.ts";
import type { PointState } from "../targets/cow/catalog.ts";
import type { ViewBridge } from "../targets/cow/cow-orders.ts";
import type { BasePoint } from "./found-log.ts";
import type { FrameType } from "./frame.ts";
import type { Generation } from "./generations.ts";
import type { Granted } from "./messages.ts";
import type { PointRun } from "./point-items.ts";
import type { TransferId } from "./transfer-id.ts";

/** What the thread is given: all files are open in this process. */
export interface ReceiveWorkerData {
  readonly volume: string;
  readonly mark: bigint;
  readonly volumeBytes: number;
  /** Of a consistency point. */
  readonly blockBytes: number;
  /** What the image was when its log was made; null where nothing is known of it. */
  readonly base: BasePoint | null;
  /** Closed points that there are to be. */
  readonly keep: number;
  readonly image: FileOptions;
  readonly log: Descriptors;
  readonly store: Descriptors;
  readonly lossNotePath: string;
  /** An eventfd: to be signalled behind each order. */
  readonly wakeEvent: number;
}

export interface Descriptors {
  /** For the ring, O_DIRECT where that is possible; and for plain reads and writes. */
  readonly fd: number;
  readonly plainFd: number;
}

export interface Frame {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

export interface ReceivedFrame extends Frame {
  /** CRC-32 of the payload, as it was checked. */
  readonly checksum: number;
}

/** Connections have numbers, so that what is late goes nowhere. */
export type ReceiveOrder =
  /** What an earlier source has sent becomes durable: answered with Settled. */
  | { readonly type: "settle"; readonly id: number }
  /** Answered with Settled as well, at once. */
  | { readonly type: "state"; readonly id: number }
  /** Answered with Granted. */
  | {
      readonly type: "connect";
      readonly id: number;
      readonly connection: number;
      readonly incarnation: number;
      readonly generation: Generation;
      /** SourceConnection.lacks. */
      readonly lacks: readonly PointRun[];
    }
  /** There will be no source any more: Receiver.finish. Answered with Finished. */
  | { readonly type: "finish"; readonly id: number }
  | {
      readonly type: "frames";
      readonly connection: number;
      readonly frames: readonly ReceivedFrame[];
      readonly bytes: number;
    }
  | { readonly type: "disconnect"; readonly connection: number }
  /** Answered with Kept. */
  | { readonly type: "status"; readonly id: number }
  /** A closed point, null for the last one, is not dropped from now on. Answered with KeptPoint, or refused. */
  | { readonly type: "hold"; readonly id: number; readonly point: number | null }
  /** Serves a point that is held to the thread of a device. Answered with null. */
  | { readonly type: "show"; readonly id: number; readonly point: number; readonly view: ViewBridge }
  /** That thread has ended, and the point is not held any more. */
  | { readonly type: "let-go"; readonly point: number }
  /** Whoever waits for a point to be held is refused. */
  | { readonly type: "end-awaiting" }
  /** What is under way ends, what was received becomes durable, and the thread ends. */
  | { readonly type: "quit" }
  /** The thread ends, whatever is under way. */
  | { readonly type: "abandon" };

export type ReceiveReport =
  | { readonly type: "opened" | "ended" }
  | {
      readonly type: "answer";
      readonly id: number;
      readonly answer: Settled | Granted | Kept | KeptPoint | Finished | null;
    }
  /** What was asked is not done, and all goes on. */
  | { readonly type: "refused"; readonly id: number; readonly code: string; readonly message: string }
  /** Frames for the source; so many bytes of its own frames have been dealt with. */
  | { readonly type: "frames"; readonly connection: number; readonly frames: readonly Frame[]; readonly taken: number }
  /** What the source has sent may not be: the connection is to be closed. */
  | { readonly type: "fault"; readonly connection: number; readonly code: string; readonly message: string }
  | { readonly type: "warning"; readonly message: string }
  /** The volume goes on no more. */
  | { readonly type: "failed"; readonly code: string; readonly message: string };

export interface Settled {
  readonly lastTransfer: TransferId;
  readonly lastPoint: number;
  /** Of the source that the last closed point came from. Null where the log does not tell: then nobody knows what the image is. */
  readonly lastGeneration: Generation | null;
  /** The image is, or will be, a closed point and nothing else. */
  readonly isWhole: boolean;
  /** Null where there is none. */
  readonly lastClosed: KeptPoint | null;
  /** What the log has room for. */
  readonly logBytes: number;
}

/** All that was committed is in the image. */
export interface Finished {
  /** What the image is; or what it is to be put back to, where it is not whole. */
  readonly lastClosed: KeptPoint;
  /** Null where the image is whole; else the epoch of the point in the store that it has to be put back to. */
  readonly rollBackTo: number | null;
}

/** A closed point. */
export interface KeptPoint {
  readonly point: number;
  /** The moment of the source that it is; null where that is not known any more. */
  readonly createdMs: number | null;
  readonly state: PointState;
}

export interface Kept {
  readonly lastTransfer: TransferId;
  readonly lastPoint: number;
  /** What is shown; null where there is none. */
  readonly lastClosed: KeptPoint | null;
  /** Beside the image, the oldest first. */
  readonly points: readonly KeptPoint[];
  /** In bytes. */
  readonly log: { readonly used: number; readonly size: number };
  readonly store: { readonly used: number; readonly size: number };
  /** The store has no room for what the next point overwrites: it waits. */
  readonly isStoreFull: boolean;
}
