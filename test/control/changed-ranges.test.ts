/** Ranges from blocks. */
import test from "ava";
import { rangesOf } from "../../src/control/changed-ranges.ts";

const ranges = (blocks: number[], fromBytes: number, toBytes: number): unknown =>
  rangesOf(Float64Array.from(blocks), 4096, fromBytes, toBytes);

test("blocks that follow one another are one range, each told once, the last one cut to the volume", (t) => {
  t.deepEqual(ranges([], 8192, 8192), []);
  t.deepEqual(ranges([1, 1, 2, 5, 6, 6], 40_960, 40_960), [
    { offset: 4096, length: 8192 },
    { offset: 20_480, length: 8192 },
  ]);
  t.deepEqual(ranges([2], 8704, 8704), [{ offset: 8192, length: 512 }]);
});

test("what a volume has gained has changed", (t) => {
  t.deepEqual(ranges([0], 8192, 16_384), [
    { offset: 0, length: 4096 },
    { offset: 8192, length: 8192 },
  ]);
  t.deepEqual(ranges([1], 8192, 16_384), [{ offset: 4096, length: 12_288 }]);
});
