/**
 * What serves requests: the interface of every target, and what a target is given when it is opened.
 *
 * A target lives in the worker thread of one queue, and is opened once per queue. It answers each request that it is
 * given exactly once, at once or later from a completion of the ring, in any order.
 */
import type { Request } from "./request.ts";
import type { Ring } from "./ring.ts";
import type { Io } from "./io.ts";

/** What a device can do, as the kernel is told. All sizes in bytes. */
export interface Limits {
  readonly sizeBytes: number;
  /** 512 to 4096, a power of two. */
  readonly logicalBlockBytes: number;
  /** At least the logical block, a power of two. */
  readonly physicalBlockBytes: number;
  readonly readOnly: boolean;
  readonly rotational: boolean;
  /** Something buffers: the kernel sends FLUSH. */
  readonly volatileCache: boolean;
  /** Writes with FUA are served as such. Where false, the kernel sends a flush behind them instead. */
  readonly fua: boolean;
  readonly discard: DiscardLimits | null;
  /** The most bytes in one WRITE_ZEROES; null where the kernel is to send plain zeroes. */
  readonly writeZeroesMaxBytes: number | null;
}

export interface DiscardLimits {
  readonly granularityBytes: number;
  readonly maxBytes: number;
}

export interface Target {
  /** Takes a request; it answers with `request.answer`, `succeed`, or by passing it on. Must not throw for bad I/O. */
  submit(request: Request): void;
  /** The device has another size from now on. */
  resized?(sizeBytes: number): void;
  /**
   * Carries out an order of the device's owner (Device.order), which means something to the two of them alone, and answers it
   * once, now or later. Order and answer cross between threads by structured clone.
   */
  obey?(order: unknown, answer: (answer: unknown) => void): void;
  /** No request will come any more; nothing of the target may be under way when this returns. */
  close?(): void;
}

/** What every target is lent, wherever it runs. */
export interface TargetContext {
  readonly limits: Limits;
  /** Requests in flight at most: their slots are 0 to `depth - 1`. */
  readonly depth: number;
  /** Input and output of the target. */
  readonly ring: Io;
  /** Adds a file to the ring; gives its index for entries of the ring. Only while opening. */
  useFile(fd: number): number;
  /** `callback` is called after each batch of completions, before the kernel is entered. Only while opening. */
  afterBatch(callback: () => void): void;
}

/** What a queue lends to its target. */
export interface QueueContext extends TargetContext {
  readonly device: number;
  readonly queue: number;
  /** The queue's own ring. */
  readonly ring: Ring;
}

/** A module that makes targets: what a `TargetSource` names. */
export interface TargetModule<Options> {
  openTarget(options: Options, context: QueueContext): Target | Promise<Target>;
}

/** Which module serves a device, and what it is told. The options cross into the worker by structured clone. */
export interface TargetSource {
  /** URL of a module that exports `openTarget`. */
  readonly module: string;
  readonly options: unknown;
}
