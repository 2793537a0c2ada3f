/** Writes that are on their way to the store: none of them overlaps another, so that their order on disk is that of the log. */
import type { Request } from "../../ublk/request.ts";

export class ActiveWrites {
  readonly #requests: Request[];
  /** Where a request is among them, by its slot. */
  readonly #positions: Int32Array;
  #count = 0;

  constructor(depth: number) {
    this.#requests = new Array<Request>(depth);
    this.#positions = new Int32Array(depth);
  }

  get count(): number {
    return this.#count;
  }

  overlaps({ offset, length }: Request): boolean {
    for (let index = 0; index < this.#count; index++) {
      const other = this.#requests[index] as Request;
      if (other.offset < offset + length && offset < other.offset + other.length) return true;
    }
    return false;
  }

  add(request: Request): void {
    this.#positions[request.slot] = this.#count;
    this.#requests[this.#count++] = request;
  }

  remove(request: Request): void {
    const position = this.#positions[request.slot] as number;
    const last = this.#requests[--this.#count] as Request;
    this.#requests[position] = last;
    this.#positions[last.slot] = position;
  }
}
