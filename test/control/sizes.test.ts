/** Sizes as people write them. */
import test from "ava";
import fc from "fast-check";
import { formatDuration, formatSize, parseSize } from "../../src/control/sizes.ts";

test("units are powers of 1024, however they are written", (t) => {
  for (const [text, bytes] of [
    ["0", 0],
    ["512", 512],
    ["512B", 512],
    ["1K", 1024],
    ["1k", 1024],
    ["1KB", 1024],
    ["1KiB", 1024],
    ["1.5 GiB", 1.5 * 2 ** 30],
    ["2T", 2 ** 41],
    ["7PiB", 7 * 2 ** 50],
  ] as const) {
    t.is(parseSize(text), bytes, text);
  }
});

test("what is no size is none", (t) => {
  for (const text of ["", "x", "1X", "-1", "1e3", "0x10", "1.K", ".5K", "1.0001K", "8P", "1 2", "1GiBs"]) {
    t.is(parseSize(text), undefined, text);
  }
});

test("a size is shown in the largest unit of which it has one", (t) => {
  t.deepEqual([0, 512, 1024, 1536, 2 ** 20 - 1, 2 ** 30, 1.5 * 2 ** 40].map(formatSize), [
    "0B",
    "512B",
    "1KiB",
    "1.5KiB",
    "1024.0KiB",
    "1GiB",
    "1.5TiB",
  ]);
});

test("property: what is shown of whole units is read back", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1023 }), fc.integer({ min: 0, max: 4 }), (amount, power) => {
      t.is(parseSize(formatSize(amount * 1024 ** power)), amount * 1024 ** power);
    }),
  );
});

test("durations are told by their two largest units", (t) => {
  for (const [seconds, text] of [
    [0, "0 s"],
    [59.9, "59 s"],
    [60, "1 min"],
    [3599, "59 min"],
    [3900, "1 h 5 min"],
    [86_400, "1 d 0 h"],
    [200_000, "2 d 7 h"],
  ] as const)
    t.is(formatDuration(seconds), text);
});
