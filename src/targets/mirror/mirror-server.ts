/**
 * A mirrored volume in the thread that serves its host: does what the thread of the link orders, and tells it what came of it.
 *
 * Invariant: what is told belongs to the link that it was asked by. A new link begins with a log that is begun anew; whatever
 * an earlier one was waiting for goes nowhere.
 */
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import { ERRNO } from "../../ublk/errors.ts";
import { RingEvent } from "../../ublk/event.ts";
import type { Ring } from "../../ublk/ring.ts";
import { MirrorNumbers, type MirrorMemory } from "./mirror-memory.ts";
import { POINT_READ_BYTES, POINT_READS, type Cut, type MirrorTarget } from "./mirror-target.ts";
import type { ChunkRun, OwedChunks } from "./owed-chunks.ts";

/** What the link asks for. Each `id` is given once; what has none is not answered. */
export type LinkOrder =
  /** Logs anew, and cuts a point before anything is logged. `isFull`: all of the volume is to be copied; `partialsMax`: see MirrorTarget.startLogging. */
  | { readonly kind: "restart"; readonly id: number; readonly isFull: boolean; readonly partialsMax: number }
  /** At most `copyChunks` chunks are to be copied with the point. `isHeld`: only while the host is held back. */
  | { readonly kind: "cut"; readonly id: number; readonly copyChunks: number; readonly isHeld: boolean }
  /** To a place in the shared memory, from 0 to before POINT_READS. */
  | { readonly kind: "read"; readonly place: number; readonly sector: number; readonly sectors: number }
  /** To the last part of the shared memory. */
  | { readonly kind: "look"; readonly id: number; readonly sector: number; readonly sectors: number }
  | { readonly kind: "hasRead"; readonly block: number; readonly blocks: number }
  | { readonly kind: "endPoint"; readonly isCommitted: boolean; readonly isClosed: boolean }
  | { readonly kind: "lacks"; readonly sector: number; readonly sectors: number };

export type LinkReport =
  | {
      readonly kind: "cut";
      readonly id: number;
      readonly half: 0 | 1;
      readonly endTransfer: number;
      readonly isClosed: boolean;
      readonly copies: readonly ChunkRun[];
    }
  /** The host is not held back any more. */
  | { readonly kind: "not cut"; readonly id: number }
  /** `result` is 0, or a negative errno. */
  | { readonly kind: "read"; readonly place: number; readonly result: number }
  /** As well; with a bit for each block that is on its way to the remote. */
  | { readonly kind: "looked"; readonly id: number; readonly result: number; readonly onTheirWay: Uint8Array }
  | { readonly kind: "overflowed" };

/** From the owner of the volume: the thread of the link asks through this port from now on. */
export interface LinkAttachment {
  readonly kind: "link";
  readonly port: MessagePort;
}

/** From the owner as well: writes of the host wait, or go on. */
export interface HoldOrder {
  readonly kind: "hold writes" | "let writes go";
}

export type MirrorOrder = LinkAttachment | HoldOrder;

/** Where in the shared memory the bytes of a read to a place are. */
export function readPlace(place: number): number {
  return place * POINT_READ_BYTES;
}

/** The same of what is compared. */
export const LOOK_PLACE = POINT_READS * POINT_READ_BYTES;

export class MirrorServer {
  readonly #target: MirrorTarget;
  readonly #owed: OwedChunks;
  readonly #memory: MirrorMemory;
  readonly #reads: Uint8Array;
  readonly #numbers: MirrorNumbers;
  readonly #event: RingEvent;
  #port: MessagePort | undefined;
  /** Of the point that was cut. */
  #copies: ChunkRun[] = [];

  constructor(target: MirrorTarget, owed: OwedChunks, memory: MirrorMemory, ring: Ring) {
    this.#target = target;
    this.#owed = owed;
    this.#memory = memory;
    this.#reads = new Uint8Array(memory.reads);
    this.#numbers = new MirrorNumbers(memory);
    this.#event = new RingEvent(ring, memory.event);
    target.whenOverflowed = () => {
      this.#report({ kind: "overflowed" });
    };
  }

  /** Does what the owner orders. */
  obey(order: MirrorOrder): void {
    if (order.kind === "link") this.#attach(order);
    else this.#target.isHeldBack = order.kind === "hold writes";
  }

  #attach({ port }: LinkAttachment): void {
    if (this.#port === undefined) {
      this.#event.listen(() => {
        this.#wake();
      });
    }
    this.#port = port;
    this.#copies = [];
    this.#target.stopLogging();
    this.#wake();
  }

  #report(report: LinkReport): void {
    this.#port?.postMessage(report);
  }

  #wake(): void {
    const numbers = this.#numbers;
    const target = this.#target;
    target.mode = numbers.mode;
    target.policy = numbers.policy;
    target.isLinked = numbers.isLinked;
    target.acknowledged(numbers.received, numbers.durable);
    while (this.#port !== undefined) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      this.#serve(received.message as LinkOrder);
    }
  }

  /** Tells the numbers that others look at: at the end of a batch. */
  tell(): void {
    this.#numbers.tell(this.#target, this.#owed.toCopy);
  }

  #serve(order: LinkOrder): void {
    const { chunkSectors } = this.#memory.geometry;
    switch (order.kind) {
      case "restart":
        this.#restart(order);
        break;
      case "cut":
        this.#cut(order);
        break;
      case "read":
        this.#read(order.place, order.sector, order.sectors);
        break;
      case "look":
        this.#look(order);
        break;
      case "hasRead":
        this.#target.hasRead(order.block, order.blocks);
        break;
      case "endPoint":
        this.#endPoint(order.isCommitted, order.isClosed);
        break;
      case "lacks":
        this.#owed.unlogged(
          Math.floor(order.sector / chunkSectors),
          Math.floor((order.sector + order.sectors - 1) / chunkSectors),
        );
        break;
    }
  }

  #restart({ id, isFull, partialsMax }: LinkOrder & { readonly kind: "restart" }): void {
    this.#copies = [];
    this.#target.stopLogging();
    if (isFull) this.#owed.copyVolume();
    this.#target.startLogging((cut) => {
      this.#hasCut(id, cut, 0);
    }, partialsMax);
  }

  #cut({ id, copyChunks, isHeld }: LinkOrder & { readonly kind: "cut" }): void {
    if (isHeld && !this.#target.isHeldBack) {
      this.#report({ kind: "not cut", id });
      return;
    }
    this.#target.cut((cut) => {
      this.#hasCut(id, cut, copyChunks);
    });
  }

  #hasCut(id: number, { half, endTransfer, isClosed }: Cut, copyChunks: number): void {
    const copies: ChunkRun[] = [];
    for (let left = copyChunks; left > 0;) {
      const run = this.#owed.take(left);
      if (run === undefined) break;
      copies.push(run);
      left -= run.count;
    }
    this.#copies = copies;
    this.#report({ kind: "cut", id, half: half === this.#target.halves[0] ? 0 : 1, endTransfer, isClosed, copies });
  }

  #read(place: number, sector: number, sectors: number): void {
    const port = this.#port;
    const hasBegun = this.#target.read(sector, sectors, (result, bytes) => {
      // Of an earlier link: the place belongs to a read of this one.
      if (port !== this.#port) return;
      if (result === 0) this.#reads.set(bytes, readPlace(place));
      this.#report({ kind: "read", place, result });
    });
    if (!hasBegun) this.#report({ kind: "read", place, result: -ERRNO.EBUSY });
  }

  #look({ id, sector, sectors }: LinkOrder & { readonly kind: "look" }): void {
    const port = this.#port;
    this.#target.look(sector, sectors, (result, bytes, onTheirWay) => {
      // A link that has ended meanwhile had numbers of its own.
      if (port !== this.#port) return;
      if (result === 0) this.#reads.set(bytes, LOOK_PLACE);
      this.#report({ kind: "looked", id, result, onTheirWay });
    });
  }

  #endPoint(isCommitted: boolean, isClosed: boolean): void {
    for (const run of this.#copies) {
      if (isCommitted) this.#owed.copied(run);
      else this.#owed.giveBack(run);
    }
    this.#copies = [];
    this.#target.endPoint(isCommitted, isClosed);
  }
}
