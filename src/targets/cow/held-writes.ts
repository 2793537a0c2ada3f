/**
 * Writes that wait for originals to be moved, in the order in which they came.
 *
 * Invariants. A write never goes before an older one that it overlaps. A flush never goes before the writes that were held when
 * it came: it goes on when they have been answered. There is room for every request of the queue.
 */
import { Operation, type Request } from "../../ublk/request.ts";

export class HeldWrites {
  readonly #requests: Request[];
  #count = 0;
  /** Grows with each request that is held and with each that goes on. */
  #ticket = 0;
  /** By slot: when a request came to be held, when it went on again; 0 for one that never was. */
  readonly #heldAt: Float64Array;
  readonly #wentAt: Float64Array;
  /** By slot of a flush: held writes that it waits for. */
  readonly #waitsFor: Int32Array;
  #flushes = 0;
  #isReleasing = false;
  #isAskedAgain = false;

  constructor(depth: number) {
    this.#requests = new Array<Request>(depth);
    this.#heldAt = new Float64Array(depth);
    this.#wentAt = new Float64Array(depth);
    this.#waitsFor = new Int32Array(depth);
  }

  get count(): number {
    return this.#count;
  }

  /** Without the flushes. */
  get writes(): number {
    return this.#count - this.#flushes;
  }

  /** So many, from the first on, have nothing left that the mover could take; kept right while writes go. */
  taken = 0;

  /** Of writes and flushes that are held, by their order. */
  at(index: number): Request {
    return this.#requests[index] as Request;
  }

  /** Whether any held write has bytes in common with this one. */
  overlaps(request: Request): boolean {
    return this.#overlapsBefore(request, this.#count);
  }

  #overlapsBefore({ offset, length }: Request, count: number): boolean {
    for (let index = 0; index < count; index++) {
      const other = this.#requests[index] as Request;
      if (other.offset < offset + length && offset < other.offset + other.length) return true;
    }
    return false;
  }

  hold(request: Request): void {
    this.#heldAt[request.slot] = ++this.#ticket;
    this.#wentAt[request.slot] = 0;
    if (request.operation === Operation.FLUSH) {
      this.#waitsFor[request.slot] = this.writes;
      this.#flushes++;
    }
    this.#requests[this.#count++] = request;
  }

  /** It goes straight on. */
  pass(request: Request): void {
    this.#heldAt[request.slot] = 0;
  }

  /** Lets go of those that `isReady`, in their order, each by `go`; which may end in this being called again. */
  release(isReady: (request: Request) => boolean, go: (request: Request) => void): void {
    this.#isAskedAgain = true;
    if (this.#isReleasing) return;
    this.#isReleasing = true;
    while (this.#isAskedAgain) {
      this.#isAskedAgain = false;
      for (let index = 0; index < this.#count;) {
        const request = this.#requests[index] as Request;
        if (this.#mayGo(request, index, isReady)) this.#goOn(request, index, go);
        else index++;
      }
    }
    this.#isReleasing = false;
  }

  #mayGo(request: Request, index: number, isReady: (request: Request) => boolean): boolean {
    if (request.operation === Operation.FLUSH) return this.#waitsFor[request.slot] === 0;
    return isReady(request) && !this.#overlapsBefore(request, index);
  }

  #goOn(request: Request, index: number, go: (request: Request) => void): void {
    if (request.operation === Operation.FLUSH) this.#flushes--;
    this.#wentAt[request.slot] = ++this.#ticket;
    this.#count--;
    // By hand: the engine's own copying is many times slower for so few.
    for (let at = index; at < this.#count; at++) this.#requests[at] = this.#requests[at + 1] as Request;
    if (index < this.taken) this.taken--;
    go(request);
  }

  /** A write has been answered: flushes may wait for it. Says whether one of them may go on now. */
  answered(request: Request): boolean {
    if (this.#flushes === 0 || this.#heldAt[request.slot] === 0) return false;
    let isFree = false;
    for (let index = 0; index < this.#count; index++) {
      const flush = this.#requests[index] as Request;
      if (flush.operation !== Operation.FLUSH) continue;
      const came = this.#heldAt[flush.slot] as number;
      const wasHeldThen =
        (this.#heldAt[request.slot] as number) < came && (this.#wentAt[request.slot] as number) > came;
      if (!wasHeldThen) continue;
      this.#waitsFor[flush.slot] = (this.#waitsFor[flush.slot] as number) - 1;
      isFree ||= this.#waitsFor[flush.slot] === 0;
    }
    return isFree;
  }
}
