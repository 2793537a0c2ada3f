/**
 * Makes a volume what it was at a point, before anybody uses it: writes back what was overwritten since.
 *
 * Invariants. It writes as a host does, so originals are moved, and all points go on showing what they did. All that will be
 * written is read first: an original that cannot be read is found while nothing has changed. It may die at any step; begun
 * again, it comes to the same end.
 */
import { ERRNO } from "../../ublk/errors.ts";
import { Operation, type Layer, type Request } from "../../ublk/request.ts";
import type { Point } from "./catalog.ts";
import type { CowTarget } from "./cow-target.ts";

/** "impossible": nothing was changed. "incomplete": the volume is neither what it was nor what it is to be. */
export type RollbackResult = "done" | { readonly failed: "impossible" | "incomplete"; readonly errno: number };

export class Rollback implements Layer {
  readonly #cow: CowTarget;
  readonly #point: Point;
  readonly #blockBytes: number;
  /** Requests that nothing is under way for. */
  readonly #idle: Request[];
  readonly #requests: number;
  #phase: "looking" | "reading" | "writing" | "flushing" = "looking";
  /** What was overwritten since, in order, and how much of it has been begun in this phase. */
  #blocks = new Float64Array(0);
  #begun = 0;
  #errno = 0;
  #hasEnded = false;
  #done: (result: RollbackResult) => void = () => undefined;

  /** `requests` have room for a block at least. The volume is as large as it was at the point, or larger. */
  constructor(cow: CowTarget, point: Point, blockBytes: number, requests: readonly Request[]) {
    this.#cow = cow;
    this.#point = point;
    this.#blockBytes = blockBytes;
    this.#idle = [...requests];
    this.#requests = requests.length;
  }

  /** `done` is called once, when nothing is under way any more; after "done" all of it is durable. */
  start(done: (result: RollbackResult) => void): void {
    this.#done = done;
    this.#cow.spare(this.#point.epoch);
    this.#cow.diff(this.#point.epoch, Infinity, (blocks) => {
      if (blocks === null) {
        this.#end(ERRNO.EIO);
        return;
      }
      const end = this.#point.volumeBytes / this.#blockBytes;
      this.#blocks = blocks.filter((block) => block < end).sort();
      if (!this.#cow.hasRoomFor(this.#blocks)) {
        this.#end(ERRNO.ENOSPC);
        return;
      }
      this.#phase = "reading";
      this.#pump();
    });
  }

  #end(errno: number): void {
    // What is refused at once ends within the loop that began it.
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#cow.spare(0);
    const hasChanged = this.#phase === "writing" || this.#phase === "flushing";
    this.#done(errno === 0 ? "done" : { failed: hasChanged ? "incomplete" : "impossible", errno });
  }

  /** Begins what can be begun; goes on to the next phase when all has ended. */
  #pump(): void {
    while (this.#errno === 0 && this.#begun < this.#blocks.length) {
      const request = this.#idle.pop();
      if (request === undefined) return;
      this.#readNext(request);
    }
    if (this.#idle.length < this.#requests) return;
    if (this.#errno !== 0) this.#end(this.#errno);
    else if (this.#phase === "reading") {
      this.#phase = "writing";
      this.#begun = 0;
      this.#pump();
    } else if (this.#phase === "writing") {
      this.#phase = "flushing";
      const request = this.#idle.pop() as Request;
      request.operation = Operation.FLUSH;
      request.offset = 0;
      request.length = 0;
      request.pass(this.#cow, this);
    } else this.#end(0);
  }

  /** The next run of blocks that lie side by side, as far as the request has room. */
  #readNext(request: Request): void {
    const first = this.#blocks[this.#begun] as number;
    const most = Math.floor(request.buffer.length / this.#blockBytes);
    let count = 1;
    while (count < most && this.#blocks[this.#begun + count] === first + count) count++;
    this.#begun += count;
    request.operation = Operation.READ;
    request.offset = first * this.#blockBytes;
    // The last block of the volume may be no whole one.
    request.length = Math.min(count * this.#blockBytes, this.#point.volumeBytes - request.offset);
    request.fua = false;
    request.pass(this.#cow.reader.view(this.#point.epoch), this);
  }

  answered(request: Request, result: number): void {
    if (result < 0) this.#errno = -result;
    else if (this.#phase === "writing" && request.operation === Operation.READ && this.#errno === 0) {
      request.operation = Operation.WRITE;
      request.pass(this.#cow, this);
      return;
    }
    this.#idle.push(request);
    this.#pump();
  }
}
