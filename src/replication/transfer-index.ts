/**
 * Where the receiver's log has each transfer. Rebuilt from the log when it is opened: what it says, the log says.
 *
 * Invariant: a transfer that is told of lies in what the log keeps; what was released is forgotten with it. There are no more
 * than the log has room for.
 */
import type { LogPlace } from "./log-geometry.ts";
import type { TransferId } from "./transfer-id.ts";

/** A record of the log. */
export interface Logged {
  readonly position: number;
  /** Bytes of its payload. */
  readonly length: number;
}

export interface LoggedTransfer extends Logged {
  /** Sectors of data in it. */
  readonly dataSectors: number;
  /** Which log of its source it is of: between those of one log nothing is left out. */
  readonly log: number;
  /** Where it begins. */
  readonly place: LogPlace;
}

const NUMBERS = 2 ** 32;

export class TransferIndex {
  /** By incarnation and number together, in the order of the log. */
  readonly #transfers = new Map<number, LoggedTransfer>();

  add({ incarnation, counter }: TransferId, transfer: LoggedTransfer): void {
    this.#transfers.set(incarnation * NUMBERS + counter, transfer);
  }

  find({ incarnation, counter }: TransferId): LoggedTransfer | undefined {
    return this.#transfers.get(incarnation * NUMBERS + counter);
  }

  /** The first one behind another, which may be there no more; undefined where there is none. */
  firstAfter({ incarnation, counter }: TransferId): LoggedTransfer | undefined {
    const id = incarnation * NUMBERS + counter;
    for (const [each, transfer] of this.#transfers) if (each > id) return transfer;
    return undefined;
  }

  /** The last one of those of a log that follow each other from `first` on; undefined where there is none. */
  endOfRun(first: TransferId, log: number): TransferId | undefined {
    let last: TransferId | undefined;
    for (let id = first; ; id = { ...id, counter: id.counter + 1 }) {
      if (this.find(id)?.log !== log) return last;
      last = id;
    }
  }

  /** What lies before this position is not there any more. */
  forgetBefore(position: number): void {
    for (const [id, transfer] of this.#transfers) {
      if (transfer.position >= position) return;
      this.#transfers.delete(id);
    }
  }
}
