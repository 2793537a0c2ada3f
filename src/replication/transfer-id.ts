/**
 * What a transfer is called for ever: the incarnation of the source that made it, and its number within that one.
 *
 * Invariant: no two transfers of a volume have the same, since an incarnation is durable at the source before it is used, and
 * none is used twice. A later transfer has a larger one.
 */

/** Both are unsigned and have 32 bits; the first incarnation is 1, and so is the first counter of each. */
export interface TransferId {
  readonly incarnation: number;
  readonly counter: number;
}

/** Where there is no transfer yet. It is before all others. */
export const NO_TRANSFER: TransferId = { incarnation: 0, counter: 0 };

export function isBefore(one: TransferId, other: TransferId): boolean {
  if (one.incarnation !== other.incarnation) return one.incarnation < other.incarnation;
  return one.counter < other.counter;
}

/** The incarnation, then the counter. */
export function setTransferId(view: DataView, at: number, id: TransferId): void {
  view.setUint32(at, id.incarnation, true);
  view.setUint32(at + 4, id.counter, true);
}

export function getTransferId(view: DataView, at: number): TransferId {
  return { incarnation: view.getUint32(at, true), counter: view.getUint32(at + 4, true) };
}
