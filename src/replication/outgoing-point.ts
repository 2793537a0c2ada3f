/**
 * A consistency point on its way to the receiver.
 *
 * Invariants. Its beginning, its items and its end leave in this order, and the end has the checksum of all items. Nothing leaves
 * that was not granted: it waits, and goes on where it was.
 */
import { crc32 } from "node:zlib";
import { FRAME } from "./frame.ts";
import {
  chargeOf,
  encodePointBegin,
  encodePointEnd,
  POINT_BEGIN_BYTES,
  POINT_END_BYTES,
  type PointBegin,
} from "./messages.ts";
import { encodeRuns, ITEMS_DATA_BYTES_MAX, RUNS_MAX, type PointRun } from "./point-items.ts";
import type { PointParts } from "./point-parts.ts";
import type { SendPieces, SourceCut } from "./sender.ts";

/** In one frame of items: small enough that others get their turn. */
const RUNS_PER_FRAME = RUNS_MAX / 4;
const DATA_PER_FRAME = ITEMS_DATA_BYTES_MAX / 4;

/** What a point is sent by. */
export interface PointWay {
  readonly send: SendPieces;
  /** Takes what a frame of items counts as from what was granted; false where that is not enough. */
  readonly takeGrant: (charge: number) => boolean;
  /** Nothing is being compared. */
  readonly mayEnd: () => boolean;
}

export interface OutgoingPointOptions {
  readonly number: number;
  readonly askedMs: number;
  readonly createdMs: number;
  readonly cut: SourceCut;
  readonly parts: PointParts;
}

export class OutgoingPoint {
  readonly number: number;
  readonly askedMs: number;
  readonly createdMs: number;
  readonly cut: SourceCut;
  readonly #parts: PointParts;
  /** Of the frame that is being filled. */
  #items: PointRun[] = [];
  #data: Uint8Array[] = [];
  #dataBytes = 0;
  #frames = 0;
  #checksum = 0;
  #hasBegun = false;
  #hasEnded = false;
  /** The receiver has not all that it refers to: it is open there. */
  isLacking = false;

  constructor({ number, askedMs, createdMs, cut, parts }: OutgoingPointOptions) {
    this.number = number;
    this.askedMs = askedMs;
    this.createdMs = createdMs;
    this.cut = cut;
    this.#parts = parts;
  }

  /** All of it was sent. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** It is closed at the receiver, when it is committed there. */
  get isClosed(): boolean {
    return this.cut.isClosed && !this.isLacking;
  }

  /** It has been given up, or is committed. */
  close(): void {
    this.#parts.close();
  }

  /** Sends what has been read and was granted. What belongs to it has been sent. `begin`: what it begins with. */
  pump(way: PointWay, begin: Pick<PointBegin, "cut" | "log">): void {
    if (!this.#hasBegun) this.#begin(way, begin);
    while (!this.#hasEnded) {
      const isFull = this.#items.length >= RUNS_PER_FRAME || this.#dataBytes >= DATA_PER_FRAME;
      if (this.#items.length > 0 && (isFull || this.#parts.isEmpty)) {
        if (!this.#sendItems(way)) return;
      } else if (this.#parts.isEmpty) {
        if (!way.mayEnd()) return;
        this.#end(way);
      } else if (!this.#take()) return;
    }
  }

  #begin({ send }: PointWay, begin: Pick<PointBegin, "cut" | "log">): void {
    const { isClosed, endTransfer: next } = this.cut;
    const payload = new Uint8Array(POINT_BEGIN_BYTES);
    encodePointBegin(payload, { ...begin, point: this.number, createdMs: this.createdMs, isClosed, next });
    this.#hasBegun = true;
    send(FRAME.POINT_BEGIN, payload);
  }

  /** The next part, unless the last ones are equal at the receiver; false where it is not read or compared yet. */
  #take(): boolean {
    const part = this.#parts.take();
    if (part === undefined) return this.#parts.isEmpty;
    this.#items.push(part.run);
    if (part.data === undefined) return true;
    this.#data.push(part.data);
    this.#dataBytes += part.data.length;
    return true;
  }

  /** False where that much was not granted yet. */
  #sendItems({ send, takeGrant }: PointWay): boolean {
    const pieces = [encodeRuns(this.#items), ...this.#data];
    if (!takeGrant(chargeOf(pieces.reduce((sum, { length }) => sum + length, 0)))) return false;
    for (const piece of pieces) this.#checksum = crc32(piece, this.#checksum);
    send(FRAME.POINT_ITEMS, ...pieces);
    this.#frames++;
    this.#items = [];
    this.#data = [];
    this.#dataBytes = 0;
    return true;
  }

  #end({ send }: PointWay): void {
    const payload = new Uint8Array(POINT_END_BYTES);
    encodePointEnd(payload, { point: this.number, items: this.#frames, checksum: this.#checksum });
    this.#hasEnded = true;
    send(FRAME.POINT_END, payload);
  }
}
