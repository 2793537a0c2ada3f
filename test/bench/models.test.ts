/** The models of the record benchmark, on traces short enough to count by hand. */
import test from "ava";
import { ActivityLog, AL_EXTENTS, EXTENT_BYTES } from "../../bench/record/models/activity-log.ts";
import { IN_FLIGHT_WRITES } from "../../bench/record/models/in-flight.ts";
import { LocklessBitmap } from "../../bench/record/models/lockless-bitmap.ts";
import { MdBitmap } from "../../bench/record/models/md-bitmap.ts";
import { measure } from "../../bench/record/models/model.ts";
import { Oracle } from "../../bench/record/models/oracle.ts";
import { CHUNK_BYTES, Predictive } from "../../bench/record/models/predictive.ts";
import { Random } from "../../bench/record/random.ts";
import { realTraces } from "../../bench/record/real-traces.ts";
import { sequential } from "../../bench/record/synthetic-traces.ts";
import { collect, type Write } from "../../bench/record/trace.ts";

const BLOCK = 4096;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

function writesTo(unitBytes: number, ...units: number[]): Write[] {
  return units.map((unit) => ({ offsetBytes: unit * unitBytes, lengthBytes: BLOCK }));
}

test("activity log: a write into two extents is one transaction", (t) => {
  const log = new ActivityLog(GIB, 67);
  log.write(EXTENT_BYTES - BLOCK, 2 * BLOCK);
  t.is(log.updates, 1);
  t.is(log.sizeBytes, 2 * EXTENT_BYTES);
  log.write(EXTENT_BYTES, BLOCK);
  t.is(log.updates, 1);
});

test("activity log: the least recently used extent leaves, unless a write is under way there", (t) => {
  const log = new ActivityLog(GIB, 2);
  const write = (extent: number): void => log.write(extent * EXTENT_BYTES, BLOCK);
  write(0);
  for (let index = 0; index < IN_FLIGHT_WRITES; index++) write(1);
  write(2);
  t.is(log.updates, 3);
  t.is(log.sizeBytes, 2 * EXTENT_BYTES);
  write(1);
  t.is(log.updates, 3, "0 had to leave, 1 was in use");
  write(0);
  t.is(log.updates, 4);
});

test("activity log: the real traces give the figures of a plain model", async (t) => {
  const figures = (await realTraces()).map((trace) => {
    const { perThousand, maxBytes } = measure(new ActivityLog(trace.volumeBytes, AL_EXTENTS.default), trace);
    return [trace.name, perThousand.toFixed(1), maxBytes / MIB];
  });
  t.deepEqual(figures, [
    ["btrfs-mail", "2.3", 1124],
    ["ext4-copy", "53.0", 1468],
    ["ext4-sqlite", "2.3", 452],
    ["ext4-untar", "87.5", 820],
    ["xfs-sqlite", "0.1", 80],
  ]);
});

test("md bitmap: a bit is set once, and cleared when it was idle for two rounds", (t) => {
  const bitmap = new MdBitmap();
  bitmap.write(0, BLOCK, 1e6);
  bitmap.write(32 * MIB, BLOCK, 2e6);
  t.is(bitmap.updates, 1);
  bitmap.write(64 * MIB, BLOCK, 11e6);
  t.is(bitmap.updates, 2);
  t.is(bitmap.sizeBytes, 128 * MIB, "idle for 8 s at the round at 10 s");
  bitmap.write(64 * MIB, BLOCK, 16e6);
  t.is(bitmap.updates, 3, "one update clears");
  t.is(bitmap.sizeBytes, 64 * MIB);
});

test("lockless bitmap: a second dirty chunk makes its sector of the bitmap dirty", (t) => {
  const bitmap = new LocklessBitmap(4 * GIB);
  bitmap.write(0, BLOCK, 0);
  bitmap.write(BLOCK, BLOCK, 0);
  t.is(bitmap.updates, 1);
  t.is(bitmap.sizeBytes, 64 * 2 ** 10);
  bitmap.write(MIB, BLOCK, 0);
  t.is(bitmap.updates, 2);
  t.is(bitmap.sizeBytes, 32 * MIB);
  bitmap.write(31 * MIB, BLOCK, 29e6);
  t.is(bitmap.updates, 2, "dirty already");
  bitmap.write(0, BLOCK, 31e6);
  t.is(bitmap.updates, 2, "its page was in use 1 s before the round");
  bitmap.write(GIB, BLOCK, 61e6);
  t.is(bitmap.updates, 4, "the round at 60 s cleaned everything");
  t.is(bitmap.sizeBytes, 64 * 2 ** 10);
});

test("lockless bitmap: chunks double until 127 Ki of them are enough", (t) => {
  const bitmap = new LocklessBitmap(8 * GIB);
  bitmap.write(0, BLOCK, 0);
  t.is(bitmap.sizeBytes, 128 * 2 ** 10);
});

test("oracle: an update takes in as many different chunks as there is room for", (t) => {
  const trace = collect("short", GIB, writesTo(CHUNK_BYTES, 1, 2, 1, 3, 1, 2, 3, 4));
  const { updates, maxBytes } = measure(new Oracle(trace, CHUNK_BYTES, 2 * CHUNK_BYTES), trace);
  // 1 2 1 | 3 1 | 2 3 | 4
  t.is(updates, 4);
  t.is(maxBytes, 2 * CHUNK_BYTES);
});

test("no record needs fewer updates than the oracle, and ours keeps its limit", (t) => {
  const random = new Random(2);
  const places = Array.from({ length: 3000 }, () => random.logarithmic(1, 4000));
  const trace = collect("random", GIB, writesTo(CHUNK_BYTES, ...places));
  for (const limitBytes of [4 * MIB, 16 * MIB, 64 * MIB]) {
    const oracle = measure(new Oracle(trace, CHUNK_BYTES, limitBytes), trace);
    for (const predictor of [undefined, null]) {
      const ours = measure(new Predictive(trace, limitBytes, predictor), trace);
      t.true(ours.updates >= oracle.updates);
      t.true(ours.maxBytes <= limitBytes);
    }
  }
});

test("without prediction each chunk of a sequential trace costs an update, with it few do", (t) => {
  const trace = collect("sequential", GIB, sequential(0, CHUNK_BYTES, 10_000));
  const updates = (predictor?: null): number => measure(new Predictive(trace, 32 * MIB, predictor), trace).updates;
  t.is(updates(null), 10_000);
  t.true(updates() < 50, `${updates()}`);
});
