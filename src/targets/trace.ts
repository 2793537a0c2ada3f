/**
 * An instrument: writes a line for each answered request, in the order of the answers:
 *
 *     microseconds queue operation offset length flags result
 *
 * Lines are kept in memory and written by the queue's ring when a buffer is full, when the device is idle for a flush, and
 * at the end; requests never wait for them. With two buffers full before the first is written, lines are dropped, and a
 * line says how many.
 */
import { OPCODE } from "../ublk/abi.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { OPERATION_NAMES, Operation, type Layer, type Request } from "../ublk/request.ts";
import type { Ring } from "../ublk/ring.ts";
import type { CompletionHandler } from "../ublk/io.ts";
import type { QueueContext, Target } from "../ublk/target.ts";

export interface TraceOptions {
  /** The trace file, open for appending in this process. */
  readonly fd: number;
}

const BUFFER_BYTES = 256 * 1024;
const LINE_BYTES_MAX = 160;
/** Writes append, wherever the file is. */
const APPEND_OFFSET = -1;

export class TraceTarget implements Target, Layer, CompletionHandler {
  readonly #next: Target;
  readonly #ring: Ring;
  readonly #file: number;
  readonly #handler: number;
  readonly #buffers: readonly MappedMemory[];
  readonly #encoder = new TextEncoder();
  readonly #queue: number;
  #filling = 0;
  #used = 0;
  #writing = false;
  #dropped = 0;

  constructor({ fd }: TraceOptions, next: Target, context: QueueContext) {
    this.#next = next;
    this.#ring = context.ring;
    this.#file = context.useFile(fd);
    this.#handler = context.ring.addHandler(this);
    this.#queue = context.queue;
    this.#buffers = [MappedMemory.anonymous(BUFFER_BYTES), MappedMemory.anonymous(BUFFER_BYTES)];
  }

  submit(request: Request): void {
    request.pass(this.#next, this);
  }

  answered(request: Request, result: number): void {
    this.#write(request, result);
    if (request.operation === Operation.FLUSH) this.#drain();
    request.answer(result);
  }

  #write(request: Request, result: number): void {
    if (this.#used + LINE_BYTES_MAX > BUFFER_BYTES) this.#drain();
    if (this.#used + LINE_BYTES_MAX > BUFFER_BYTES) {
      this.#dropped++;
      return;
    }
    const name = OPERATION_NAMES[request.operation];
    const flags = `${request.fua ? "F" : ""}${request.noUnmap ? "N" : ""}` || "-";
    const microseconds = Math.round(this.#ring.returnedUs);
    this.#tellDropped();
    this.#append(`${microseconds} q${this.#queue} ${name} ${request.offset} ${request.length} ${flags} ${result}\n`);
  }

  #tellDropped(): void {
    if (this.#dropped > 0) this.#append(`# ${this.#dropped} lines dropped\n`);
    this.#dropped = 0;
  }

  #append(line: string): void {
    const room = new Uint8Array((this.#buffers[this.#filling] as MappedMemory).buffer, this.#used);
    this.#used += this.#encoder.encodeInto(line, room).written;
  }

  /** Sends the filling buffer to the file, unless the other one is still on its way. */
  #drain(): void {
    if (this.#writing || this.#used === 0) return;
    const { address } = this.#buffers[this.#filling] as MappedMemory;
    this.#ring.transfer(OPCODE.WRITE, this.#file, APPEND_OFFSET, address, this.#used, 0, this.#handler, 0);
    this.#writing = true;
    this.#filling = 1 - this.#filling;
    this.#used = 0;
  }

  completed(): void {
    this.#writing = false;
  }

  resized(sizeBytes: number): void {
    this.#next.resized?.(sizeBytes);
  }

  close(): void {
    this.#next.close?.();
    const isWritten = (): boolean => !this.#writing;
    this.#ring.waitUntil(isWritten);
    this.#drain();
    this.#ring.waitUntil(isWritten);
    this.#tellDropped();
    this.#drain();
    this.#ring.waitUntil(isWritten);
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
  }
}
