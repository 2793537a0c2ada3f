/**
 * Shows an image with originals behind it (appended-originals.ts) as what its volume was: a read gets each original from
 * where it lies in the file, and all else from the image.
 *
 * Invariants. Nothing is ever written. A read is split where originals begin and end; a few of its runs are under way at once,
 * and it is answered when all have ended. What the file did in part is continued; an errno reaches exactly the request that met it.
 *
 * Originals lie at odd places of the file, 256 bytes behind a multiple of a record, so they cannot be read directly: they come
 * through the page cache, the image as a file volume does it.
 */
import { OPCODE } from "../ublk/abi.ts";
import { ERRNO } from "../ublk/errors.ts";
import type { CompletionHandler, Io } from "../ublk/io.ts";
import { Operation, type Request } from "../ublk/request.ts";
import type { Target, TargetContext } from "../ublk/target.ts";
import { AppendedOriginals, type OriginalsTable } from "./appended-originals.ts";

/** Runs of a request that are read at once: with the request itself as many as a queue's ring has room for completions of. */
const LANES = 4;

export interface AppendedOptions {
  /** The file, open in this process: O_DIRECT where that is possible, and without. */
  readonly fd: number;
  readonly plainFd: number;
  readonly originals: OriginalsTable;
}

export class AppendedTarget implements Target, CompletionHandler {
  readonly #originals: AppendedOriginals;
  readonly #ring: Io;
  readonly #handler: number;
  readonly #image: number;
  readonly #plain: number;
  readonly #requests: Request[];
  /** By slot: bytes that lanes have been given, the first original that ends behind them, lanes at work, and the first errno. */
  readonly #given: Int32Array;
  readonly #original: Int32Array;
  readonly #working: Uint8Array;
  readonly #results: Int32Array;
  /** By lane, LANES for each slot: the run that is left to read, in a file, from a place of it, to a place of the buffer. */
  readonly #files: Int32Array;
  readonly #places: Float64Array;
  readonly #into: Int32Array;
  readonly #left: Int32Array;

  constructor(options: AppendedOptions, context: TargetContext) {
    const { depth, ring } = context;
    this.#originals = new AppendedOriginals(options.originals);
    this.#ring = ring;
    this.#handler = ring.addHandler(this);
    this.#image = context.useFile(options.fd);
    this.#plain = context.useFile(options.plainFd);
    this.#requests = new Array<Request>(depth);
    this.#given = new Int32Array(depth);
    this.#original = new Int32Array(depth);
    this.#working = new Uint8Array(depth);
    this.#results = new Int32Array(depth);
    this.#files = new Int32Array(depth * LANES);
    this.#places = new Float64Array(depth * LANES);
    this.#into = new Int32Array(depth * LANES);
    this.#left = new Int32Array(depth * LANES);
  }

  submit(request: Request): void {
    const { slot, operation, offset, length } = request;
    if (operation !== Operation.READ) {
      if (operation === Operation.FLUSH) request.succeed();
      else request.answer(-ERRNO.EROFS);
      return;
    }
    this.#requests[slot] = request;
    this.#given[slot] = 0;
    this.#original[slot] = this.#originals.firstBehind(offset);
    this.#working[slot] = 0;
    this.#results[slot] = 0;
    for (let lane = slot * LANES; lane < (slot + 1) * LANES && this.#given[slot] < length; lane++) {
      this.#working[slot] = this.#working[slot] + 1;
      this.#takeRun(lane, request);
    }
  }

  /** Gives a lane the next run of a request: up to where an original begins or ends. */
  #takeRun(lane: number, { slot, offset, length }: Request): void {
    const originals = this.#originals;
    const into = this.#given[slot] as number;
    const index = this.#original[slot] as number;
    const from = offset + into;
    let end = offset + length;
    if (index < originals.count && originals.offset(index) <= from) {
      this.#files[lane] = this.#plain;
      this.#places[lane] = originals.fileOffset(index) + from - originals.offset(index);
      end = Math.min(end, originals.end(index));
      this.#original[slot] = index + 1;
    } else {
      this.#files[lane] = this.#image;
      this.#places[lane] = from;
      if (index < originals.count) end = Math.min(end, originals.offset(index));
    }
    this.#into[lane] = into;
    this.#left[lane] = end - from;
    this.#given[slot] = end - offset;
    this.#read(lane, slot);
  }

  #read(lane: number, slot: number): void {
    this.#ring.transfer(
      OPCODE.READ,
      this.#files[lane] as number,
      this.#places[lane] as number,
      (this.#requests[slot] as Request).address + (this.#into[lane] as number),
      this.#left[lane] as number,
      0,
      this.#handler,
      lane,
    );
  }

  completed(lane: number, result: number): void {
    const slot = Math.floor(lane / LANES);
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#read(lane, slot);
      return;
    }
    const request = this.#requests[slot] as Request;
    if (result > 0) {
      this.#places[lane] = (this.#places[lane] as number) + result;
      this.#into[lane] = (this.#into[lane] as number) + result;
      this.#left[lane] = (this.#left[lane] as number) - result;
      if (this.#left[lane] > 0) {
        this.#read(lane, slot);
        return;
      }
      // Nothing more is begun of a request that fails already.
      if (this.#results[slot] === 0 && (this.#given[slot] as number) < request.length) {
        this.#takeRun(lane, request);
        return;
      }
    } else if (this.#results[slot] === 0) {
      // Nothing read at all: the file ends before its originals do. It was shortened under us.
      this.#results[slot] = result === 0 ? -ERRNO.EIO : result;
    }
    this.#working[slot] = (this.#working[slot] as number) - 1;
    if (this.#working[slot] !== 0) return;
    if (this.#results[slot] === 0) request.succeed();
    else request.answer(this.#results[slot] as number);
  }
}
