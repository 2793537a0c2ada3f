/** What a point consists of, in its order, however reads end; and reads over the memory that two threads share. */
import test from "ava";
import { CopyPace } from "../../src/replication/copy-pace.ts";
import { PointParts } from "../../src/replication/point-parts.ts";
import { SharedReads } from "../../src/replication/shared-reads.ts";
import { POINT_READ_BYTES, POINT_READS } from "../../src/targets/mirror/mirror-target.ts";
import { newDirtyBlocks } from "./point-model.ts";

const GEOMETRY = { volumeSectors: 100_000, blockSectors: 8 };
/** As much as is read at once. */
const CHUNK_SECTORS = POINT_READ_BYTES / 512;
const CHUNK_BLOCKS = CHUNK_SECTORS / 8;
const EIO = -5;

/** A volume whose reads end by hand. */
class Volume {
  readonly reads: { readonly sector: number; readonly done: (result: number, bytes: Uint8Array) => void }[] = [];
  readonly read_: number[] = [];
  woken = 0;
  readonly pace = new CopyPace({ nowMs: () => 0, later: () => undefined, hostRequests: () => 0 }, () => undefined);

  parts(copies: readonly { first: number; count: number }[], partials: readonly number[] = []): PointParts {
    const half = newDirtyBlocks(GEOMETRY, 60);
    for (const block of partials) half.wroteUnknown(block * 8 + 1, 2);
    const volume = {
      read: (sector: number, _sectors: number, done: (result: number, bytes: Uint8Array) => void) => {
        this.reads.push({ sector, done });
      },
      hasRead: (block: number) => {
        this.read_.push(block);
      },
    };
    const options = { volume, geometry: GEOMETRY, chunkSectors: CHUNK_SECTORS, pace: this.pace };
    const uncompared = { comparison: null, compared: { comparedBytes: 0, equalBytes: 0 } };
    const whenRead = (): void => {
      this.woken++;
    };
    return new PointParts(
      { ...options, ...uncompared, whenRead },
      { half, endTransfer: 1, isClosed: false, copies },
      1,
    );
  }

  /** The read that has waited longest but `index` ends; its bytes tell where it was. */
  end(index = 0, result = 0): void {
    const [read] = this.reads.splice(index, 1);
    read?.done(result, new Uint8Array([(read.sector / CHUNK_SECTORS) | 0]));
  }
}

test("several parts are read at once, as many as there is memory for, and come in their order", (t) => {
  const volume = new Volume();
  const parts = volume.parts([{ first: 4, count: POINT_READS + 2 }], [1, 9]);
  t.is(parts.take(), undefined);
  t.is(volume.reads.length, POINT_READS);
  for (let index = POINT_READS - 1; index >= 0; index--) volume.end(index);
  t.is(volume.reads.length, 0, "what was read and not taken has its memory still");
  const blocks: number[] = [];
  while (!parts.isEmpty) {
    const part = parts.take();
    if (part === undefined) volume.end();
    else blocks.push(part.run.block);
    t.true(volume.reads.length <= POINT_READS);
  }
  const copied = Array.from({ length: POINT_READS + 2 }, (_, index) => (4 + index) * CHUNK_BLOCKS);
  t.deepEqual(blocks, [1, 9, ...copied]);
  t.deepEqual(
    volume.read_.toSorted((a, b) => a - b),
    blocks,
  );
});

test("what could not be read is read again, and the others wait for it", (t) => {
  const volume = new Volume();
  const parts = volume.parts([{ first: 0, count: 2 }]);
  parts.take();
  volume.end(0, EIO);
  volume.end();
  t.is(volume.woken, 2);
  t.is(parts.take(), undefined);
  t.is(volume.reads.length, 1);
  volume.end();
  t.is(parts.take()?.run.block, 0);
  t.is(parts.take()?.data?.[0], 1);
  t.true(parts.isEmpty);
  t.deepEqual(volume.read_, [CHUNK_BLOCKS, 0]);
});

test("reads of a point that is over go nowhere, but have their memory until they end", (t) => {
  const volume = new Volume();
  const over = volume.parts([{ first: 0, count: POINT_READS }]);
  over.take();
  over.close();
  const next = volume.parts([{ first: 50, count: 2 }]);
  t.is(next.take(), undefined);
  t.is(volume.reads.length, POINT_READS, "there is no room for one of the next point");
  volume.end();
  t.is(volume.woken, 1);
  t.deepEqual(volume.read_, []);
  t.is(next.take(), undefined);
  t.is(volume.reads.length, POINT_READS);
  volume.end(POINT_READS - 1);
  t.is(next.take()?.run.block, 50 * CHUNK_BLOCKS);
});

test("a place in the shared memory belongs to one read until it has ended; what finds none waits", (t) => {
  const memory = new SharedArrayBuffer(POINT_READS * POINT_READ_BYTES);
  const ordered: number[][] = [];
  const reads = new SharedReads(memory, (place, sector) => void ordered.push([place, sector]));
  const answers: number[][] = [];
  for (let sector = 0; sector < POINT_READS + 1; sector++) {
    reads.read({ sector, sectors: 1, done: (result, bytes) => void answers.push([sector, result, bytes[0] ?? -1]) });
  }
  t.is(ordered.length, POINT_READS);
  t.is(new Set(ordered.map(([place]) => place)).size, POINT_READS);
  new Uint8Array(memory)[3 * POINT_READ_BYTES] = 77;
  reads.ended(3, 0);
  t.deepEqual(answers, [[3, 0, 77]]);
  t.deepEqual(ordered.at(-1), [3, POINT_READS]);
  reads.ended(3, 0);
  reads.ended(3, 0);
  t.is(answers.length, 2, "nobody waits there any more");
  reads.close();
});
