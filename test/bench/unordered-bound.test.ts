/** The bound for writes without an order, where it can be worked out by hand. */
import test from "ava";
import { collect, type Trace } from "../../bench/record/trace.ts";
import { UnorderedBound } from "../../bench/record/unordered-bound.ts";

const CHUNK = 65536;
const CHUNKS = 100;

function traceOf(chunks: readonly number[]): Trace {
  const writes = chunks.map((chunk) => ({ offsetBytes: chunk * CHUNK, lengthBytes: 4096 }));
  return collect("test", CHUNKS * CHUNK, writes);
}

test("where all places are alike, a record avoids the share that it holds", (t) => {
  const trace = traceOf(Array.from({ length: 1000 }, (_, index) => (index * 37) % CHUNKS));
  const bound = new UnorderedBound(trace, new Float64Array(CHUNKS).fill(1 / CHUNKS), CHUNK);
  for (const held of [0, 1, 40, 100]) t.true(Math.abs(bound.updatesWith(held) - 10 * (CHUNKS - held)) < 1e-6);
  t.is(bound.chunksFor(600.001), 40);
});

test("what was not written yet can only be guessed", (t) => {
  // Chunk 7 takes half of the writes, and is not written before the last one.
  const law = new Float64Array(CHUNKS).fill(0.5 / (CHUNKS - 1));
  law[7] = 0.5;
  const trace = traceOf([...Array.from({ length: 999 }, () => 50), 7]);
  const bound = new UnorderedBound(trace, law, CHUNK);
  // A guess holds 7 with one chance in 99, whose weight is that of all unknown chunks together: 0.5 + 98 * 0.5 / 99.
  const guess = (0.5 + (98 * 0.5) / 99) / 99;
  t.true(Math.abs(bound.updatesWith(1) - (980 * (1 - guess) + 20 * 0.5)) < 1e-6, String(bound.updatesWith(1)));
});
