/** What the predictor proposes for the patterns that it knows, and that its proposals never push out what a write needs. */
import test from "ava";
import { PredictiveRecord, type RecordOptions } from "../../src/nvram/record.ts";

const CHUNKS = 2 ** 16;

function recordOf(limitChunks: number, predictor?: RecordOptions["predictor"]): PredictiveRecord {
  return new PredictiveRecord({
    chunks: CHUNKS,
    chunkBytes: 65536,
    limitChunks,
    store: { set: () => undefined, commit: (done) => done(0) },
    predictor,
  });
}

function flushIfWished(record: PredictiveRecord): void {
  if (record.takeFlushWish()) record.places.endFlush(record.places.beginFlush());
}

/** Writes chunks `first` to `last`, which are copied to the remote at once. */
function write(record: PredictiveRecord, first: number, last = first): void {
  for (let tries = 0; !record.admits(first, last); tries++) {
    if (tries === 3) throw new Error(`${first} to ${last} are not admitted`);
    if (record.want(first, last)) record.update();
    flushIfWished(record);
  }
  record.places.beginWrite(first, last);
  record.places.endWrite(first, last);
  for (let chunk = first; chunk <= last; chunk++)
    if (record.places.beginCopy(chunk)) record.places.endCopy(chunk, true);
  flushIfWished(record);
}

/** Updates that the second half of the writes needs. */
function updatesOf(record: PredictiveRecord, chunks: readonly number[]): number {
  let before = 0;
  for (const [index, chunk] of chunks.entries()) {
    if (index === chunks.length >> 1) before = record.counts.read().updates;
    write(record, chunk);
  }
  return record.counts.read().updates - before;
}

const count = (length: number, at: (index: number) => number): number[] =>
  Array.from({ length }, (_, index) => at(index));

test("predictions do not push out the chunks of the write that they come with", (t) => {
  let fresh = 1000;
  const record = recordOf(4, () => ({
    missed: (_first, _last, _room, proposals) => {
      for (let more = 4; more > 0 && proposals.propose(fresh++); more--);
    },
    evicted: () => undefined,
  }));
  write(record, 100);
  write(record, 100, 101);
  t.is(record.counts.read().updates, 2, "one for each write");
});

test("a write finds room although the coldest chunks are its own", (t) => {
  const record = recordOf(64, null);
  write(record, 0, 31);
  for (let chunk = 100; chunk < 132; chunk++) for (let visit = 0; visit < 3; visit++) write(record, chunk);
  t.notThrows(() => write(record, 0, 32));
  t.is(record.places.count, 64);
});

test("a stream needs an update for what fills most of the record", (t) => {
  for (const direction of [1, -1]) {
    const chunks = count(8192, (index) => CHUNKS / 2 + direction * index);
    t.true(updatesOf(recordOf(512), chunks) <= 4096 / 256);
  }
});

test("streams that take turns are topped up together", (t) => {
  const chunks = count(16384, (index) => (index % 8) * 8000 + (index >> 3));
  t.true(updatesOf(recordOf(512), chunks) <= 8192 / 256);
});

test("a stride is followed, and a loop around it", (t) => {
  t.true(
    updatesOf(
      recordOf(512),
      count(2048, (index) => index * 16),
    ) <=
      1024 / 256,
  );
  const columns = count(12 * 200, (index) => (index % 200) * 16 + Math.floor(index / 200));
  t.true(updatesOf(recordOf(512), columns) <= 6);
});

test("a sweep that leaves chunks out is followed", (t) => {
  const chunks = count(4096, (index) => index * 9 + ((index * 7) % 5));
  t.true(updatesOf(recordOf(1024), chunks) <= (2048 * 9) / 512);
});

test("at random places hardly anything is predicted in the end", (t) => {
  const record = recordOf(512);
  let bits = 1;
  const chunks = count(20_000, () => (bits = Math.imul(bits, 1664525) + 1013904223) >>> 16);
  for (const chunk of chunks.slice(0, 10_000)) write(record, chunk);
  const before = record.counts.read().predicted;
  for (const chunk of chunks.slice(10_000)) write(record, chunk);
  const predicted = record.counts.read().predicted - before;
  t.true(predicted < 10_000, `${predicted}`);
});
