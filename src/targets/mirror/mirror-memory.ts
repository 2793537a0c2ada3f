/**
 * The memory in which the thread that serves the host, the one that has the link, and the owner of both see each other's
 * numbers.
 *
 * Invariant: each number has one writer. Whoever is to act on a change is told of it in another way: the thread of the host by
 * the eventfd, that of the link by a message.
 */
import { dirtyBlocksBytes, DirtyBlocks } from "./dirty-blocks.ts";
import { MIRROR_MODES, MIRROR_POLICIES, type MirrorMode, type MirrorPolicy } from "./modes.ts";
import { POINT_READ_BYTES, POINT_READS } from "./mirror-target.ts";
import { transferRingBytes, type TransferRingSize } from "./transfer-ring.ts";

export interface MirrorGeometry {
  readonly volumeSectors: number;
  /** Of consistency points. */
  readonly blockSectors: number;
  /** Of the record. */
  readonly chunkSectors: number;
}

/** What crosses between the threads. */
export interface MirrorMemory {
  readonly geometry: MirrorGeometry;
  readonly ringSize: TransferRingSize;
  readonly ring: SharedArrayBuffer;
  /** So many blocks may be written between two points. */
  readonly capacity: number;
  readonly halves: readonly [SharedArrayBuffer, SharedArrayBuffer];
  /** POINT_READS parts of POINT_READ_BYTES, and one for what is compared. */
  readonly reads: SharedArrayBuffer;
  readonly numbers: SharedArrayBuffer;
  /** An eventfd: whoever has ordered something of the thread of the host signals it. */
  readonly event: number;
}

/** A transfer carries one write at least: with as many, whatever their size, the log is full. */
const SLOTS = 1024;
/** Blocks that may be written between two points, for each block of data that the log has room for. */
const CAPACITY_FACTOR = 2;

/** `logBytes` of data are kept for the link: a power of two. `event` is an eventfd. */
export function allocateMirror(geometry: MirrorGeometry, logBytes: number, event: number): MirrorMemory {
  const ringSize = { slots: SLOTS, dataBytes: logBytes };
  const capacity = Math.ceil((logBytes * CAPACITY_FACTOR) / (geometry.blockSectors * 512));
  const half = (): SharedArrayBuffer => new SharedArrayBuffer(dirtyBlocksBytes(capacity));
  return {
    geometry,
    ringSize,
    ring: new SharedArrayBuffer(transferRingBytes(ringSize)),
    capacity,
    halves: [half(), half()],
    reads: new SharedArrayBuffer((POINT_READS + 1) * POINT_READ_BYTES),
    numbers: new SharedArrayBuffer(NUMBERS * 4),
    event,
  };
}

/** The halves, as one of the threads sees them. */
export function dirtyHalves({ halves, capacity, geometry }: MirrorMemory): [DirtyBlocks, DirtyBlocks] {
  const half = (memory: SharedArrayBuffer): DirtyBlocks => new DirtyBlocks(memory, { capacity, ...geometry });
  return [half(halves[0]), half(halves[1])];
}

const AT = {
  // Written by the link.
  received: 0,
  durable: 1,
  isLinked: 2,
  // By the owner.
  mode: 3,
  policy: 4,
  // By the thread of the host.
  isLogging: 5,
  toCopy: 6,
  written: 7,
  overflows: 8,
  heldWrites: 9,
  requests: 10,
  onTheirWay: 11,
} as const;
const NUMBERS = 16;

/** What the thread of the host knows of the mirror. */
export interface MirrorCounts {
  readonly isLogging: boolean;
  /** Blocks since the last point was cut. */
  readonly written: number;
  /** Blocks of a point that was cut, and is not committed yet. */
  readonly onTheirWay: number;
  /** Of the log; writes that were held; requests of the host: since this process began. */
  readonly overflows: number;
  readonly heldWrites: number;
  readonly requests: number;
}

export class MirrorNumbers {
  readonly #words: Int32Array;

  constructor({ numbers }: MirrorMemory) {
    this.#words = new Int32Array(numbers);
  }

  #get(at: number): number {
    return Atomics.load(this.#words, at);
  }

  #set(at: number, value: number): void {
    Atomics.store(this.#words, at, value | 0);
  }

  /** The remote has transfers before these in memory, and durably. */
  get received(): number {
    return this.#get(AT.received) >>> 0;
  }

  get durable(): number {
    return this.#get(AT.durable) >>> 0;
  }

  setAcknowledged(received: number, durable: number): void {
    this.#set(AT.received, received);
    this.#set(AT.durable, durable);
  }

  get isLinked(): boolean {
    return this.#get(AT.isLinked) === 1;
  }

  set isLinked(isLinked: boolean) {
    this.#set(AT.isLinked, isLinked ? 1 : 0);
  }

  get mode(): MirrorMode {
    return MIRROR_MODES[this.#get(AT.mode)] as MirrorMode;
  }

  set mode(mode: MirrorMode) {
    this.#set(AT.mode, MIRROR_MODES.indexOf(mode));
  }

  get policy(): MirrorPolicy {
    return MIRROR_POLICIES[this.#get(AT.policy)] as MirrorPolicy;
  }

  set policy(policy: MirrorPolicy) {
    this.#set(AT.policy, MIRROR_POLICIES.indexOf(policy));
  }

  get isLogging(): boolean {
    return this.#get(AT.isLogging) === 1;
  }

  /** Chunks that are to be copied. */
  get toCopy(): number {
    return this.#get(AT.toCopy);
  }

  /** Blocks that were written since the last point was cut. */
  get written(): number {
    return this.#get(AT.written);
  }

  /** Blocks of a point that was cut, and is not committed yet. */
  get onTheirWay(): number {
    return this.#get(AT.onTheirWay);
  }

  /** How often the log was full, and how many writes were held: since this process began. */
  get overflows(): number {
    return this.#get(AT.overflows);
  }

  get heldWrites(): number {
    return this.#get(AT.heldWrites);
  }

  /** What the host has asked of the volume, reads as well, in a number that goes round. */
  get requests(): number {
    return this.#get(AT.requests);
  }

  /** What the thread of the host tells after each batch. */
  tell(counts: MirrorCounts, toCopy: number): void {
    this.#set(AT.isLogging, counts.isLogging ? 1 : 0);
    this.#set(AT.toCopy, toCopy);
    this.#set(AT.written, counts.written);
    this.#set(AT.onTheirWay, counts.onTheirWay);
    this.#set(AT.overflows, counts.overflows);
    this.#set(AT.heldWrites, counts.heldWrites);
    this.#set(AT.requests, counts.requests);
  }
}
