/**
 * Keeps the bytes in memory: a file on tmpfs, mapped by every queue. They outlive a daemon that is killed, since the file
 * does, and go with a clean stop or a reboot.
 */
import { FALLOC } from "../ublk/abi.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { Operation, type Request } from "../ublk/request.ts";
import type { Ring } from "../ublk/ring.ts";
import type { CompletionHandler } from "../ublk/io.ts";
import type { Limits, QueueContext, Target } from "../ublk/target.ts";

const GIB = 2 ** 30;
/** Zeroing is done on the thread that serves: a bound on how long that may take. */
const ZEROES_MAX_BYTES = 4 * 2 ** 20;

export interface MemoryOptions {
  /** The file on tmpfs, open in this process. */
  readonly fd: number;
  readonly sizeBytes: number;
}

export class MemoryTarget implements Target, CompletionHandler {
  readonly #memory: MappedMemory;
  readonly #bytes: Uint8Array;
  readonly #ring: Ring;
  readonly #file: number;
  readonly #handler: number;
  readonly #requests: Request[] = [];

  constructor({ fd, sizeBytes }: MemoryOptions, context: QueueContext) {
    this.#memory = MappedMemory.ofFile({ fd, offset: 0, lengthBytes: sizeBytes, writable: true });
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#ring = context.ring;
    this.#file = context.useFile(fd);
    this.#handler = context.ring.addHandler(this);
  }

  submit(request: Request): void {
    const { offset, length } = request;
    switch (request.operation) {
      case Operation.READ:
        request.buffer.set(this.#bytes.subarray(offset, offset + length));
        break;
      case Operation.WRITE:
        this.#bytes.set(request.buffer.subarray(0, length), offset);
        break;
      case Operation.WRITE_ZEROES:
        this.#bytes.fill(0, offset, offset + length);
        break;
      case Operation.DISCARD:
        this.#requests[request.slot] = request;
        this.#ring.allocate(
          this.#file,
          offset,
          length,
          FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE,
          this.#handler,
          request.slot,
        );
        return;
      case Operation.FLUSH:
        break;
    }
    request.succeed();
  }

  completed(slot: number, result: number): void {
    (this.#requests[slot] as Request).answer(result);
  }

  close(): void {
    this.#memory[Symbol.dispose]();
  }
}

export function memoryLimits(sizeBytes: number, logicalBlockBytes: number, readOnly: boolean): Limits {
  return {
    sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes: 4096,
    readOnly,
    rotational: false,
    volatileCache: false,
    fua: false,
    discard: readOnly ? null : { granularityBytes: 4096, maxBytes: GIB },
    writeZeroesMaxBytes: readOnly ? null : ZEROES_MAX_BYTES,
  };
}
