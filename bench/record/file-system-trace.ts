/**
 * What a file system writes, in the manner of ext4: files of many sizes, laid where their directory's group has room, and
 * for each commit a run in the journal; later the bitmaps and inode tables, which lie together for 16 groups.
 *
 * Invariant. Data go to places that are free: new ones, those of a removed file, or the same ones when a file is rewritten.
 */
import { Random } from "./random.ts";
import type { Write } from "./trace.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BLOCK = 4 * KIB;

export const FILE_SYSTEM_BYTES = 32 * GIB;
/** 16 groups of 128 MiB whose metadata are together at the front. */
const FLEX_GROUP = 2 * GIB;
const FLEX_GROUPS = FILE_SYSTEM_BYTES / FLEX_GROUP;
const BITMAPS_BYTES = 32 * BLOCK;
const INODE_TABLES_BYTES = 16 * 2 * MIB;
const DATA_START = BITMAPS_BYTES + INODE_TABLES_BYTES;
const INODES_IN_BLOCK = 16;
/** The journal lies within the middle group. */
const JOURNAL_START = (FLEX_GROUPS / 2) * FLEX_GROUP + FLEX_GROUP / 2;
const JOURNAL_BYTES = 128 * MIB;
const LARGEST_WRITE = 512 * KIB;

/** Directories in use at a time, and how often one is left for another. */
const DIRECTORIES = 6;
const MOVING = 0.01;
/** Of the operations these shares rewrite a part of a file and remove one; the others make one. */
const REWRITING = 0.2;
const REMOVING = 0.25;
/** Operations of one journal commit, at most, and commits of one writeback of metadata. */
const OPERATIONS_IN_COMMIT = 12;
const COMMITS_IN_WRITEBACK = 8;

interface File {
  readonly group: number;
  readonly start: number;
  readonly blocks: number;
  readonly inode: number;
}

class FileSystem {
  readonly #random = new Random(3);
  readonly #files: File[] = [];
  readonly #freed: File[] = [];
  /** The next free block and inode of each group. */
  readonly #blocks = new Float64Array(FLEX_GROUPS);
  readonly #inodes = new Float64Array(FLEX_GROUPS);
  readonly #directories = Array.from({ length: DIRECTORIES }, () => this.#random.below(FLEX_GROUPS));
  /** Metadata blocks that are in the journal and not in their places yet. */
  readonly #dirty = new Set<number>();
  #journal = 0;

  *commit(): Generator<Write> {
    const before = this.#dirty.size;
    const operations = 1 + this.#random.below(OPERATIONS_IN_COMMIT);
    for (let operation = 0; operation < operations; operation++) yield* this.#operate();
    // A descriptor, the blocks, and a commit block.
    yield* this.#log(2 + operations + (this.#dirty.size - before));
  }

  *writeBack(): Generator<Write> {
    for (const offsetBytes of [...this.#dirty].sort((a, b) => a - b)) yield { offsetBytes, lengthBytes: BLOCK };
    this.#dirty.clear();
  }

  *#operate(): Generator<Write> {
    const random = this.#random;
    const chance = random.next();
    const index = random.below(this.#files.length);
    const file = this.#files[index];
    if (file === undefined || chance >= REWRITING + REMOVING) yield* this.#create();
    else if (chance < REWRITING) {
      const from = random.below(file.blocks);
      this.#touch(file);
      yield* this.#data(file.group, file.start + from, Math.min(file.blocks - from, random.logarithmic(1, 64)));
    } else {
      this.#files[index] = this.#files.at(-1) ?? file;
      this.#files.pop();
      this.#freed.push(file);
      this.#touch(file);
    }
  }

  *#create(): Generator<Write> {
    const random = this.#random;
    const slot = random.below(DIRECTORIES);
    if (random.next() < MOVING) this.#directories[slot] = random.below(FLEX_GROUPS);
    const group = this.#directories[slot] ?? 0;
    const blocks = random.logarithmic(1, 1024);
    const file = this.#reuse(group, blocks) ?? this.#allocate(group, blocks);
    if (file === null) return;
    this.#files.push(file);
    this.#touch(file);
    yield* this.#data(file.group, file.start, file.blocks);
  }

  /** The place of a file that was removed, if one of the last few in the group is large enough. */
  #reuse(group: number, blocks: number): File | null {
    for (let index = this.#freed.length - 1; index >= Math.max(0, this.#freed.length - 16); index--) {
      const freed = this.#freed[index];
      if (freed?.group !== group || freed.blocks < blocks) continue;
      this.#freed.splice(index, 1);
      return { ...freed, blocks };
    }
    return null;
  }

  #allocate(group: number, blocks: number): File | null {
    const start = this.#blocks[group] ?? 0;
    const end = (FLEX_GROUP - DATA_START) / BLOCK;
    const journal = (JOURNAL_START % FLEX_GROUP) / BLOCK - DATA_START / BLOCK;
    if (start + blocks > (group === Math.floor(JOURNAL_START / FLEX_GROUP) ? journal : end)) return null;
    this.#blocks[group] = start + blocks;
    const inode = this.#inodes[group] ?? 0;
    this.#inodes[group] = inode + 1;
    return { group, start, blocks, inode };
  }

  /** The inode, the inode's and the blocks' bitmaps change. */
  #touch({ group, start, inode }: File): void {
    const base = group * FLEX_GROUP;
    const inodeBlock = Math.floor(inode / INODES_IN_BLOCK) * BLOCK;
    const within = Math.floor((start * BLOCK) / (128 * MIB));
    this.#dirty.add(base + within * BLOCK);
    this.#dirty.add(base + BITMAPS_BYTES / 2 + within * BLOCK);
    this.#dirty.add(base + BITMAPS_BYTES + (inodeBlock % INODE_TABLES_BYTES));
  }

  *#data(group: number, startBlock: number, blocks: number): Generator<Write> {
    const start = group * FLEX_GROUP + DATA_START + startBlock * BLOCK;
    const bytes = blocks * BLOCK;
    for (let done = 0; done < bytes; done += LARGEST_WRITE)
      yield { offsetBytes: start + done, lengthBytes: Math.min(LARGEST_WRITE, bytes - done) };
  }

  /** A run in the journal, in two where the ring ends. */
  *#log(blocks: number): Generator<Write> {
    for (let left = blocks * BLOCK; left > 0;) {
      const lengthBytes = Math.min(left, JOURNAL_BYTES - this.#journal);
      yield { offsetBytes: JOURNAL_START + this.#journal, lengthBytes };
      this.#journal = (this.#journal + lengthBytes) % JOURNAL_BYTES;
      left -= lengthBytes;
    }
  }
}

export function* fileSystemWrites(writes: number): Generator<Write> {
  const fileSystem = new FileSystem();
  let written = 0;
  for (let commit = 1; written < writes; commit++) {
    for (const write of fileSystem.commit()) {
      written++;
      yield write;
    }
    if (commit % COMMITS_IN_WRITEBACK !== 0) continue;
    for (const write of fileSystem.writeBack()) {
      written++;
      yield write;
    }
  }
}
