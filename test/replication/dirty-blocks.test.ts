/** What was written since a point, and the point that is planned from it, beside a model of source and remote. */
import test from "ava";
import fc from "fast-check";
import { codeOf } from "../../src/ublk/errors.ts";
import { DIRTY_BLOCKS_MAX, TRANSFERS_MAX } from "../../src/targets/mirror/dirty-blocks.ts";
import { RUN_KIND, type PointRun } from "../../src/replication/point-items.ts";
import { planPoint } from "../../src/replication/point-plan.ts";
import { newDirtyBlocks, PointModel, type ModelWrite } from "./point-model.ts";

/** Two blocks, and a short one. */
const SMALL = { volumeSectors: 9, blockSectors: 4 } as const;

function everyWrite(zeroes: readonly boolean[]): ModelWrite[] {
  const writes: ModelWrite[] = [];
  for (let sector = 0; sector < SMALL.volumeSectors; sector++)
    for (let sectors = 1; sector + sectors <= SMALL.volumeSectors; sectors++)
      for (const each of zeroes) writes.push({ sector, sectors, zeroes: each });
  return writes;
}

/** Whether a block must travel: its last write was not all of it. */
function partialBlocks(writes: readonly ModelWrite[]): Set<number> {
  const partial = new Set<number>();
  for (const { sector, sectors } of writes) {
    for (let block = 0; block * 4 < SMALL.volumeSectors; block++) {
      const begin = block * 4;
      const end = Math.min(begin + 4, SMALL.volumeSectors);
      if (sector >= end || sector + sectors <= begin) continue;
      if (sector <= begin && sector + sectors >= end) partial.delete(block);
      else partial.add(block);
    }
  }
  return partial;
}

function reproduces(writes: readonly ModelWrite[], writesPerTransfer: number): string | undefined {
  const model = new PointModel(SMALL, 3, writesPerTransfer);
  for (const write of writes) model.write(write);
  const wanted = partialBlocks(writes);
  for (const run of planPoint(model.dirty, 0, 8)) {
    model.apply(run);
    for (let block = run.block; block < run.block + run.blocks; block++) {
      if ((run.kind === RUN_KIND.DATA) !== wanted.has(block)) return `block ${block} travels wrongly`;
    }
  }
  return model.remote.every((value, sector) => value === model.source[sector]) ? undefined : "another image";
}

test("every sequence of three writes of data: the remote has what the source has, and only parts travel", (t) => {
  const writes = everyWrite([false]);
  let sequences = 0;
  for (const first of writes)
    for (const second of writes)
      for (const third of writes) {
        const sequence = [first, second, third];
        const fault = reproduces(sequence, 1 + (sequences++ % 3));
        if (fault !== undefined) return t.fail(`${fault}: ${JSON.stringify(sequence)}`);
      }
  t.is(sequences, 91_125);
});

test("every sequence of two writes, of data or zeroes", (t) => {
  const writes = everyWrite([false, true]);
  for (const first of writes)
    for (const second of writes) {
      const fault = reproduces([first, second], 2);
      if (fault !== undefined) return t.fail(`${fault}: ${JSON.stringify([first, second])}`);
    }
  t.pass();
});

test("a plan: each block once, references by transfer and place, runs as long as can be", (t) => {
  const geometry = { volumeSectors: 8 * 400 + 3, blockSectors: 8 };
  const write = fc.record({
    sector: fc.integer({ min: 0, max: geometry.volumeSectors - 1 }),
    sectors: fc.integer({ min: 1, max: 64 }),
    aligned: fc.boolean(),
    zeroes: fc.integer({ min: 0, max: 5 }).map((value) => value === 0),
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 200 }), fc.integer({ min: 1, max: 40 }), (writes, perTransfer) => {
      const model = new PointModel(geometry, 401, perTransfer);
      for (const { sector, sectors, aligned, zeroes } of writes) {
        const begin = aligned ? sector - (sector % 8) : sector;
        const wanted = aligned ? Math.ceil(sectors / 8) * 8 : sectors;
        model.write({ sector: begin, sectors: Math.min(wanted, geometry.volumeSectors - begin), zeroes });
      }
      const runs = [...planPoint(model.dirty, 0, 16)];
      runs.forEach((run) => {
        model.apply(run);
      });
      const blocks = runs.flatMap((run) => Array.from({ length: run.blocks }, (_, index) => run.block + index));
      if (new Set(blocks).size !== blocks.length || blocks.length !== model.dirty.count) return false;
      if (!isOrdered(runs)) return false;
      return model.remote.every((value, sector) => value === model.source[sector]);
    }),
    { numRuns: 300 },
  );
  t.pass();
});

function isOrdered(runs: readonly PointRun[]): boolean {
  const order = [RUN_KIND.REFERENCE, RUN_KIND.ZEROES, RUN_KIND.DATA] as const;
  return runs.every((run, index) => {
    const before = runs[index - 1];
    if (before === undefined) return true;
    if (run.kind !== before.kind) return order.indexOf(run.kind) > order.indexOf(before.kind);
    if (run.kind !== RUN_KIND.REFERENCE) return run.block >= before.block + before.blocks;
    return run.transfer > before.transfer || (run.transfer === before.transfer && run.place > before.place);
  });
}

test("neighbours are one run, where their places are neighbours too", (t) => {
  const dirty = newDirtyBlocks({ volumeSectors: 800, blockSectors: 8 }, 100);
  dirty.wroteData(80, 80, 7, 100);
  dirty.wroteData(160, 8, 7, 500);
  dirty.wroteData(168, 8, 8, 508);
  dirty.wroteZeroes(400, 16);
  dirty.wroteZeroes(416, 8);
  dirty.wroteData(441, 14, 8, 0);
  t.deepEqual(
    [...planPoint(dirty, 7, 1)],
    [
      { kind: RUN_KIND.REFERENCE, block: 10, blocks: 10, transfer: 7, place: 100 },
      { kind: RUN_KIND.REFERENCE, block: 20, blocks: 1, transfer: 7, place: 500 },
      { kind: RUN_KIND.REFERENCE, block: 21, blocks: 1, transfer: 8, place: 508 },
      { kind: RUN_KIND.ZEROES, block: 50, blocks: 3, transfer: 0, place: 0 },
      { kind: RUN_KIND.DATA, block: 55, blocks: 1, transfer: 0, place: 0 },
      { kind: RUN_KIND.DATA, block: 56, blocks: 1, transfer: 0, place: 0 },
    ],
  );
});

test("room is told of before it ends, and blocks beyond 31 bits are kept apart", (t) => {
  const dirty = newDirtyBlocks({ volumeSectors: 8 * 2 ** 32, blockSectors: 8 }, 4);
  const last = 8 * (2 ** 32 - 1);
  dirty.wroteData(last, 8, 1, 0);
  dirty.wroteData(last - 8 * 2 ** 31, 8, 1, 8);
  t.deepEqual([dirty.blockOf(0), dirty.blockOf(1), dirty.count], [2 ** 32 - 1, 2 ** 31 - 1, 2]);
  t.true(dirty.admits(4, 12));
  t.false(dirty.admits(4, 13));
  t.true(dirty.admits(4, 4, 1));
  t.false(dirty.admits(4, 4, 2));
  dirty.wroteZeroes(4, 12);
  t.false(dirty.admits(0, 1));
  t.is(codeOf(t.throws(() => dirty.wroteZeroes(800, 8))), "EFULL");
  dirty.clear();
  t.is(dirty.count, 0);
  t.true(dirty.admits(800, 32));
});

test("an older point that never was goes into the next one: what was written since stays as it is", (t) => {
  const geometry = { volumeSectors: 8 * 40 + 3, blockSectors: 8 };
  const write = fc.record({
    sector: fc.integer({ min: 0, max: geometry.volumeSectors - 1 }),
    sectors: fc.integer({ min: 1, max: 40 }),
    zeroes: fc.boolean(),
  });
  const writes = fc.array(write, { maxLength: 30 });
  fc.assert(
    fc.property(writes, writes, fc.boolean(), (before, after, isRead) => {
      const model = new PointModel(geometry, 41, 4);
      const put = ({ sector, sectors, zeroes }: ModelWrite): void => {
        model.write({ sector, sectors: Math.min(sectors, geometry.volumeSectors - sector), zeroes });
      };
      before.forEach(put);
      const older = model.dirty;
      if (isRead) older.markRead(0, 41);
      model.dirty = newDirtyBlocks(geometry, 82);
      after.forEach(put);
      model.dirty.absorb(older);
      for (const run of planPoint(model.dirty, 0, 16)) model.apply(run);
      return model.remote.every((value, sector) => value === model.source[sector]);
    }),
  );
  t.pass();
});

test("blocks that travel are unread until they are read; a write that failed makes all of its blocks travel", (t) => {
  const dirty = newDirtyBlocks({ volumeSectors: 800, blockSectors: 8 }, 20);
  dirty.wroteData(4, 20, 1, 0);
  t.deepEqual(
    [dirty.hasUnread(0, 1), dirty.hasUnread(8, 16), dirty.hasUnread(24, 8), dirty.hasUnread(7, 2)],
    [true, false, false, true],
  );
  dirty.markRead(0, 1);
  t.false(dirty.hasUnread(0, 8));
  t.true(dirty.isPartial(0), "it travels all the same");
  const next = newDirtyBlocks({ volumeSectors: 800, blockSectors: 8 }, 20);
  next.absorb(dirty);
  t.true(next.hasUnread(0, 8), "with the next point it is read anew");
  dirty.wroteUnknown(10, 10);
  t.deepEqual([dirty.hasUnread(8, 8), dirty.hasUnread(16, 8), dirty.hasUnread(24, 8)], [true, true, false]);
});

test("what is out of bounds is refused", (t) => {
  const size = (capacity: number, volumeSectors: number) => () =>
    newDirtyBlocks({ volumeSectors, blockSectors: 8 }, capacity);
  t.is(codeOf(t.throws(size(DIRTY_BLOCKS_MAX + 1, 800))), "ESIZE");
  t.is(codeOf(t.throws(size(10, 8 * 2 ** 32 + 1))), "ESIZE");
  const dirty = newDirtyBlocks({ volumeSectors: 800, blockSectors: 8 }, 4);
  dirty.wroteData(0, 8, 5, 0);
  t.is(codeOf(t.throws(() => [...planPoint(dirty, 6, 1)])), "ESPAN");
  dirty.wroteData(0, 8, TRANSFERS_MAX, 0);
  t.is(codeOf(t.throws(() => [...planPoint(dirty, 0, 1)])), "ESPAN");
});
