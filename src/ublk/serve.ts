/**
 * The upper of the two levels: a block device from an object with `read` and `write` that return promises.
 *
 * Invariants. Each request is answered exactly once, whatever a handler throws or returns: with success, or with the
 * errno of the error (its `errno` or `code`; EIO for all others). A handler never sees memory of the kernel: data to be
 * written are a copy that it may keep, and data read are copied from what it returns.
 *
 * Handlers run in the event loop of the thread that called `createDevice`. While they do, that thread serves the device:
 * it must not wait for the device in a synchronous call (execFileSync("mkfs") on it hangs both for good).
 */
import { closeSync } from "node:fs";
import { BRIDGE, BRIDGE_FLAG, BridgeMemory, type BridgeOptions } from "./bridge.ts";
import { DEFAULT_DEPTH, Device } from "./device.ts";
import { errnoOf, UblkError } from "./errors.ts";
import { signalEvent } from "./event.ts";
import { native } from "./native.ts";
import { Operation, OPERATION_NAMES, type OperationName } from "./request.ts";
import type { Limits } from "./target.ts";

/** What a range operation is told. */
export interface ZeroOptions {
  /** The range must keep its space (NO_UNMAP). */
  readonly keepAllocated: boolean;
}

/**
 * A block device's behaviour. Offsets and lengths are in bytes, multiples of the logical block, within the size. What is
 * there is advertised: without `flush` the device counts as having no cache, without `discard` as not discarding.
 */
export interface BlockHandlers {
  /** Size of the device in bytes, a multiple of `blockSize`. */
  readonly size: number;
  /** The logical block: 512 (default), 1024, 2048 or 4096 bytes. */
  readonly blockSize?: number;
  /** Gives exactly `length` bytes. */
  read(offset: number, length: number): Uint8Array | Promise<Uint8Array>;
  /** Takes the data; they are the handler's to keep. Absent: the device is read-only. */
  write?(offset: number, data: Uint8Array): void | Promise<void>;
  /** Resolves when all that was written before is durable. */
  flush?(): void | Promise<void>;
  /** The range's content is no longer needed. */
  discard?(offset: number, length: number): void | Promise<void>;
  /** The range reads as zeroes afterwards. Absent: the kernel writes zeroes with `write`. */
  writeZeroes?(offset: number, length: number, options: ZeroOptions): void | Promise<void>;
}

export interface ServeOptions {
  /** Wanted number N of /dev/ublkbN; the kernel chooses where it is absent. */
  readonly id?: number;
  /** Requests in flight, 1 to 4096. */
  readonly depth?: number;
  readonly signal?: AbortSignal;
  /** Told of every error with which a handler answered a request. */
  readonly onError?: (error: unknown, request: { operation: OperationName; offset: number; length: number }) => void;
}

const RANGE_MAX_BYTES = 2 ** 30;

/**
 * Makes /dev/ublkbN and serves it until the device is stopped: `await using disk = await createDevice({ ... })`. Needs
 * root. If the process ends first, the host's requests fail with EIO. Throws UblkError.
 */
export async function createDevice(handlers: BlockHandlers, options: ServeOptions = {}): Promise<Device> {
  const depth = options.depth ?? DEFAULT_DEPTH;
  const memory = new BridgeMemory(depth);
  const event = native.eventDescriptor();
  const bridge: BridgeOptions = { shared: memory.shared, event };
  const module = new URL(
    import.meta.url.endsWith(".ts") ? "./bridge-target.ts" : "./bridge-target.js",
    import.meta.url,
  );
  const served = serveBridge(memory, event, handlers, options);
  try {
    const device = await Device.create({
      id: options.id,
      depth,
      signal: options.signal,
      limits: limitsOf(handlers),
      source: { module: module.href, options: bridge },
    });
    device.failure.catch((error: unknown) => {
      // The kernel does not notice a dead thread, and every request would hang: only the end of the process frees them.
      process.stderr.write(`${String(error)}\n`);
      process.kill(process.pid, "SIGKILL");
    });
    return device;
  } catch (error) {
    Atomics.store(memory.control, BRIDGE.closed, 1);
    Atomics.notify(memory.control, BRIDGE.submitted);
    await served;
    throw error;
  }
}

function limitsOf(handlers: BlockHandlers): Limits {
  const blockBytes = handlers.blockSize ?? 512;
  return {
    sizeBytes: handlers.size,
    logicalBlockBytes: blockBytes,
    physicalBlockBytes: blockBytes,
    readOnly: handlers.write === undefined,
    rotational: false,
    volatileCache: handlers.flush !== undefined,
    fua: false,
    discard: handlers.discard === undefined ? null : { granularityBytes: blockBytes, maxBytes: RANGE_MAX_BYTES },
    writeZeroesMaxBytes: handlers.writeZeroes === undefined ? null : RANGE_MAX_BYTES,
  };
}

/** The owner's end of the bridge: calls the handlers until the queue has closed its end. */
async function serveBridge(
  memory: BridgeMemory,
  event: number,
  handlers: BlockHandlers,
  options: ServeOptions,
): Promise<void> {
  const { control, depth } = memory;
  let taken = 0;
  const serve = async (slot: number): Promise<void> => {
    const result = await handle(memory, slot, handlers).catch((error: unknown) => {
      const operation = OPERATION_NAMES[memory.operation(slot)] ?? "read";
      options.onError?.(error, { operation, offset: memory.offset(slot), length: memory.length(slot) });
      return -errnoOf(error);
    });
    if (isClosed(memory)) return;
    memory.answer(slot, result);
    const answered = Atomics.load(control, BRIDGE.answered);
    memory.answeredSlots[(answered >>> 0) % depth] = slot;
    Atomics.store(control, BRIDGE.answered, (answered + 1) | 0);
    signalEvent(event);
  };
  while (!isClosed(memory)) {
    const submitted = Atomics.load(control, BRIDGE.submitted);
    while (taken !== submitted) {
      const slot = memory.submittedSlots[(taken >>> 0) % depth] as number;
      taken = (taken + 1) | 0;
      void serve(slot);
    }
    const wait = Atomics.waitAsync(control, BRIDGE.submitted, submitted);
    if (wait.async) await wait.value;
  }
  closeSync(event);
}

/** The queue has gone, and its buffers and the event with it: a handler that ends later has nobody to answer. */
function isClosed(memory: BridgeMemory): boolean {
  return Atomics.load(memory.control, BRIDGE.closed) !== 0;
}

/** Carries out what a slot asks; gives what the request is answered with. */
async function handle(memory: BridgeMemory, slot: number, handlers: BlockHandlers): Promise<number> {
  const offset = memory.offset(slot);
  const length = memory.length(slot);
  switch (memory.operation(slot)) {
    case Operation.READ: {
      const data = await handlers.read(offset, length);
      if (data.length !== length) {
        throw new UblkError("EIO", `read(${offset}, ${length}) gave ${data.length} bytes, wanted ${length}`);
      }
      if (!isClosed(memory)) new Uint8Array(native.view(memory.bufferAddress(slot), length)).set(data);
      return length;
    }
    case Operation.WRITE:
      await handlers.write?.(offset, new Uint8Array(native.view(memory.bufferAddress(slot), length)).slice());
      return length;
    case Operation.FLUSH:
      await handlers.flush?.();
      return 0;
    case Operation.DISCARD:
      await handlers.discard?.(offset, length);
      return 0;
    case Operation.WRITE_ZEROES: {
      const keepAllocated = (memory.flags(slot) & BRIDGE_FLAG.NO_UNMAP) !== 0;
      await handlers.writeZeroes?.(offset, length, { keepAllocated });
      return 0;
    }
    default:
      throw new UblkError("EOPNOTSUPP", "unknown operation");
  }
}
