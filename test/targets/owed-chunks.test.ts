/** What the remote is owed, beside the places of a record. */
import test from "ava";
import { Places, STATE } from "../../src/nvram/places.ts";
import { OwedChunks } from "../../src/targets/mirror/owed-chunks.ts";

function setUp(recorded: readonly number[]): { places: Places; owed: OwedChunks } {
  const places = new Places({ chunks: 32 });
  for (const chunk of recorded) places.restore(chunk);
  const owed = new OwedChunks(places);
  owed.begin();
  return { places, owed };
}

const isOwed = (places: Places, chunk: number): boolean => ((places.states[chunk] ?? 0) & STATE.OWED) !== 0;

function write(places: Places, first: number, last: number): void {
  places.beginWrite(first, last);
  places.endWrite(first, last);
}

/** Copies all there is. */
function copyAll(owed: OwedChunks): number[][] {
  const runs: number[][] = [];
  for (let run = owed.take(4); run !== undefined; run = owed.take(4)) {
    runs.push([run.first, run.count]);
    owed.copied(run);
  }
  return runs;
}

test("what was recorded before is copied, the longest runs first, and retires with the first closed point", (t) => {
  const { places, owed } = setUp([3, 4, 5, 6, 7, 20, 1]);
  t.is(owed.toCopy, 7);
  t.deepEqual(copyAll(owed), [
    [3, 4],
    [7, 1],
    [1, 1],
    [20, 1],
  ]);
  t.is(owed.toCopy, 0);
  t.true(isOwed(places, 5), "copied, but no point has it yet");
  owed.cutClosed();
  owed.endClosed(true);
  t.false([3, 4, 5, 6, 7, 20, 1].some((chunk) => isOwed(places, chunk)));
});

test("a point that is not committed retires nothing", (t) => {
  const { places, owed } = setUp([3]);
  copyAll(owed);
  owed.cutClosed();
  owed.endClosed(false);
  t.true(isOwed(places, 3));
});

test("what is written after the cut, or while it is made, stays owed until the next one", (t) => {
  const { places, owed } = setUp([1, 2, 3]);
  copyAll(owed);
  places.beginWrite(2, 2);
  owed.cutClosed();
  places.endWrite(2, 2);
  write(places, 3, 3);
  owed.endClosed(true);
  t.deepEqual(
    [1, 2, 3].filter((chunk) => isOwed(places, chunk)),
    [2, 3],
  );
  owed.cutClosed();
  owed.endClosed(true);
  t.deepEqual(
    [1, 2, 3].filter((chunk) => isOwed(places, chunk)),
    [],
  );
});

test("a write that is not logged while its chunk is on its way has it copied again", (t) => {
  const { owed } = setUp([8, 9]);
  const run = owed.take(2);
  t.deepEqual(run, { first: 8, count: 2 });
  t.is(owed.take(2), undefined);
  t.is(owed.toCopy, 2);
  owed.unlogged(9, 9);
  if (run !== undefined) owed.copied(run);
  t.is(owed.toCopy, 1);
  t.deepEqual(copyAll(owed), [[9, 1]]);
});

test("what could not be copied is wanted again", (t) => {
  const { owed } = setUp([2, 30, 31]);
  const run = owed.take(1);
  t.deepEqual(run, { first: 30, count: 1 });
  if (run !== undefined) owed.giveBack(run);
  t.is(owed.toCopy, 3);
  t.deepEqual(copyAll(owed), [
    [31, 1],
    [2, 1],
    [30, 1],
  ]);
});

test("what was owed before an outage is copied before what the outage has added, however long that is", (t) => {
  const { places, owed } = setUp([3, 9]);
  const first = owed.take(1);
  t.deepEqual(first, { first: 3, count: 1 });
  for (let chunk = 20; chunk < 26; chunk++) {
    places.add(chunk, false);
    places.settle(chunk);
  }
  // The first outage adds to what is owed, the second one as well, and what was on its way counts as old as it is.
  owed.copyAll();
  owed.unlogged(12, 13);
  places.restore(28);
  owed.copyAll();
  owed.unlogged(9, 9);
  t.is(owed.toCopy, 11);
  t.deepEqual(copyAll(owed), [
    [3, 1],
    [9, 1],
    [20, 4],
    [24, 2],
    [12, 2],
    [28, 1],
  ]);
  owed.unlogged(5, 5);
  owed.copyAll();
  t.deepEqual(owed.take(9), { first: 5, count: 1 }, "there was nothing older left");
});

test("all of the volume is copied from its beginning, whatever was owed", (t) => {
  const { owed } = setUp([9]);
  owed.take(1);
  owed.copyVolume();
  t.is(owed.toCopy, 32);
  t.deepEqual(owed.take(30), { first: 0, count: 30 });
  t.deepEqual(owed.take(30), { first: 30, count: 2 });
  t.is(owed.take(30), undefined);
});

test("when the log ends, all that is owed is to be copied, on its way or not", (t) => {
  const { places, owed } = setUp([2, 3]);
  const run = owed.take(1);
  owed.copyAll();
  t.is(owed.toCopy, 2);
  t.is(places.count, 2);
  t.deepEqual(owed.take(4), { first: 2, count: 2 });
  if (run !== undefined) owed.copied(run);
  t.is(owed.toCopy, 2, "what was on its way then does not count");
});
