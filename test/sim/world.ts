/**
 * The world that an engine runs in: input and output whose completions come in an order that chance decides, that fail or
 * fall short, and a process that may die at any step.
 */
import { OPCODE, RWF_DSYNC } from "../../src/ublk/abi.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import type { CompletionHandler, Io, IoMemory } from "../../src/ublk/io.ts";
import type { TargetContext } from "../../src/ublk/target.ts";
import type { SimDisk } from "./disk.ts";
import type { SimMemory } from "./memory.ts";
import type { Random } from "./random.ts";
import { readStamp, SECTOR_BYTES, writeStamp } from "./stamps.ts";

/** The process is no more: thrown where it dies, through all of the engine. */
export class Death extends Error {}

export const DATA_FILE = 0;
export const NVRAM_FILE = 1;

interface Pending {
  readonly kind: "read" | "write" | "flush" | "zero" | "turn";
  readonly file: number;
  readonly offset: number;
  readonly length: number;
  readonly address: number;
  readonly durable: boolean;
  readonly handler: number;
  readonly index: number;
  /** Of a flush: what it must make durable. */
  readonly begun: ReturnType<SimDisk["beginFlush"]> | undefined;
}

export interface Faults {
  /** Probability that a write or flush of a file fails, or that a transfer falls short. */
  readonly failures: number;
  /** Probability that a read fails. */
  readonly readFailures?: number;
  readonly shortTransfers: number;
  /** Probability that, with a write to a file other than the volume, such writes begin to fail for good. */
  readonly breaks?: number;
  /** A sector that was being written to when the power was cut may hold anything, in files other than the volume. */
  readonly tears?: boolean;
}

export interface Watcher {
  /** The store is about to be changed there. */
  storeChanges(offset: number, length: number): void;
  /** A sector of the store shows something new; `asker` is the index that was given with the operation. */
  changed?(asker: number, sector: number): void;
  /** A line for the history. */
  tell(line: () => string): void;
}

export class World implements Io {
  readonly random: Random;
  readonly disk: SimDisk;
  readonly nvram: SimMemory;
  readonly #faults: Faults;
  readonly #watcher: Watcher;
  readonly #step: () => void;
  readonly #handlers: CompletionHandler[] = [];
  readonly #memories: IoMemory[] = [];
  readonly #afterBatch: (() => void)[] = [];
  #pending: Pending[] = [];
  #nextAddress = 4096;
  #isCut = false;
  #isBroken = false;
  /** Changes of the store that were queued so far. */
  changes = 0;

  constructor(
    random: Random,
    disk: SimDisk,
    nvram: SimMemory,
    faults: Faults,
    watcher: Watcher,
    /** Called before anything happens: the process may die there. */
    step: () => void,
  ) {
    this.#step = step;
    this.random = random;
    this.disk = disk;
    this.nvram = nvram;
    this.#faults = faults;
    this.#watcher = watcher;
  }

  context(depth: number): TargetContext {
    let files = 0;
    return {
      depth,
      limits: undefined as never,
      ring: this,
      useFile: () => files++,
      afterBatch: (callback) => void this.#afterBatch.push(callback),
    };
  }

  addHandler(handler: CompletionHandler): number {
    return this.#handlers.push(handler) - 1;
  }

  memory(lengthBytes: number): IoMemory {
    const memory = { address: this.#nextAddress, buffer: new ArrayBuffer(lengthBytes) };
    this.#nextAddress += Math.ceil(lengthBytes / 4096) * 4096 + 4096;
    this.#memories.push(memory);
    return memory;
  }

  #at(address: number, length: number): DataView {
    for (const memory of this.#memories) {
      const at = address - memory.address;
      if (at >= 0 && at + length <= memory.buffer.byteLength) return new DataView(memory.buffer, at, length);
    }
    throw new Error(`${length} bytes at address ${address}: nobody has this memory`);
  }

  transfer(
    opcode: number,
    file: number,
    offset: number,
    address: number,
    length: number,
    flags: number,
    handler: number,
    index: number,
  ): void {
    const kind = opcode === OPCODE.READ ? "read" : "write";
    if (file === DATA_FILE && kind === "write") this.#change(offset, length);
    this.#queue({ kind, file, offset, length, address, durable: (flags & RWF_DSYNC) !== 0, handler, index });
  }

  #change(offset: number, length: number): void {
    this.#watcher.storeChanges(offset, length);
    this.changes++;
  }

  allocate(file: number, offset: number, length: number, _mode: number, handler: number, index: number): void {
    this.#change(offset, length);
    this.#queue({ kind: "zero", file, offset, length, address: 0, durable: false, handler, index });
  }

  discard(file: number, offset: number, length: number, handler: number, index: number): void {
    this.allocate(file, offset, length, 0, handler, index);
  }

  turn(handler: number, index: number): void {
    const nothing = { offset: 0, length: 0, address: 0, durable: false };
    this.#queue({ kind: "turn", file: DATA_FILE, ...nothing, handler, index });
  }

  syncData(file: number, handler: number, index: number): void {
    this.#queue({ kind: "flush", file, offset: 0, length: 0, address: 0, durable: false, handler, index });
  }

  #queue(asked: Omit<Pending, "begun">): void {
    this.#step();
    const pending = { ...asked, begun: asked.kind === "flush" ? this.disk.beginFlush() : undefined };
    this.#watcher.tell(() => `  queue ${describe(pending)}`);
    this.#pending.push(pending);
  }

  get isIdle(): boolean {
    return this.#pending.length === 0;
  }

  /** Who has asked for a change of the store that is under way: the indices that were given. */
  get changing(): Set<number> {
    const changes = this.#pending.filter(
      ({ kind, file }) => file === DATA_FILE && (kind === "write" || kind === "zero"),
    );
    return new Set(changes.map(({ index }) => index));
  }

  /** One completion, whichever chance picks. */
  complete(): void {
    const [pending] = this.#pending.splice(this.random.below(this.#pending.length), 1);
    if (pending === undefined) return;
    const result = this.#carryOut(pending);
    this.#step();
    this.#watcher.tell(() => `  done ${describe(pending)}: ${result}`);
    (this.#handlers[pending.handler] as CompletionHandler).completed(pending.index, result, 0);
  }

  /** The end of a batch: what targets have asked for is done. */
  endBatch(): void {
    for (const callback of this.#afterBatch) callback();
  }

  waitUntil(condition: () => boolean): void {
    while (!condition()) {
      if (this.isIdle) throw new Error("an engine waits for a completion, but nothing is under way");
      this.complete();
    }
  }

  #carryOut(pending: Pending): number {
    const { kind, length } = pending;
    if (kind === "turn") return 0;
    const { failures, readFailures = 0, breaks = 0 } = this.#faults;
    const isStoreWrite = pending.file === NVRAM_FILE && kind === "write";
    if (breaks > 0 && isStoreWrite) this.#isBroken ||= this.random.chance(breaks);
    const isUnlucky =
      kind === "read" ? readFailures > 0 && this.random.chance(readFailures) : this.random.chance(failures);
    const fails = isUnlucky || (isStoreWrite && this.#isBroken);
    if (fails) {
      if (kind !== "flush" && kind !== "read") this.#partly(pending);
      return -ERRNO.EIO;
    }
    const isShort =
      pending.file === DATA_FILE && length > SECTOR_BYTES && this.random.chance(this.#faults.shortTransfers);
    const done =
      (kind === "read" || kind === "write") && isShort
        ? SECTOR_BYTES * (1 + this.random.below(length / SECTOR_BYTES - 1))
        : length;
    if (pending.file === NVRAM_FILE) this.#nvram(pending, () => true);
    else this.#data(pending, done, () => true);
    return kind === "read" || kind === "write" ? done : 0;
  }

  /** Some of its sectors, as a write that fails, or meets a power cut. */
  #partly(pending: Pending): void {
    const some = (): boolean => this.random.chance(0.5);
    if (pending.file === NVRAM_FILE) this.#nvram({ ...pending, durable: false }, some);
    else this.#data({ ...pending, durable: false }, pending.length, some);
  }

  #data({ kind, offset, address, durable, begun, index: asker }: Pending, length: number, chosen: () => boolean): void {
    const first = offset / SECTOR_BYTES;
    const view = kind === "read" || kind === "write" ? this.#at(address, length) : undefined;
    if (begun !== undefined) this.disk.endFlush(begun);
    for (let index = 0; index < length / SECTOR_BYTES; index++) {
      if (kind === "flush" || !chosen()) continue;
      const sector = first + index;
      if (kind === "zero") this.disk.write(sector, 0);
      else if (kind === "read") {
        const sequence = this.disk.current[sector] as number;
        writeStamp(view as DataView, index * SECTOR_BYTES, sequence, sector);
      } else {
        const found = readStamp(view as DataView, index * SECTOR_BYTES);
        if (found.sequence !== 0 && found.sector !== sector) {
          throw new Error(`sector ${sector} is given the bytes of sector ${found.sector} (write ${found.sequence})`);
        }
        this.disk.write(sector, found.sequence);
      }
      if (kind !== "read") this.#watcher.changed?.(asker, sector);
    }
    if (durable) this.disk.harden(first, length / SECTOR_BYTES);
  }

  #nvram({ kind, offset, length, address, durable }: Pending, chosen: () => boolean): void {
    const { nvram } = this;
    if (kind === "flush") {
      nvram.durable.set(nvram.working);
      return;
    }
    const view = this.#at(address, length);
    const bytes = new Uint8Array(view.buffer, view.byteOffset, length);
    if (kind === "read") {
      bytes.set(nvram.working.subarray(offset, offset + length));
      return;
    }
    for (let at = 0; at < length; at += SECTOR_BYTES) {
      if (!chosen()) continue;
      nvram.working.set(this.#torn(bytes.subarray(at, at + SECTOR_BYTES)), offset + at);
      if (durable) nvram.durable.set(bytes.subarray(at, at + SECTOR_BYTES), offset + at);
    }
  }

  /** A sector that a power cut meets may hold anything. */
  #torn(sector: Uint8Array): Uint8Array {
    if (!this.#isCut || !this.random.chance(0.2)) return sector;
    return sector.map(() => this.random.below(256));
  }

  /** What is under way ends in the middle: a power cut takes the caches as well, which the death of the process leaves. */
  end(how: "power cut" | "kill"): void {
    this.#isCut = how === "power cut" && this.#faults.tears === true;
    for (const pending of this.#pending) {
      if (pending.kind === "write" || pending.kind === "zero") this.#partly(pending);
    }
    this.#pending = [];
    if (how === "kill") return;
    this.disk.cutPower(this.random);
    this.nvram.cutPower(this.random);
  }
}

function describe({ kind, file, offset, length, durable }: Pending): string {
  return `${kind} ${file === DATA_FILE ? "data" : "nvram"} ${offset}+${length}${durable ? " durable" : ""}`;
}
