/**
 * What the source asks its receiver to compare, on one connection.
 *
 * Invariants. Answers come in the order of what was asked, and each is for just that. What was asked on an earlier connection is
 * never answered. Bounded: no more is asked than may be without an answer.
 */
import { UblkError } from "../ublk/errors.ts";
import { FRAME } from "./frame.ts";
import type { BlockGeometry } from "./point-items.ts";
import type { SendPieces } from "./sender.ts";
import { decodeSumsReply, encodeSums, SUMS_AHEAD_MAX, type BlockRange } from "./sums.ts";

/** Told which blocks differ: a bit each. */
export type Compared = (differs: Uint8Array) => void;

export class Comparison {
  readonly #geometry: BlockGeometry;
  #send: SendPieces | undefined;
  #asked: { readonly range: BlockRange; readonly done: Compared }[] = [];

  constructor(geometry: BlockGeometry) {
    this.#geometry = geometry;
  }

  connect(send: SendPieces): void {
    this.#send = send;
    this.#asked = [];
  }

  disconnect(): void {
    this.#send = undefined;
    this.#asked = [];
  }

  /** All that was asked is answered. */
  get isIdle(): boolean {
    return this.#asked.length === 0;
  }

  get hasRoom(): boolean {
    return this.#asked.length < SUMS_AHEAD_MAX;
  }

  /** Asks which of these blocks are otherwise at the receiver than `bytes`. There is room, and a connection. */
  ask(range: BlockRange, bytes: Uint8Array, done: Compared): void {
    this.#asked.push({ range, done });
    this.#send?.(FRAME.SUMS, encodeSums(range, bytes, this.#geometry));
  }

  /** Takes an answer. Throws EPROTOCOL where nobody asked. */
  take(payload: Uint8Array): void {
    const { block, blocks, differs } = decodeSumsReply(payload, this.#geometry);
    const asked = this.#asked.shift();
    if (asked?.range.block !== block || asked.range.blocks !== blocks) {
      throw new UblkError(
        "EPROTOCOL",
        `blocks ${block} to ${block + blocks - 1} were compared, which nobody asked for`,
      );
    }
    asked.done(differs);
  }
}
