/**
 * An io_uring, driven from TypeScript over mapped memory: one native call per batch.
 *
 * Invariants. An entry that was pushed reaches the kernel: when the submission queue is full it is submitted at once, and
 * what the kernel did not take stays queued. A completion is dispatched exactly once: the kernel keeps those that do not
 * fit (NODROP, required) and gives them when it is entered with GETEVENTS, which every wait does.
 *
 * A ring belongs to the thread that made it. Submission entries with index below `reservedEntries` belong to their owner
 * for good (a ublk queue keeps a ready-made entry per tag); the others are handed out by `next` and free again after
 * each submission. An entry's `user_data` is an index (low word) for a handler (high word).
 */
import { closeSync } from "node:fs";
import {
  BLOCK_URING_CMD_DISCARD,
  CQE,
  ENTER,
  FEATURE_NODROP,
  FEATURE_SINGLE_MMAP,
  FSYNC_DATASYNC,
  OFFSET_SQES,
  OPCODE,
  PARAMS,
  POLL,
  REGISTER,
  SETUP,
  SQE,
  SQE_FLAG,
  SQ_CQ_OVERFLOW,
} from "./abi.ts";
import { codeOf, ERRNO, errnoOf, errnoText, messageOf, UblkError } from "./errors.ts";
import type { CompletionHandler, Io } from "./io.ts";
import { MappedMemory } from "./memory.ts";
import { native, type Address } from "./native.ts";

export interface RingOptions {
  /** Submission entries, rounded up to a power of two by the kernel. */
  readonly entries: number;
  /** Entries below this index are never handed out by `next`. */
  readonly reservedEntries?: number;
  /** Completion entries; twice the submission entries unless given. */
  readonly completionEntries?: number;
  /** Entries of 128 bytes, as ublk's control commands need. */
  readonly wideEntries?: boolean;
  /** The ring is entered by this thread only, and waits for completions only by entering. */
  readonly singleThread: boolean;
}

/** The block through which `enter` gets its arguments (native/ring.cc, EnterBlock): offsets of 32- and 64-bit elements. */
const BLOCK = { fd: 0, toSubmit: 1, minComplete: 2, flags: 3, result: 4, enteredUs: 3, returnedUs: 4 } as const;

const UNKNOWN_HANDLER: CompletionHandler = {
  completed(): void {
    throw new UblkError("EHANDLER", "A completion arrived for a handler that was never added");
  },
};

const TWO_POW_MINUS_32 = 2 ** -32;

export class Ring implements Io, Disposable {
  readonly fd: number;
  /** The setup flags that this kernel took. */
  readonly setupFlags: number;
  /** Index of the 32-bit word at which an entry starts = entry index << `entryShift`. */
  readonly entryShift: number;
  /** Submission entries as 32-bit words. */
  readonly entryWords: Int32Array;

  readonly #entries: MappedMemory;
  readonly #rings: MappedMemory;
  readonly #block: MappedMemory;
  readonly #blockWords: Int32Array;
  readonly #blockDoubles: Float64Array;
  readonly #enter: () => void;
  readonly #words: Int32Array;
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqFlags: number;
  readonly #sqArray: number;
  readonly #sqMask: number;
  readonly #sqEntries: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  readonly #reserved: number;
  readonly #handlers: CompletionHandler[] = [];
  readonly #owned: MappedMemory[] = [];
  #nextFree: number;
  #tail: number;
  #pushed = 0;
  #closed = false;

  constructor(options: RingOptions) {
    const { fd, params } = setUp(options);
    this.fd = fd;
    const word = (offset: number): number => params.getUint32(offset, true);
    this.setupFlags = word(PARAMS.flags);
    const sqEntries = word(PARAMS.sqEntries);
    const cqEntries = word(PARAMS.cqEntries);
    const entryBytes = options.wideEntries === true ? SQE.size * 2 : SQE.size;
    const ringBytes = Math.max(word(PARAMS.sqArray) + 4 * sqEntries, word(PARAMS.cqCqes) + CQE.size * cqEntries);
    this.#rings = MappedMemory.ofFile({ fd, offset: 0, lengthBytes: ringBytes, writable: true });
    const entriesBytes = entryBytes * sqEntries;
    this.#entries = MappedMemory.ofFile({ fd, offset: OFFSET_SQES, lengthBytes: entriesBytes, writable: true });
    this.entryWords = new Int32Array(this.#entries.buffer);
    this.entryShift = options.wideEntries === true ? 5 : 4;
    this.#words = new Int32Array(this.#rings.buffer);
    this.#sqEntries = sqEntries;
    this.#sqMask = sqEntries - 1;
    this.#cqMask = cqEntries - 1;
    this.#sqHead = word(PARAMS.sqHead) >> 2;
    this.#sqTail = word(PARAMS.sqTail) >> 2;
    this.#sqFlags = word(PARAMS.sqFlags) >> 2;
    this.#sqArray = word(PARAMS.sqArray) >> 2;
    this.#cqHead = word(PARAMS.cqHead) >> 2;
    this.#cqTail = word(PARAMS.cqTail) >> 2;
    this.#cqes = word(PARAMS.cqCqes) >> 2;
    this.#tail = Atomics.load(this.#words, this.#sqTail);
    this.#reserved = options.reservedEntries ?? 0;
    this.#nextFree = this.#reserved;
    this.#block = MappedMemory.anonymous(4096);
    this.#blockWords = new Int32Array(this.#block.buffer);
    this.#blockDoubles = new Float64Array(this.#block.buffer);
    this.#enter = native.createEnter(this.#block.address);
    this.#blockWords[BLOCK.fd] = fd;
    this.#blockWords[BLOCK.flags] = ENTER.GETEVENTS;
    if (options.singleThread) this.#registerOwnDescriptor();
  }

  /** Entering by a registered descriptor saves the kernel a look-up each time; a kernel that refuses loses nothing. */
  #registerOwnDescriptor(): void {
    const update = new DataView(new ArrayBuffer(16));
    update.setUint32(0, 0xffffffff, true);
    update.setBigUint64(8, BigInt(this.fd), true);
    try {
      native.ringRegister(this.fd, REGISTER.RING_FDS, new Uint8Array(update.buffer), 1);
    } catch (error) {
      // Unknown to this kernel, or the thread's table of them is full.
      if (codeOf(error) === "EINVAL" || codeOf(error) === "EBUSY") return;
      throw error;
    }
    this.#blockWords[BLOCK.fd] = update.getUint32(0, true);
    this.#blockWords[BLOCK.flags] = ENTER.GETEVENTS | ENTER.REGISTERED_RING;
  }

  /** The thread's table has room for few of them, and keeps an entry longer than the ring that it stands for. */
  #unregisterOwnDescriptor(): void {
    if (((this.#blockWords[BLOCK.flags] as number) & ENTER.REGISTERED_RING) === 0) return;
    const update = new Uint32Array(4);
    update[0] = this.#blockWords[BLOCK.fd] as number;
    native.ringRegister(this.fd, REGISTER.UNREGISTER_RING_FDS, new Uint8Array(update.buffer), 1);
  }

  /** Adds a receiver of completions; the number goes into the entries that it pushes. */
  addHandler(handler: CompletionHandler): number {
    this.#handlers.push(handler);
    return this.#handlers.length - 1;
  }

  /** Descriptors by index, for entries with the FIXED_FILE flag. Once per ring. */
  registerFiles(descriptors: readonly number[]): void {
    native.ringRegister(this.fd, REGISTER.FILES, Int32Array.from(descriptors), descriptors.length);
  }

  /** Completions are announced on this eventfd. */
  registerEvent(eventDescriptor: number): void {
    native.ringRegister(this.fd, REGISTER.EVENTFD, Int32Array.of(eventDescriptor), 1);
  }

  /** Monotonic clock in microseconds when the kernel was last entered: when all that was pushed before had been done. */
  get enteredUs(): number {
    return this.#blockDoubles[BLOCK.enteredUs] as number;
  }

  /** Monotonic clock in microseconds when the kernel last returned: when what is being reaped had arrived. */
  get returnedUs(): number {
    return this.#blockDoubles[BLOCK.returnedUs] as number;
  }

  /**
   * A zeroed entry that is already queued, as the index of its first word in `entryWords`. It must be filled in before
   * anything else is pushed. A full queue is submitted first.
   */
  next(opcode: number, handler: number, index: number): number {
    const at = this.#nextEntry();
    const words = this.entryWords;
    const end = at + (1 << this.entryShift);
    for (let word = at; word < end; word++) words[word] = 0;
    words[at] = opcode;
    words[at + 8] = index;
    words[at + 9] = handler;
    return at;
  }

  /** As `next`, but the entry holds what it held before. */
  #nextEntry(): number {
    if (this.#nextFree === this.#sqEntries || this.#isFull()) this.submit();
    const entry = this.#nextFree++;
    this.#push(entry);
    return entry << this.entryShift;
  }

  /** Queues a reserved entry, which the caller has filled in. */
  pushReserved(entry: number): void {
    if (this.#isFull()) this.submit();
    this.#push(entry);
  }

  #isFull(): boolean {
    return ((this.#tail - Atomics.load(this.#words, this.#sqHead)) | 0) >= this.#sqEntries;
  }

  #push(entry: number): void {
    this.#words[this.#sqArray + (this.#tail & this.#sqMask)] = entry;
    this.#tail = (this.#tail + 1) | 0;
    this.#pushed++;
  }

  /** How many entries were ever queued. */
  get pushed(): number {
    return this.#pushed;
  }

  /** Gives the kernel all that is queued, without waiting for completions. */
  submit(): void {
    this.#submitAndWait(0);
  }

  /** Gives the kernel all that is queued and waits until there is a completion. */
  submitAndWait(): void {
    this.#submitAndWait(1);
  }

  #submitAndWait(minComplete: number): void {
    const words = this.#words;
    const block = this.#blockWords;
    Atomics.store(words, this.#sqTail, this.#tail);
    for (;;) {
      block[BLOCK.toSubmit] = (this.#tail - Atomics.load(words, this.#sqHead)) | 0;
      block[BLOCK.minComplete] = minComplete;
      this.#enter();
      const result = block[BLOCK.result] as number;
      const left = (this.#tail - Atomics.load(words, this.#sqHead)) | 0;
      if (left === 0) this.#nextFree = this.#reserved;
      if (result >= 0) {
        if (left === 0) return;
      } else if (result === -ERRNO.EINTR) {
        // A signal: what was submitted is submitted. Wait again only for what was waited for.
        if (left === 0 && (minComplete === 0 || this.hasCompletions())) return;
      } else if (result === -ERRNO.EAGAIN || result === -ERRNO.EBUSY) {
        // The kernel is short of memory or wants completions reaped first: hand them over, the rest stays queued.
        if (this.hasCompletions() && minComplete > 0) return;
      } else {
        throw new UblkError("ERING", `io_uring_enter failed: ${errnoText(-result)}`, { errno: -result });
      }
    }
  }

  /** Whether `reap` would dispatch anything, now or after the kernel has handed over what did not fit. */
  hasCompletions(): boolean {
    const words = this.#words;
    if (words[this.#cqHead] !== Atomics.load(words, this.#cqTail)) return true;
    return (Atomics.load(words, this.#sqFlags) & SQ_CQ_OVERFLOW) !== 0;
  }

  /** Submits, waits and dispatches until the condition holds. */
  waitUntil(condition: () => boolean): void {
    while (!condition()) {
      this.submitAndWait();
      this.reap();
    }
  }

  /**
   * Dispatches every completion that is there. Whatever a handler throws, no completion is dispatched twice: it is off
   * the ring before its handler runs.
   */
  reap(): void {
    const words = this.#words;
    const handlers = this.#handlers;
    const tail = Atomics.load(words, this.#cqTail);
    let head = words[this.#cqHead] as number;
    try {
      while (head !== tail) {
        const at = this.#cqes + ((head & this.#cqMask) << 2);
        head = (head + 1) | 0;
        const handler = handlers[words[at + 1] as number] ?? UNKNOWN_HANDLER;
        handler.completed(words[at] as number, words[at + 2] as number, words[at + 3] as number);
      }
    } finally {
      Atomics.store(words, this.#cqHead, head);
    }
  }

  /** Queues a READ or WRITE of `length` bytes at `offset` of a registered file; `flags` are RWF_ flags. */
  transfer(
    opcode: number,
    file: number,
    offset: number,
    address: Address,
    length: number,
    flags: number,
    handler: number,
    index: number,
  ): void {
    const at = this.#nextEntry();
    const words = this.entryWords;
    words[at] = opcode | (SQE_FLAG.FIXED_FILE << 8);
    words[at + 1] = file;
    words[at + 2] = lowWord(offset);
    words[at + 3] = highWord(offset);
    words[at + 4] = lowWord(address);
    words[at + 5] = highWord(address);
    words[at + 6] = length;
    words[at + 7] = flags;
    words[at + 8] = index;
    words[at + 9] = handler;
    words[at + 10] = 0;
    words[at + 11] = 0;
    words[at + 12] = 0;
    words[at + 13] = 0;
    words[at + 14] = 0;
    words[at + 15] = 0;
  }

  /** Queues a fallocate(2) of a registered file with the given FALLOC mode. */
  allocate(file: number, offset: number, length: number, mode: number, handler: number, index: number): void {
    const at = this.next(OPCODE.FALLOCATE, handler, index);
    const words = this.entryWords;
    words[at] = OPCODE.FALLOCATE | (SQE_FLAG.FIXED_FILE << 8);
    words[at + 1] = file;
    words[at + 2] = lowWord(offset);
    words[at + 3] = highWord(offset);
    words[at + 4] = lowWord(length);
    words[at + 5] = highWord(length);
    words[at + 6] = mode;
  }

  /** Queues an fdatasync(2) of a registered file. */
  syncData(file: number, handler: number, index: number): void {
    const at = this.next(OPCODE.FSYNC, handler, index);
    const words = this.entryWords;
    words[at] = OPCODE.FSYNC | (SQE_FLAG.FIXED_FILE << 8);
    words[at + 1] = file;
    words[at + 7] = FSYNC_DATASYNC;
  }

  /** Queues nothing but a completion. */
  turn(handler: number, index: number): void {
    this.next(OPCODE.NOP, handler, index);
  }

  /** Queues a discard of a range of a block device that is a registered file. */
  discard(file: number, offset: number, length: number, handler: number, index: number): void {
    const at = this.next(OPCODE.URING_CMD, handler, index);
    const words = this.entryWords;
    words[at] = OPCODE.URING_CMD | (SQE_FLAG.FIXED_FILE << 8);
    words[at + 1] = file;
    words[at + 2] = BLOCK_URING_CMD_DISCARD;
    words[at + 4] = lowWord(offset);
    words[at + 5] = highWord(offset);
    words[at + 12] = lowWord(length);
    words[at + 13] = highWord(length);
  }

  /**
   * Queues a watch over a file that is not registered, such as an eventfd: a completion each time that there is something
   * to read. It goes on for as long as completions have CQE_FLAG.MORE.
   */
  poll(fd: number, handler: number, index: number): void {
    const at = this.next(OPCODE.POLL_ADD, handler, index);
    const words = this.entryWords;
    words[at + 1] = fd;
    words[at + 6] = POLL.MULTI;
    words[at + 7] = POLL.IN;
  }

  /** Queues a timer; `timespec` is the address of two 64-bit numbers (seconds, nanoseconds), read when submitted. */
  timeout(timespec: Address, handler: number, index: number): void {
    const at = this.next(OPCODE.TIMEOUT, handler, index);
    const words = this.entryWords;
    words[at + 1] = -1;
    words[at + 4] = lowWord(timespec);
    words[at + 5] = highWord(timespec);
    words[at + 6] = 1;
  }

  /** Zeroed memory that entries of the ring may point to: it lives as long as the ring. */
  memory(lengthBytes: number): MappedMemory {
    return this.own(MappedMemory.anonymous(lengthBytes));
  }

  /** Memory that is to live as long as the ring. */
  own(memory: MappedMemory): MappedMemory {
    this.#owned.push(memory);
    return memory;
  }

  /** Closes the ring. What is still under way in the kernel is cancelled by it. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unregisterOwnDescriptor();
    this.#rings[Symbol.dispose]();
    this.#entries[Symbol.dispose]();
    this.#block[Symbol.dispose]();
    closeSync(this.fd);
    for (const memory of this.#owned) memory[Symbol.dispose]();
  }
}

export function lowWord(value: number): number {
  return value | 0;
}

/** Of a number that is not negative. */
export function highWord(value: number): number {
  return (value * TWO_POW_MINUS_32) | 0;
}

/** Setup flags from best to plainest: the first set that the kernel takes is used. */
function flagSets(options: RingOptions): number[] {
  const base = SETUP.CLAMP | SETUP.CQSIZE | (options.wideEntries === true ? SETUP.SQE128 : 0);
  if (!options.singleThread) return [base | SETUP.SUBMIT_ALL, base];
  return [
    base | SETUP.SUBMIT_ALL | SETUP.COOP_TASKRUN | SETUP.SINGLE_ISSUER | SETUP.DEFER_TASKRUN,
    base | SETUP.SUBMIT_ALL | SETUP.COOP_TASKRUN | SETUP.SINGLE_ISSUER,
    base | SETUP.SUBMIT_ALL | SETUP.COOP_TASKRUN,
    base,
  ];
}

function setUp(options: RingOptions): { fd: number; params: DataView } {
  let refusal: unknown;
  for (const flags of flagSets(options)) {
    const params = new DataView(new ArrayBuffer(PARAMS.size));
    params.setUint32(PARAMS.flags, flags, true);
    params.setUint32(PARAMS.cqEntries, options.completionEntries ?? options.entries * 2, true);
    try {
      const fd = native.ringSetup(options.entries, new Uint8Array(params.buffer));
      requireFeatures(fd, params.getUint32(PARAMS.features, true));
      return { fd, params };
    } catch (error) {
      if (codeOf(error) !== "EINVAL") throw explain(error);
      refusal = error;
    }
  }
  throw explain(refusal);
}

function requireFeatures(fd: number, features: number): void {
  const wanted = FEATURE_SINGLE_MMAP | FEATURE_NODROP;
  if ((features & wanted) === wanted) return;
  closeSync(fd);
  throw new UblkError(
    "ERING",
    "This kernel's io_uring is too old: it may drop completions (wanted Linux 5.5 or later)",
  );
}

function explain(error: unknown): UblkError {
  const code = codeOf(error);
  const hint =
    code === "EPERM"
      ? "; io_uring is switched off: see /proc/sys/kernel/io_uring_disabled"
      : code === "ENOSYS"
        ? "; this kernel has no io_uring"
        : "";
  return new UblkError("ERING", `Cannot make an io_uring: ${messageOf(error)}${hint}`, {
    errno: errnoOf(error),
    cause: error,
  });
}
