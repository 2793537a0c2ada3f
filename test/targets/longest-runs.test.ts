/** The longest runs come first, and each byte once, whatever changes meanwhile. */
import fc from "fast-check";
import test from "ava";
import { LongestRuns } from "../../src/targets/mirror/longest-runs.ts";

const SMALL = 16_384;

test("each byte of the value comes once, in runs that are never longer than those before them", (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 2 }), { minLength: 1, maxLength: 400 }), (values) => {
      const bytes = Uint8Array.from(values);
      const left = values.filter((value) => value === 1).length;
      const runs = new LongestRuns(bytes);
      const lengths: number[] = [];
      for (let taken = 0; taken < left; taken += lengths.at(-1) ?? 0) {
        const { first, count } = runs.take(1, Infinity) ?? { first: 0, count: 0 };
        const run = bytes.subarray(first, first + count);
        if (count === 0 || run.some((value) => value !== 1)) return false;
        run.fill(0);
        lengths.push(count);
      }
      if (runs.take(1, Infinity) !== undefined) return false;
      return lengths.every((length, index) => index === 0 || length <= (lengths[index - 1] ?? 0));
    }),
  );
  t.pass();
});

test("what was found and has changed since is passed over; what is left of a run comes next", (t) => {
  const bytes = new Uint8Array(100);
  bytes.fill(1, 10, 30);
  bytes.fill(1, 50, 60);
  const runs = new LongestRuns(bytes);
  t.deepEqual(runs.take(1, 5), { first: 10, count: 5 });
  bytes.fill(0, 10, 20);
  t.deepEqual(runs.take(1, 5), { first: 20, count: 5 });
  bytes.fill(0, 20, 28);
  t.deepEqual(runs.take(1, 9), { first: 28, count: 2 });
  bytes.fill(0, 20, 30);
  t.deepEqual(runs.take(1, 9), { first: 50, count: 9 });
});

test("a part is left when nothing is to be found there any more, and looks begin anew behind the last one", (t) => {
  const bytes = new Uint8Array(3 * SMALL);
  for (let at = 0; at < SMALL; at += 2) bytes[at] = 1;
  bytes.fill(1, 2 * SMALL, 3 * SMALL);
  const runs = new LongestRuns(bytes);
  for (let taken = 0; taken < SMALL / 2; taken++) {
    const run = runs.take(1, 8);
    t.is(run?.count, 1);
    bytes[run?.first ?? 0] = 0;
  }
  t.deepEqual(runs.take(1, 8), { first: 2 * SMALL, count: 8 });
  bytes.fill(0);
  bytes[7] = 1;
  t.deepEqual(runs.take(1, 8), { first: 7, count: 1 });
});
