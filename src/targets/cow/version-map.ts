/**
 * Which originals the store has: versions of blocks, found by block and epoch.
 *
 * A version of epoch e is what the block held for every point in time up to e that has no older version of its own. So a
 * point of epoch p finds in a block the version with the smallest epoch that is not below p; where there is none, the
 * volume itself still holds it.
 *
 * Linear hashing: the table grows by one bucket with each version, so no call ever takes long. Memory grows by pages, in
 * proportion to the versions. The versions of a block stand in their bucket's chain newest first.
 */

/** The epoch of a version that is on its way to the store: above all others. */
const PENDING_EPOCH = 0xffff_ffff;
const PAGE_SHIFT = 12;
const PAGE_ENTRIES = 1 << PAGE_SHIFT;
const PAGE_MASK = PAGE_ENTRIES - 1;
export const NONE = -1;

interface Page {
  readonly blocks: Float64Array;
  readonly epochs: Uint32Array;
  readonly slots: Int32Array;
  readonly checksums: Uint32Array;
  /** ENTRY_FLAG of the table. */
  readonly flags: Uint8Array;
  /** The next version in the bucket, or of the free ones. */
  readonly next: Int32Array;
}

function newPage(): Page {
  return {
    blocks: new Float64Array(PAGE_ENTRIES),
    epochs: new Uint32Array(PAGE_ENTRIES),
    slots: new Int32Array(PAGE_ENTRIES),
    checksums: new Uint32Array(PAGE_ENTRIES),
    flags: new Uint8Array(PAGE_ENTRIES),
    next: new Int32Array(PAGE_ENTRIES),
  };
}

function hash(block: number): number {
  const high = Math.floor(block / 0x1_0000_0000);
  let value = (block | 0) ^ Math.imul(high, 0x9e3779b1);
  value = Math.imul(value ^ (value >>> 16), 0x21f0aaad);
  value = Math.imul(value ^ (value >>> 15), 0x735a2d97);
  return (value ^ (value >>> 15)) >>> 0;
}

/** A version is known by its number, from `add` until `remove`. */
export class VersionMap {
  readonly #pages: Page[] = [];
  readonly #heads: Int32Array[] = [];
  #free = NONE;
  #entries = 0;
  #count = 0;
  #buckets = 0;
  /** Buckets below `#split` have been split on this level already. */
  #level = 1;
  #split = 0;

  constructor() {
    this.#addBucket();
  }

  get count(): number {
    return this.#count;
  }

  /** Buckets, for whoever walks through all versions: see `firstOf`. Grows while versions are added. */
  get buckets(): number {
    return this.#buckets;
  }

  block(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).blocks[version & PAGE_MASK] as number;
  }

  epoch(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).epochs[version & PAGE_MASK] as number;
  }

  slot(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).slots[version & PAGE_MASK] as number;
  }

  checksum(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).checksums[version & PAGE_MASK] as number;
  }

  flags(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).flags[version & PAGE_MASK] as number;
  }

  /** The version has been copied to another slot. */
  move(version: number, slot: number, flags: number, checksum: number): void {
    const page = this.#pages[version >>> PAGE_SHIFT] as Page;
    const at = version & PAGE_MASK;
    page.slots[at] = slot;
    page.flags[at] = flags;
    page.checksums[at] = checksum;
  }

  /** The first version in a bucket's chain; NONE if it is empty. */
  firstOf(bucket: number): number {
    return (this.#heads[bucket >>> PAGE_SHIFT] as Int32Array)[bucket & PAGE_MASK] as number;
  }

  /** The version behind this one in its chain, of whatever block. */
  after(version: number): number {
    return (this.#pages[version >>> PAGE_SHIFT] as Page).next[version & PAGE_MASK] as number;
  }

  /** The newest version of a block; NONE if it has none. */
  newest(block: number): number {
    return this.#seek(this.firstOf(this.#bucketOf(block)), block);
  }

  /** The next older version of the same block. */
  older(version: number): number {
    return this.#seek(this.after(version), this.block(version));
  }

  #seek(from: number, block: number): number {
    let version = from;
    while (version !== NONE) {
      const page = this.#pages[version >>> PAGE_SHIFT] as Page;
      const at = version & PAGE_MASK;
      if (page.blocks[at] === block) return version;
      version = page.next[at] as number;
    }
    return NONE;
  }

  /** Whether the block is on its way to the store: see `begin`. */
  isPending(version: number): boolean {
    return this.epoch(version) === PENDING_EPOCH;
  }

  /** The version that a point of this epoch finds; NONE where the volume still holds it. */
  find(block: number, epoch: number): number {
    let found = NONE;
    let version = this.newest(block);
    if (version !== NONE && this.isPending(version)) version = this.older(version);
    while (version !== NONE && this.epoch(version) >= epoch) {
      found = version;
      version = this.older(version);
    }
    return found;
  }

  /** The version of exactly this epoch; NONE if there is none. */
  findExactly(block: number, epoch: number): number {
    const version = this.find(block, epoch);
    return version !== NONE && this.epoch(version) === epoch ? version : NONE;
  }

  /** The block is on its way to the store: nobody finds a version yet, and `newest` gives one that is pending. */
  begin(block: number): number {
    return this.add(block, PENDING_EPOCH, NONE, 0, 0);
  }

  /** A pending version is durable. Its epoch is above those of the block's other versions. */
  settle(version: number, epoch: number, slot: number, checksum: number, flags: number): void {
    const page = this.#pages[version >>> PAGE_SHIFT] as Page;
    const at = version & PAGE_MASK;
    page.epochs[at] = epoch;
    page.slots[at] = slot;
    page.checksums[at] = checksum;
    page.flags[at] = flags;
  }

  /** Adds a version that is not there yet, and gives its number. */
  add(block: number, epoch: number, slot: number, checksum: number, flags: number): number {
    const version = this.#take();
    const page = this.#pages[version >>> PAGE_SHIFT] as Page;
    const at = version & PAGE_MASK;
    page.blocks[at] = block;
    page.epochs[at] = epoch;
    page.slots[at] = slot;
    page.checksums[at] = checksum;
    page.flags[at] = flags;
    let before = NONE;
    let next = this.newest(block);
    while (next !== NONE && this.epoch(next) > epoch) {
      before = next;
      next = this.older(next);
    }
    if (before === NONE) this.#push(this.#bucketOf(block), version);
    else {
      page.next[at] = this.after(before);
      this.#setNext(before, version);
    }
    this.#count++;
    if (this.#count > this.#buckets) this.#splitNext();
    return version;
  }

  remove(version: number): void {
    const bucket = this.#bucketOf(this.block(version));
    const next = this.after(version);
    let before = this.firstOf(bucket);
    if (before === version) this.#setHead(bucket, next);
    else {
      while (this.after(before) !== version) before = this.after(before);
      this.#setNext(before, next);
    }
    this.#setNext(version, this.#free);
    this.#free = version;
    this.#count--;
  }

  /** All versions are gone, and their memory. */
  clear(): void {
    this.#pages.length = 0;
    this.#heads.length = 0;
    this.#free = NONE;
    this.#entries = 0;
    this.#count = 0;
    this.#buckets = 0;
    this.#level = 1;
    this.#split = 0;
    this.#addBucket();
  }

  #take(): number {
    const free = this.#free;
    if (free !== NONE) {
      this.#free = this.after(free);
      return free;
    }
    if (this.#entries === this.#pages.length * PAGE_ENTRIES) this.#pages.push(newPage());
    return this.#entries++;
  }

  #bucketOf(block: number): number {
    const value = hash(block);
    const bucket = value & (this.#level - 1);
    return bucket < this.#split ? value & (2 * this.#level - 1) : bucket;
  }

  #setNext(version: number, next: number): void {
    (this.#pages[version >>> PAGE_SHIFT] as Page).next[version & PAGE_MASK] = next;
  }

  #setHead(bucket: number, version: number): void {
    (this.#heads[bucket >>> PAGE_SHIFT] as Int32Array)[bucket & PAGE_MASK] = version;
  }

  #push(bucket: number, version: number): void {
    this.#setNext(version, this.firstOf(bucket));
    this.#setHead(bucket, version);
  }

  #addBucket(): void {
    if (this.#buckets === this.#heads.length * PAGE_ENTRIES) this.#heads.push(new Int32Array(PAGE_ENTRIES).fill(NONE));
    this.#buckets++;
  }

  /** Divides one bucket in two. The order of a chain stays as it is. */
  #splitNext(): void {
    const from = this.#split;
    const to = this.#buckets;
    let version = this.firstOf(from);
    this.#addBucket();
    this.#split++;
    if (this.#split === this.#level) {
      this.#level *= 2;
      this.#split = 0;
    }
    let stayed = NONE;
    let moved = NONE;
    this.#setHead(from, NONE);
    while (version !== NONE) {
      const next = this.after(version);
      this.#setNext(version, NONE);
      if (this.#bucketOf(this.block(version)) === from) {
        if (stayed === NONE) this.#setHead(from, version);
        else this.#setNext(stayed, version);
        stayed = version;
      } else {
        if (moved === NONE) this.#setHead(to, version);
        else this.#setNext(moved, version);
        moved = version;
      }
      version = next;
    }
  }
}
