/**
 * One queue of a ublk device: fetches requests, hands them to the target, commits the answers.
 *
 * Invariants. Every tag is either with the kernel (a command is under way for it) or with the target (a request is under
 * way): never both, never neither. Each request is committed exactly once, with its full byte count or a negative errno:
 * kernels differ in what they make of short counts, so none is ever given. All fetches of a queue reach the kernel in one
 * call, and the descriptors are mapped after it: a process that is killed in between leaves a queue either untouched or
 * complete, which is what a recovery on Linux 6.12 can deal with.
 *
 * The queue runs in the thread that serves it, and waits nowhere but in its ring.
 */
import {
  descriptorOffsetBytes,
  IO,
  IO_CMD,
  IO_DESC,
  IO_FLAG,
  IO_RESULT,
  OPCODE,
  roundUp,
  SECTOR_BYTES,
  SQE,
  SQE_FLAG,
} from "./abi.ts";
import { ERRNO, errnoOf, errnoText, UblkError } from "./errors.ts";
import { RingEvent } from "./event.ts";
import { MappedMemory } from "./memory.ts";
import { Operation, Request, type Layer } from "./request.ts";
import { highWord, lowWord, Ring } from "./ring.ts";
import type { CompletionHandler } from "./io.ts";
import { PULSE, QueueStatistics } from "./statistics.ts";
import type { Limits, QueueContext, Target } from "./target.ts";

/** Entries of the ring that targets may use per request, beside the one that commits it. */
const TARGET_ENTRIES_PER_REQUEST = 2;
/** Entries beside those of requests: waking, timers. */
const OTHER_ENTRIES = 16;
const PAGE_BYTES = 4096;
const DEVICE_FILE = 0;
const TWO_POW_32 = 0x1_0000_0000;

export interface QueueOptions {
  readonly device: number;
  readonly queue: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly limits: Limits;
  /** /dev/ublkcN, open in this process. */
  readonly deviceFile: number;
  /** An eventfd: whoever signals it has `onWake` called in the queue's thread. */
  readonly wakeEvent: number;
  readonly onWake: () => void;
  readonly statistics: SharedArrayBuffer;
  readonly lockMemory: boolean;
}

export class Queue implements Layer, CompletionHandler, Disposable {
  readonly #options: QueueOptions;
  readonly #ring: Ring;
  readonly #files: number[];
  readonly #afterBatch: (() => void)[] = [];
  readonly #buffers: MappedMemory;
  readonly #requests: Request[] = [];
  readonly #statistics: QueueStatistics;
  readonly #pulse: Int32Array;
  readonly #handler: number;
  /** When each slot's request arrived, in microseconds. */
  readonly #arrivedUs: Float64Array;
  /** Slots answered in this turn, and with what: counted when the turn has ended and its time is known. */
  readonly #answered: Int32Array;
  readonly #results: Int32Array;
  #answeredCount = 0;
  /** Tags whose request is with the target. */
  readonly #withTarget: Uint8Array;
  #inFlight = 0;
  #target: Target | undefined;
  #descriptors: MappedMemory | undefined;
  #words: Int32Array = new Int32Array(0);
  #tagsServed = 0;
  #stopping = false;
  #sizeBytes: number;

  constructor(options: QueueOptions) {
    this.#options = options;
    const { depth, maxIoBytes } = options;
    this.#sizeBytes = options.limits.sizeBytes;
    this.#ring = new Ring({
      entries: depth * (1 + TARGET_ENTRIES_PER_REQUEST) + OTHER_ENTRIES,
      completionEntries: depth * (1 + TARGET_ENTRIES_PER_REQUEST) * 2 + OTHER_ENTRIES,
      reservedEntries: depth,
      singleThread: true,
    });
    this.#handler = this.#ring.addHandler(this);
    this.#files = [options.deviceFile];
    this.#buffers = MappedMemory.anonymous(depth * maxIoBytes);
    if (options.lockMemory) this.#buffers.lock();
    for (let slot = 0; slot < depth; slot++) {
      const buffer = new Uint8Array(this.#buffers.buffer, slot * maxIoBytes, maxIoBytes);
      this.#requests.push(new Request(slot, buffer, this.#buffers.address + slot * maxIoBytes));
    }
    this.#statistics = new QueueStatistics(options.statistics);
    this.#pulse = this.#statistics.pulse;
    this.#arrivedUs = new Float64Array(depth);
    this.#answered = new Int32Array(depth);
    this.#results = new Int32Array(depth);
    this.#withTarget = new Uint8Array(depth);
  }

  /** What the target is opened with. */
  get context(): QueueContext {
    const { device, queue, depth, limits } = this.#options;
    return {
      device,
      queue,
      depth,
      limits,
      ring: this.#ring,
      useFile: (fd) => this.#files.push(fd) - 1,
      afterBatch: (callback) => void this.#afterBatch.push(callback),
    };
  }

  /** Gives the kernel a fetch for every tag, in one call; from now on requests may arrive. */
  fetch(target: Target): void {
    const { device, queue, depth, deviceFile, wakeEvent, onWake } = this.#options;
    this.#target = target;
    this.#ring.registerFiles(this.#files);
    for (let tag = 0; tag < depth; tag++) {
      this.#prepareEntry(tag, IO.FETCH_REQ);
      this.#ring.pushReserved(tag);
    }
    this.#ring.submit();
    for (let tag = 0; tag < depth; tag++) this.#prepareEntry(tag, IO.COMMIT_AND_FETCH_REQ);
    this.#tagsServed = depth;
    new RingEvent(this.#ring, wakeEvent).listen(onWake);
    try {
      this.#descriptors = MappedMemory.ofFile({
        fd: deviceFile,
        offset: descriptorOffsetBytes(queue, PAGE_BYTES),
        lengthBytes: roundUp(depth * IO_DESC.size, PAGE_BYTES),
        writable: false,
      });
    } catch (cause) {
      throw new UblkError("EDESCRIPTORS", `Cannot map the descriptors of queue ${queue} of device ${device}`, {
        cause,
      });
    }
    this.#words = new Int32Array(this.#descriptors.buffer);
  }

  /** The ready-made entry of a tag: everything but the result is the same each time. */
  #prepareEntry(tag: number, command: number): void {
    const words = this.#ring.entryWords;
    const at = tag << this.#ring.entryShift;
    const payload = at + SQE.cmd / 4;
    const address = (this.#requests[tag] as Request).address;
    words.fill(0, at, at + SQE.size / 4);
    words[at] = OPCODE.URING_CMD | (SQE_FLAG.FIXED_FILE << 8);
    words[at + SQE.fd / 4] = DEVICE_FILE;
    words[at + SQE.cmdOp / 4] = command | 0;
    words[at + SQE.userData / 4] = tag;
    words[at + SQE.userData / 4 + 1] = this.#handler;
    words[payload + IO_CMD.queueAndTag / 4] = this.#options.queue | (tag << 16);
    words[payload + IO_CMD.addr / 4] = lowWord(address);
    words[payload + IO_CMD.addr / 4 + 1] = highWord(address);
  }

  /** Serves requests until the kernel has taken every tag back. Blocks the thread. */
  serve(): void {
    const ring = this.#ring;
    const pulse = this.#pulse;
    while (this.#tagsServed > 0) {
      pulse[PULSE.inFlight] = this.#inFlight;
      pulse[PULSE.atWork] = 0;
      ring.submitAndWait();
      pulse[PULSE.turns] = ((pulse[PULSE.turns] as number) + 1) | 0;
      pulse[PULSE.atWork] = 1;
      if (this.#answeredCount > 0) this.#countAnswered();
      ring.reap();
      for (const callback of this.#afterBatch) callback();
      if (this.#stopping) return;
    }
  }

  /** Leaves `serve` after this turn, whatever is under way. The kernel takes the tags back when the ring is closed. */
  stop(): void {
    this.#stopping = true;
  }

  /** A new size of the device, for the target and for the check of ranges. */
  resize(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
    this.#target?.resized?.(sizeBytes);
  }

  /** Hands an order of the owner to the target. Throws EOPNOTSUPP where it takes none. */
  obey(order: unknown, answer: (answer: unknown) => void): void {
    const target = this.#target;
    if (target?.obey === undefined) throw new UblkError("EOPNOTSUPP", "The target takes no orders");
    target.obey(order, answer);
  }

  /** A command of a tag has completed: the tag has a request, or the kernel takes it back. */
  completed(tag: number, result: number): void {
    if (result !== IO_RESULT.OK) {
      if (result !== IO_RESULT.ABORT) this.#refused(tag, result);
      this.#tagsServed--;
      return;
    }
    const request = this.#requests[tag] as Request;
    this.#decode(request);
    this.#withTarget[tag] = 1;
    this.#inFlight++;
    this.#arrivedUs[tag] = this.#ring.returnedUs;
    this.#dispatch(request);
  }

  #refused(tag: number, result: number): never {
    const { device, queue } = this.#options;
    throw new UblkError(
      "EFETCH",
      `ublk refused the command of tag ${tag}, queue ${queue}, device ${device}: ${errnoText(-result)}`,
      { errno: -result },
    );
  }

  #decode(request: Request): void {
    const words = this.#words;
    const at = (request.slot * IO_DESC.size) >> 2;
    const flags = words[at] as number;
    const sector = ((words[at + 2] as number) >>> 0) + (words[at + 3] as number) * TWO_POW_32;
    request.operation = (flags & 0xff) as Operation;
    request.offset = sector * SECTOR_BYTES;
    request.length = ((words[at + 1] as number) >>> 0) * SECTOR_BYTES;
    request.fua = (flags & IO_FLAG.FUA) !== 0;
    request.noUnmap = (flags & IO_FLAG.NOUNMAP) !== 0;
  }

  #dispatch(request: Request): void {
    const objection = this.#objection(request);
    const target = this.#target as Target;
    const pushed = this.#ring.pushed;
    try {
      if (objection === 0) request.pass(target, this);
      else this.answered(request, -objection);
    } catch (error) {
      // Answered for the target, but only if it had not begun anything: what is under way would reach a buffer that is
      // the kernel's again. Then this process is beyond repair, and is recovered.
      if (this.#ring.pushed !== pushed || request.layersWaiting !== 1) throw error;
      request.answer(-errnoOf(error));
    }
  }

  /** errno of a request that no target should see; 0 for a good one. */
  #objection(request: Request): number {
    switch (request.operation) {
      case Operation.READ:
      case Operation.WRITE:
      case Operation.FLUSH:
      case Operation.DISCARD:
      case Operation.WRITE_ZEROES:
        break;
      default:
        return ERRNO.EOPNOTSUPP;
    }
    if (request.operation === Operation.FLUSH) {
      request.offset = 0;
      request.length = 0;
      return 0;
    }
    if (request.offset + request.length > this.#sizeBytes) return ERRNO.EINVAL;
    if (this.#options.limits.readOnly && request.operation !== Operation.READ) return ERRNO.EPERM;
    return 0;
  }

  /** The answer has come down through all layers: commit it. */
  answered(request: Request, result: number): void {
    const tag = request.slot;
    if (this.#withTarget[tag] !== 1) {
      throw new UblkError("EANSWERED", `Tag ${tag} was answered while it was with the kernel`);
    }
    const moves = request.operation === Operation.READ || request.operation === Operation.WRITE;
    const full = moves ? request.length : 0;
    const committed = result < 0 || result === full ? result : -ERRNO.EIO;
    this.#withTarget[tag] = 0;
    this.#inFlight--;
    this.#results[tag] = committed;
    this.#answered[this.#answeredCount++] = tag;
    const payload = (tag << this.#ring.entryShift) + SQE.cmd / 4;
    this.#ring.entryWords[payload + IO_CMD.result / 4] = committed;
    this.#ring.pushReserved(tag);
  }

  /** The answers of the last turn were with the kernel when the ring was entered: that is when their time ends. */
  #countAnswered(): void {
    const endedUs = this.#ring.enteredUs;
    for (let index = 0; index < this.#answeredCount; index++) {
      const tag = this.#answered[index] as number;
      const request = this.#requests[tag] as Request;
      const us = endedUs - (this.#arrivedUs[tag] as number);
      this.#statistics.count(request.operation, request.length, this.#results[tag] as number, us);
    }
    this.#answeredCount = 0;
  }

  [Symbol.dispose](): void {
    this.#target?.close?.();
    this.#ring[Symbol.dispose]();
    this.#descriptors?.[Symbol.dispose]();
    this.#buffers[Symbol.dispose]();
  }
}
