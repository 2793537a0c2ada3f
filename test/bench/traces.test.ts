/** The traces of the record benchmark are what they claim to be, and the same in every run. */
import test from "ava";
import { databaseWrites } from "../../bench/record/database-trace.ts";
import { fileSystemWrites } from "../../bench/record/file-system-trace.ts";
import { Random, Zipf } from "../../bench/record/random.ts";
import { parse } from "../../bench/record/real-traces.ts";
import { SKEWED_TRACES, STREAM_TRACES, syntheticTraces } from "../../bench/record/synthetic-traces.ts";
import { collect } from "../../bench/record/trace.ts";

test("every synthetic trace has at least 100,000 writes", (t) => {
  const traces = syntheticTraces();
  for (const { name, length } of traces) t.true(length >= 100_000, `${name}: ${length}`);
  const names = traces.map(({ name }) => name);
  t.deepEqual(
    [...STREAM_TRACES, ...SKEWED_TRACES].filter((name) => !names.includes(name)),
    [],
  );
});

test("the same writes in every run", (t) => {
  t.deepEqual([...databaseWrites(5000, 0.25)], [...databaseWrites(5000, 0.25)]);
  t.deepEqual([...fileSystemWrites(5000)], [...fileSystemWrites(5000)]);
});

test("a write outside of the volume is refused", (t) => {
  t.throws(() => collect("outside", 8192, [{ offsetBytes: 4096, lengthBytes: 8192 }]), { instanceOf: RangeError });
});

test("real traces: writes only, in bytes, at the pace of bare hardware", (t) => {
  t.deepEqual(
    [...parse("0 W 8 8\n50 D 0 8\n100 W 16 2\n")],
    [
      { offsetBytes: 4096, lengthBytes: 4096, pauseUs: 0 },
      { offsetBytes: 8192, lengthBytes: 1024, pauseUs: 10 },
    ],
  );
});

test("Zipf: the first of two ranks with skew 1 comes twice as often as the second", (t) => {
  const zipf = new Zipf(new Random(1), 2, 1);
  const first = Array.from({ length: 30_000 }, () => zipf.next()).filter((rank) => rank === 0).length;
  t.true(Math.abs(first - 20_000) < 400, `${first}`);
});
