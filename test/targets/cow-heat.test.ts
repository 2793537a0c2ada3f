/** Where a volume is hot. */
import test from "ava";
import { Heat } from "../../src/targets/cow/heat.ts";

const KIB = 1024;

test("what is written to more often is hotter, within the memory that there is", (t) => {
  const heat = new Heat(100 * KIB, 4 * KIB);
  for (let write = 0; write < 5; write++) heat.written(8 * KIB + write * 512);
  heat.written(99 * KIB);
  const { counts, placeBytes } = heat.read();
  t.is(placeBytes, 4 * KIB);
  t.deepEqual([counts.length, counts[2], counts[24], counts[0]], [25, 5, 1, 0]);
  const large = new Heat(2 ** 50, 4 * KIB).read();
  t.true(large.counts.length <= 2 ** 22);
  t.is(large.placeBytes * large.counts.length, 2 ** 50);
});

test("what was hot long ago is forgotten, and no count runs over", (t) => {
  const heat = new Heat(64 * KIB, 4 * KIB);
  for (let write = 0; write < 1000; write++) heat.written(0);
  t.true((heat.read().counts[0] as number) > 50);
  for (let write = 0; write < 10_000; write++) heat.written(60 * KIB);
  t.is(heat.read().counts[0], 0);
  t.true((heat.read().counts[15] as number) > 50);
});
