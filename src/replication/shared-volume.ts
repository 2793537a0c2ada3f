/**
 * The volume that is mirrored as the thread of the link sees it: it orders by messages, and is answered by messages.
 *
 * Invariant: an answer goes to whoever asked. What a later order has overtaken is never answered, but reads always are.
 */
import type { MessagePort } from "node:worker_threads";
import type { DirtyBlocks } from "../targets/mirror/dirty-blocks.ts";
import { dirtyHalves, MirrorNumbers, type MirrorMemory } from "../targets/mirror/mirror-memory.ts";
import { LOOK_PLACE, type LinkOrder, type LinkReport } from "../targets/mirror/mirror-server.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { signalEvent } from "../ublk/event.ts";
import type { LookDone, SourceCut, SourceVolume } from "./sender.ts";
import { SharedReads } from "./shared-reads.ts";

interface Asked<Answer> {
  readonly id: number;
  readonly done: Answer;
}

export class SharedVolume implements SourceVolume {
  readonly #memory: MirrorMemory;
  readonly #port: MessagePort;
  readonly #numbers: MirrorNumbers;
  readonly #halves: readonly [DirtyBlocks, DirtyBlocks];
  readonly #reads: SharedReads;
  #lastId = 0;
  #cut: Asked<(cut: SourceCut | undefined) => void> | undefined;
  #look: (Asked<LookDone> & { readonly sectors: number }) | undefined;
  /** Told when the log was full, and nothing is logged any more. */
  whenOverflowed: () => void = () => undefined;
  /** Told when something could not be read, with a negative errno; it is tried again. */
  whenUnread: (result: number) => void = () => undefined;

  constructor(memory: MirrorMemory, port: MessagePort) {
    this.#memory = memory;
    this.#port = port;
    this.#numbers = new MirrorNumbers(memory);
    this.#halves = dirtyHalves(memory);
    this.#reads = new SharedReads(memory.reads, (place, sector, sectors) => {
      this.#order({ kind: "read", place, sector, sectors });
    });
    port.on("message", (report: LinkReport) => {
      this.#take(report);
    });
  }

  /** Orders nothing any more. */
  close(): void {
    this.#reads.close();
    this.#port.close();
  }

  #order(order: LinkOrder): void {
    this.#port.postMessage(order);
    this.wake();
  }

  /** Has the thread of the host look at what it is told. */
  readonly wake = (): void => {
    signalEvent(this.#memory.event);
  };

  #take(report: LinkReport): void {
    switch (report.kind) {
      case "cut":
        if (this.#cut?.id === report.id) this.#cut.done({ ...report, half: this.#halves[report.half] });
        break;
      case "not cut":
        if (this.#cut?.id === report.id) this.#cut.done(undefined);
        break;
      case "read":
        if (report.result < 0) this.whenUnread(report.result);
        this.#reads.ended(report.place, report.result);
        break;
      case "looked":
        this.#hasLooked(report);
        break;
      case "overflowed":
        this.whenOverflowed();
        break;
    }
  }

  get hostRequests(): number {
    return this.#numbers.requests;
  }

  get awaitsMemory(): boolean {
    return this.#numbers.mode === "memory";
  }

  #hasLooked({ id, result, onTheirWay }: LinkReport & { readonly kind: "looked" }): void {
    const look = this.#look;
    if (look?.id !== id) return;
    this.#look = undefined;
    const bytes = new Uint8Array(this.#memory.reads, LOOK_PLACE, look.sectors * SECTOR_BYTES);
    look.done(result, bytes, onTheirWay);
  }

  restart(isFull: boolean, partialsMax: number, done: (cut: SourceCut) => void): void {
    const id = ++this.#lastId;
    this.#cut = {
      id,
      done: (cut) => {
        if (cut !== undefined) done(cut);
      },
    };
    this.#order({ kind: "restart", id, isFull, partialsMax });
  }

  acknowledged(received: number, durable: number): void {
    this.#numbers.setAcknowledged(received, durable);
    this.wake();
  }

  cut(copyChunks: number, isHeld: boolean, done: (cut: SourceCut | undefined) => void): void {
    const id = ++this.#lastId;
    this.#cut = { id, done };
    this.#order({ kind: "cut", id, copyChunks, isHeld });
  }

  read(sector: number, sectors: number, done: (result: number, bytes: Uint8Array) => void): void {
    this.#reads.read({ sector, sectors, done });
  }

  look(sector: number, sectors: number, done: LookDone): void {
    const id = ++this.#lastId;
    this.#look = { id, sectors, done };
    this.#order({ kind: "look", id, sector, sectors });
  }

  hasRead(block: number, blocks: number): void {
    this.#order({ kind: "hasRead", block, blocks });
  }

  endPoint(isCommitted: boolean, isClosed: boolean): void {
    this.#order({ kind: "endPoint", isCommitted, isClosed });
  }

  lacks(sector: number, sectors: number): void {
    this.#order({ kind: "lacks", sector, sectors });
  }
}
