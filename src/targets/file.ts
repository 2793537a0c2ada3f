/**
 * Serves a regular file or a block device through the queue's own ring.
 *
 * Invariants. An errno of the backing store reaches the host for exactly the request that met it. A transfer that the
 * backing store did in part is continued until it is whole. FLUSH is fdatasync; a write with FUA is durable before it is
 * answered (RWF_DSYNC). A discarded range may hold anything afterwards, a zeroed one reads as zeroes, and one that was
 * zeroed with NO_UNMAP keeps its space.
 */
import { FALLOC, OPCODE, RWF_DSYNC } from "../ublk/abi.ts";
import { ERRNO } from "../ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../ublk/io.ts";
import { Operation, type Request } from "../ublk/request.ts";
import type { Target, TargetContext } from "../ublk/target.ts";

const PUNCH = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
const ZERO = FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE;
/** Zeroes that are written where the backing store cannot make them itself. */
const ZEROES_BYTES = 1024 * 1024;

export interface FileOptions {
  /** The file, open in this process, O_DIRECT where that is possible. */
  readonly fd: number;
  readonly isBlockDevice: boolean;
  /** fallocate can make holes here, so it can zero by making one. */
  readonly punchesHoles: boolean;
  /** fallocate can zero and keep the space. */
  readonly zeroesRanges: boolean;
}

/** How a range is being zeroed; each way falls back to the next one where the backing store refuses it. */
const Zeroing = { PUNCH: 0, ZERO_RANGE: 1, WRITE: 2 } as const;
type Zeroing = (typeof Zeroing)[keyof typeof Zeroing];

export class FileTarget implements Target, CompletionHandler {
  readonly #options: FileOptions;
  readonly #ring: Io;
  readonly #file: number;
  readonly #handler: number;
  readonly #requests: Request[];
  /** Bytes of the request in a slot that are done; no request is larger than 1 GiB. */
  readonly #done: Int32Array;
  readonly #zeroing: Uint8Array;
  readonly #zeroes: IoMemory;

  constructor(options: FileOptions, context: TargetContext) {
    this.#options = options;
    this.#ring = context.ring;
    this.#file = context.useFile(options.fd);
    this.#handler = context.ring.addHandler(this);
    this.#requests = new Array<Request>(context.depth);
    this.#done = new Int32Array(context.depth);
    this.#zeroing = new Uint8Array(context.depth);
    this.#zeroes = context.ring.memory(ZEROES_BYTES);
  }

  submit(request: Request): void {
    this.#requests[request.slot] = request;
    this.#done[request.slot] = 0;
    if (request.operation === Operation.WRITE_ZEROES) this.#zeroing[request.slot] = this.#firstZeroing(request);
    this.#proceed(request);
  }

  /** Asks the kernel for the rest of the request. */
  #proceed(request: Request): void {
    const { slot, offset, length } = request;
    const done = this.#done[slot] as number;
    switch (request.operation) {
      case Operation.READ:
        this.#ring.transfer(
          OPCODE.READ,
          this.#file,
          offset + done,
          request.address + done,
          length - done,
          0,
          this.#handler,
          slot,
        );
        break;
      case Operation.WRITE: {
        const flags = request.fua ? RWF_DSYNC : 0;
        this.#ring.transfer(
          OPCODE.WRITE,
          this.#file,
          offset + done,
          request.address + done,
          length - done,
          flags,
          this.#handler,
          slot,
        );
        break;
      }
      case Operation.FLUSH:
        this.#ring.syncData(this.#file, this.#handler, slot);
        break;
      case Operation.DISCARD:
        if (this.#options.isBlockDevice) this.#ring.discard(this.#file, offset, length, this.#handler, slot);
        else this.#ring.allocate(this.#file, offset, length, PUNCH, this.#handler, slot);
        break;
      case Operation.WRITE_ZEROES:
        this.#zero(request, done);
        break;
    }
  }

  #firstZeroing(request: Request): Zeroing {
    if (!request.noUnmap && this.#options.punchesHoles) return Zeroing.PUNCH;
    return this.#options.zeroesRanges ? Zeroing.ZERO_RANGE : Zeroing.WRITE;
  }

  #zero(request: Request, done: number): void {
    const { slot, offset, length } = request;
    switch (this.#zeroing[slot] as Zeroing) {
      case Zeroing.PUNCH:
        this.#ring.allocate(this.#file, offset, length, PUNCH, this.#handler, slot);
        break;
      case Zeroing.ZERO_RANGE:
        this.#ring.allocate(this.#file, offset, length, ZERO, this.#handler, slot);
        break;
      case Zeroing.WRITE: {
        const bytes = Math.min(length - done, ZEROES_BYTES);
        const flags = request.fua ? RWF_DSYNC : 0;
        this.#ring.transfer(
          OPCODE.WRITE,
          this.#file,
          offset + done,
          this.#zeroes.address,
          bytes,
          flags,
          this.#handler,
          slot,
        );
        break;
      }
    }
  }

  completed(slot: number, result: number): void {
    const request = this.#requests[slot] as Request;
    if (result < 0) {
      this.#failed(request, result);
      return;
    }
    const transfers =
      request.operation === Operation.READ ||
      request.operation === Operation.WRITE ||
      (request.operation === Operation.WRITE_ZEROES && this.#zeroing[slot] === Zeroing.WRITE);
    if (!transfers) {
      request.succeed();
      return;
    }
    const done = (this.#done[slot] as number) + result;
    this.#done[slot] = done;
    if (done === request.length) request.succeed();
    // Nothing done at all: the backing store ends before the volume does. It was shortened under us.
    else if (result === 0) request.answer(-ERRNO.EIO);
    else this.#proceed(request);
  }

  #failed(request: Request, result: number): void {
    const { slot } = request;
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#proceed(request);
      return;
    }
    const refused = result === -ERRNO.EOPNOTSUPP || result === -ERRNO.EINVAL;
    if (request.operation === Operation.WRITE_ZEROES && refused && this.#zeroing[slot] !== Zeroing.WRITE) {
      this.#zeroing[slot] = (this.#zeroing[slot] as number) + 1;
      this.#proceed(request);
      return;
    }
    request.answer(result);
  }
}
