/**
 * Memory of copy-on-write for blocks that have changed, in a process of its own: `changed-blocks.ts BLOCKS` opens the whole
 * of it over a sparse volume of 16 TiB, takes a snapshot, overwrites so many blocks that lie all over the volume, and prints
 * what it has then. Volume and store answer at once and keep nothing.
 */
import { mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ByteFile } from "../../src/targets/byte-file.ts";
import { CowCounts } from "../../src/targets/cow/cow-counts.ts";
import type { CowTarget } from "../../src/targets/cow/cow-target.ts";
import { openCow } from "../../src/targets/cow/open-cow.ts";
import { createStore, geometryFor } from "../../src/targets/cow/store-file.ts";
import { tuningFor } from "../../src/targets/cow/tuning.ts";
import { NullTarget, nullLimits } from "../../src/targets/null.ts";
import type { TargetContext } from "../../src/ublk/target.ts";
import { AnsweringIo } from "./answering-io.ts";
import { HostWrites } from "./host-writes.ts";

const VOLUME_BYTES = 16 * 2 ** 40;
export const CHANGED_BLOCK_BYTES = 64 * 1024;
/** Room for all that is ever changed here: the same store whatever is changed. */
const STORE_BYTES = 128 * 2 ** 30;
const SECTOR_BYTES = 512;
const DEPTH = 32;
const WRITE_BYTES = 4096;
/** Odd, and the volume's blocks are a power of two: its multiples go all over the volume, and meet each block once. */
const STRIDE_BLOCKS = 0x9e3779b1;
const OWNER = { volume: "bench", mark: 1n };

/** What a process has, in bytes. */
export interface MemoryOf {
  readonly residentBytes: number;
  /** Of typed arrays alone, and of the heap. */
  readonly buffersBytes: number;
  readonly heapBytes: number;
}

export interface ChangedBlocks {
  readonly changed: number;
  /** Before copy-on-write was opened, when it had been opened and had its snapshot, and after the writes. */
  readonly bare: MemoryOf;
  readonly opened: MemoryOf;
  readonly after: MemoryOf;
}

function memory(): MemoryOf {
  // Buffers that one collection has found dead may be counted until the next one begins.
  globalThis.gc?.();
  globalThis.gc?.();
  const { rss, arrayBuffers, heapUsed } = process.memoryUsage();
  return { residentBytes: rss, buffersBytes: arrayBuffers, heapBytes: heapUsed };
}

/** A volume with copy-on-write, whose store is made in a file that stays sparse. */
class Bed {
  readonly #io = new AnsweringIo();
  readonly #batchEnds: (() => void)[] = [];
  readonly target: CowTarget;

  constructor(path: string) {
    writeFileSync(path, "");
    truncateSync(path, STORE_BYTES);
    const file = new ByteFile(openSync(path, "r+"));
    createStore(file, OWNER, geometryFor(STORE_BYTES, CHANGED_BLOCK_BYTES, SECTOR_BYTES), 1);
    const context: TargetContext = {
      limits: nullLimits(VOLUME_BYTES, SECTOR_BYTES, false),
      depth: DEPTH,
      ring: this.#io,
      useFile: () => 0,
      afterBatch: (callback) => void this.#batchEnds.push(callback),
    };
    const options = {
      file: 0,
      volumeBytes: VOLUME_BYTES,
      tuning: tuningFor(CHANGED_BLOCK_BYTES),
      fullPolicy: "stall" as const,
      lossNote: { isThere: false, write: () => undefined, clear: () => undefined },
      counts: new CowCounts(),
    };
    this.target = openCow(file, OWNER, options, new NullTarget(), context);
  }

  turn(): void {
    for (const endBatch of this.#batchEnds) endBatch();
    this.#io.reap();
  }
}

function takeSnapshot(bed: Bed): void {
  let epoch = 0;
  bed.target.takePoint("snapshot", "bench", 0, (result) => {
    if (typeof result === "number") throw new Error(`no snapshot was taken: ${result}`);
    epoch = result.epoch;
  });
  while (epoch === 0) bed.turn();
}

function change(bed: Bed, blocks: number): void {
  using host = new HostWrites(DEPTH, WRITE_BYTES);
  const lastBlock = VOLUME_BYTES / CHANGED_BLOCK_BYTES - 1;
  let next = 0;
  const nextOffset = (): number => (Math.imul(next++, STRIDE_BLOCKS) & lastBlock) * CHANGED_BLOCK_BYTES;
  while (host.ended < blocks) {
    host.begin(bed.target, blocks - next, nextOffset);
    bed.turn();
  }
  if (bed.target.versions !== blocks) throw new Error(`${bed.target.versions} originals are kept, wanted ${blocks}`);
}

function main(): void {
  const changed = Number(process.argv[2]);
  const folder = mkdtempSync(join(tmpdir(), "sluice-bench-"));
  try {
    const bare = memory();
    const bed = new Bed(join(folder, "store"));
    takeSnapshot(bed);
    const opened = memory();
    change(bed, changed);
    const measured: ChangedBlocks = { changed, bare, opened, after: memory() };
    process.stdout.write(JSON.stringify(measured));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) main();
