/** Which segment of a copy comes next. */
import test from "ava";
import { Pace } from "../../src/copy/pace.ts";
import { SegmentList, type Segment } from "../../src/copy/segment-list.ts";

/** All units, one by one. */
const all = (list: SegmentList): number[] => segments(list, 1).map((segment) => segment[0]?.[0] ?? NaN);
/** Segments of at most so many units: the runs of each. */
const segments = (list: SegmentList, most: number): [number, number][][] => {
  const given: [number, number][][] = [];
  for (let segment = list.next(most); segment.length > 0; segment = list.next(most)) {
    given.push(segment.map(({ first, end }) => [first, end]));
  }
  return given;
};
const one = (unit: number): Segment => [{ first: unit, end: unit + 1 }];

test("each unit is given out once, from the first on, in segments", (t) => {
  t.deepEqual(all(new SegmentList(4, undefined)), [0, 1, 2, 3]);
  t.deepEqual(segments(new SegmentList(7, undefined), 3), [[[0, 3]], [[3, 6]], [[6, 7]]]);
  const list = new SegmentList(9, undefined);
  list.want({ first: 3, end: 6 });
  t.deepEqual(segments(list, 4), [
    [
      [0, 1],
      [3, 6],
    ],
    [
      [1, 3],
      [6, 8],
    ],
    [[8, 9]],
  ]);
});

test("what was asked for comes first, in the order of asking, and not twice", (t) => {
  const list = new SegmentList(8, undefined);
  t.is(list.next(1)[0]?.first, 0);
  list.want({ first: 5, end: 7 });
  list.want({ first: 4, end: 99 });
  t.deepEqual(all(list), [5, 6, 4, 7, 1, 2, 3]);
});

test("what is given back comes next, and is not copied any more", (t) => {
  const list = new SegmentList(3, undefined);
  list.next(1);
  list.next(1);
  list.end(one(0));
  list.end(one(1));
  t.is(list.copiedUnits, 2);
  list.giveBack(one(1));
  t.is(list.copiedUnits, 1);
  t.deepEqual(list.toCopy(9), [{ first: 1, end: 3 }]);
  t.deepEqual(all(list), [1, 2]);
});

test("the hottest come first; what is equally hot in the order of its places", (t) => {
  const list = new SegmentList(4, undefined);
  t.is(list.next(1)[0]?.first, 0);
  // A unit is two places.
  list.orderByHeat({ counts: Uint8Array.of(9, 9, 0, 1, 5, 0, 0, 1), placeBytes: 100 }, 200);
  t.deepEqual(all(list), [2, 1, 3]);
  const cold = new SegmentList(8, undefined);
  cold.orderByHeat({ counts: Uint8Array.of(0, 0, 0, 255, 0, 0, 0, 0), placeBytes: 100 }, 100);
  t.deepEqual(segments(cold, 2), [
    [
      [0, 1],
      [3, 4],
    ],
    [[1, 3]],
    [[4, 6]],
    [[6, 8]],
  ]);
});

test("a place of several units makes all of them hot", (t) => {
  const list = new SegmentList(4, undefined);
  list.orderByHeat({ counts: Uint8Array.of(1, 7), placeBytes: 200 }, 100);
  t.deepEqual(all(list), [2, 3, 0, 1]);
});

test("a later list goes on from what an earlier one has copied", (t) => {
  const list = new SegmentList(11, undefined);
  for (const segment of [0, 3, 9]) list.end(one(segment));
  const bits = list.copied;
  t.deepEqual([...bits], [0b0000_1001, 0b0000_0010]);
  const later = new SegmentList(11, bits);
  t.deepEqual(all(later), [1, 2, 4, 5, 6, 7, 8, 10]);
  t.deepEqual(new SegmentList(11, bits).toCopy(2), [
    { first: 1, end: 3 },
    { first: 4, end: 9 },
  ]);
  t.false(later.isComplete);
});

test("a pace lets go as many bytes as its time is worth, and a burst of half a second", (t) => {
  const pace = new Pace(1000, 0);
  t.is(pace.take(100, 0), 0);
  t.is(pace.take(100, 0), 100, "a debt of 100 bytes is paid in 100 ms");
  t.is(pace.take(100, 100), 0);
  t.is(pace.take(1, 100_000), 0);
  let bytes = 0;
  while (pace.take(50, 100_000) === 0) bytes += 50;
  t.is(bytes, 500);
  pace.limit(null, 100_000);
  t.is(pace.take(1e9, 100_000), 0);
});
