/**
 * Moves blocks to the store: reads a group of them, appends it, and has the map find them.
 *
 * Invariants. A block that is on its way is pending in the map, and nobody changes it in the volume until it is settled. What
 * cannot be read is entered as lost: whoever wants that block is told so, and nobody else. Groups are appended in the order
 * in which they were started, one at a time, while the one behind it is being read.
 */
import { crc32 } from "node:zlib";
import { OPCODE } from "../../ublk/abi.ts";
import type { CompletionHandler } from "../../ublk/io.ts";
import { Operation, type Layer, type Request, type Submission } from "../../ublk/request.ts";
import type { TargetContext } from "../../ublk/target.ts";
import { COW_COUNT, type CowCounts } from "./cow-counts.ts";
import { FROM_VOLUME, Group } from "./group.ts";
import type { OriginalStore } from "./original-store.ts";
import type { Points } from "./points.ts";
import { ENTRY_FLAG } from "./table-sector.ts";
import type { Tuning } from "./tuning.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/**
 * One group is being appended, one is being read: what comes meanwhile shares the next barrier. More groups under way would
 * be smaller ones, each with a barrier of its own.
 */
const STARTED_MAX = 2;
/** And one that is being put together. */
export const GROUPS = STARTED_MAX + 1;

export interface MoverParts {
  readonly store: OriginalStore;
  readonly map: VersionMap;
  readonly points: Points;
  readonly next: Submission;
  readonly volumeBytes: number;
  readonly tuning: Tuning;
  readonly counts: CowCounts;
  /** The first of its slots in `next`. */
  readonly firstSlot: number;
}

export class Mover implements Layer, CompletionHandler {
  readonly #parts: MoverParts;
  readonly #io: TargetContext["ring"];
  readonly #handler: number;
  readonly #blocks: number;
  readonly #blockBytes: number;
  /** A ring: the oldest that is under way, those behind it, and the one that is being put together. */
  readonly #groups: readonly Group[];
  #first = 0;
  #underWay = 0;
  #isAppending = false;
  /** Groups so far. The one that is being put together has the number `started`. */
  started = 0;
  ended = 0;
  readonly #appended = (result: number): void => this.#end(result);
  /** Told when a group has ended, with 0 or a negative errno: its blocks are settled, or are pending no more. */
  whenMoved: (result: number) => void = () => undefined;

  constructor(parts: MoverParts, context: TargetContext) {
    this.#parts = parts;
    this.#io = context.ring;
    this.#handler = context.ring.addHandler(this);
    this.#blockBytes = parts.store.layout.geometry.blockBytes;
    // An append fills one segment at most before the next: the store has two tables in memory.
    this.#blocks = Math.min(parts.tuning.groupBlocks, parts.store.layout.geometry.slotsPerSegment);
    this.#groups = Array.from(
      { length: GROUPS },
      (_, index) => new Group(context.ring, this.#blocks, this.#blockBytes, parts.firstSlot + index * this.#blocks),
    );
  }

  get #forming(): Group {
    return this.#groups[(this.#first + this.#underWay) % this.#groups.length] as Group;
  }

  /** Another block can be taken: into the group that is being put together, and into the store. */
  get hasRoom(): boolean {
    return !this.#forming.isFull;
  }

  get isIdle(): boolean {
    return this.#underWay === 0 && this.#forming.count === 0;
  }

  /** Slots of the store that are spoken for, but not taken yet. */
  get promised(): number {
    let count = 0;
    for (const group of this.#groups) count += group.count;
    // What is being appended has its slots.
    return this.#isAppending ? count - (this.#groups[this.#first] as Group).count : count;
  }

  /** Takes a block of the volume, which is pending in the map. */
  takeOriginal(block: number, epoch: number): void {
    this.#forming.add(block, FROM_VOLUME, epoch);
  }

  /** Takes a version that is to be copied within the store. */
  takeStored(block: number, epoch: number, slot: number): void {
    this.#forming.add(block, slot, epoch);
  }

  /** Starts what was taken, unless a group is waiting to be appended: then more is gathered meanwhile. */
  start(): void {
    if (this.#underWay === STARTED_MAX || this.#forming.count === 0) return;
    const group = this.#forming;
    this.#underWay++;
    this.started++;
    group.reading = 1;
    for (let at = 0; at < group.count;) {
      const length = this.#runFrom(group, at);
      this.#read(group, at, length);
      at += length;
    }
    this.#endRead(group);
  }

  /** Blocks from `at` on that can be read at once. */
  #runFrom(group: Group, at: number): number {
    const source = group.sources[at] as number;
    if (source !== FROM_VOLUME) return 1;
    const block = group.blocks[at] as number;
    let length = 1;
    while (
      at + length < group.count &&
      group.sources[at + length] === FROM_VOLUME &&
      group.blocks[at + length] === block + length
    ) {
      length++;
    }
    return length;
  }

  #read(group: Group, at: number, count: number): void {
    const { next, store, volumeBytes } = this.#parts;
    group.reading++;
    const source = group.sources[at] as number;
    if (source !== FROM_VOLUME) {
      const index = this.#groups.indexOf(group) * this.#blocks + at;
      this.#io.transfer(
        OPCODE.READ,
        store.file,
        store.layout.slotOffset(source),
        group.address + at * this.#blockBytes,
        this.#blockBytes,
        0,
        this.#handler,
        index,
      );
      return;
    }
    const request = group.reads[at] as Request;
    request.operation = Operation.READ;
    request.offset = (group.blocks[at] as number) * this.#blockBytes;
    request.length = Math.min(count * this.#blockBytes, volumeBytes - request.offset);
    // The volume's last block may be no whole one.
    if (request.length < count * this.#blockBytes) (group.views[at + count - 1] as Uint8Array).fill(0);
    this.#parts.counts.add(COW_COUNT.readBytes, request.length);
    request.pass(next, this);
  }

  /** A read of the volume has ended. */
  answered(request: Request, result: number): void {
    const index = request.slot - this.#parts.firstSlot;
    const group = this.#groups[Math.floor(index / this.#blocks)] as Group;
    const at = index % this.#blocks;
    const count = Math.ceil(request.length / this.#blockBytes);
    if (result < 0) {
      if (count > 1) for (let each = at; each < at + count; each++) this.#read(group, each, 1);
      else this.#lose(group, at);
    }
    this.#endRead(group);
  }

  /** A read of the store has ended. */
  completed(index: number, result: number): void {
    const { map } = this.#parts;
    const group = this.#groups[Math.floor(index / this.#blocks)] as Group;
    const at = index % this.#blocks;
    const version = map.findExactly(group.blocks[at] as number, group.epochs[at] as number);
    // What is not there any more may have been overwritten while it was read: nobody wants it.
    const isStillThere = version !== NONE && map.slot(version) === group.sources[at];
    if (isStillThere && (result !== this.#blockBytes || !this.#isWhole(group, at, version))) this.#lose(group, at);
    this.#endRead(group);
  }

  #isWhole(group: Group, at: number, version: number): boolean {
    if ((this.#parts.map.flags(version) & ENTRY_FLAG.LOST) !== 0) return false;
    return crc32(group.views[at] as Uint8Array) === this.#parts.map.checksum(version);
  }

  #lose(group: Group, at: number): void {
    this.#parts.counts.add(COW_COUNT.lost);
    group.flags[at] = ENTRY_FLAG.LOST;
    (group.views[at] as Uint8Array).fill(0);
  }

  #endRead(group: Group): void {
    if (--group.reading === 0) this.#append();
  }

  /** Appends the oldest group, if it is read and nothing else is being appended. */
  #append(): void {
    const group = this.#groups[this.#first] as Group;
    if (this.#isAppending || this.#underWay === 0 || group.reading > 0) return;
    this.#isAppending = true;
    this.#parts.store.append(group, this.#parts.points.lastEpoch, this.#appended);
  }

  #end(result: number): void {
    const group = this.#groups[this.#first] as Group;
    for (let at = 0; at < group.count; at++) {
      if (group.sources[at] === FROM_VOLUME) this.#endOriginal(group, at, result);
      else this.#endStored(group, at, result);
    }
    group.count = 0;
    this.#first = (this.#first + 1) % this.#groups.length;
    this.#underWay--;
    this.ended++;
    this.#isAppending = false;
    this.whenMoved(result);
    this.#append();
    this.start();
  }

  /** Gives back what was taken and has not been started. */
  abandon(): void {
    const group = this.#forming;
    for (let at = 0; at < group.count; at++) {
      if (group.sources[at] === FROM_VOLUME) this.#parts.map.remove(this.#parts.map.newest(group.blocks[at] as number));
    }
    group.count = 0;
  }

  #endOriginal(group: Group, at: number, result: number): void {
    const { map, points, store } = this.#parts;
    const segment = store.layout.segmentOf(group.slots[at] as number);
    const version = map.newest(group.blocks[at] as number);
    const epoch = group.epochs[at] as number;
    const older = map.older(version);
    if (result === 0) {
      this.#parts.counts.add(COW_COUNT.moved);
      map.settle(version, epoch, group.slots[at] as number, group.checksums[at] as number, group.flags[at] as number);
      // Whoever wanted it may have gone meanwhile.
      if (points.isWanted(map.block(version), older === NONE ? 0 : map.epoch(older), epoch)) return;
    }
    map.remove(version);
    store.segments.unwant(segment);
  }

  #endStored(group: Group, at: number, result: number): void {
    const { map, store } = this.#parts;
    const version = map.findExactly(group.blocks[at] as number, group.epochs[at] as number);
    const source = group.sources[at] as number;
    const slot = group.slots[at] as number;
    const isStillThere = version !== NONE && map.slot(version) === source;
    if (result !== 0 || !isStillThere) {
      store.segments.unwant(store.layout.segmentOf(slot));
      return;
    }
    this.#parts.counts.add(COW_COUNT.relocated);
    map.move(version, slot, group.flags[at] as number, group.checksums[at] as number);
    store.segments.unwant(store.layout.segmentOf(source));
  }
}
