/** A record whose chunks are owed to a remote that is away: no write waits for it, and afterwards the record is as small as before. */
import test from "ava";
import { PredictiveRecord } from "../../src/nvram/record.ts";

const LIMIT = 4;
const OWED = 12;

function recordOf(growsWithOwed: boolean): { record: PredictiveRecord; commits: () => number } {
  let commits = 0;
  const store = {
    set: (): void => undefined,
    commit: (done: (result: number) => void): void => {
      commits++;
      done(0);
    },
  };
  const options = { chunks: 1024, chunkBytes: 65_536, limitChunks: LIMIT, predictor: null };
  return { record: new PredictiveRecord({ ...options, growsWithOwed, store }), commits: () => commits };
}

/** Writes a chunk, which nobody copies; false where there is no room for it. */
function write(record: PredictiveRecord, chunk: number): boolean {
  if (!record.want(chunk, chunk)) return false;
  record.update();
  record.places.beginWrite(chunk, chunk);
  record.places.endWrite(chunk, chunk);
  return true;
}

test("it grows with what is owed, where it may; else a write finds no room", (t) => {
  const { record } = recordOf(true);
  for (let chunk = 0; chunk < OWED; chunk++) t.true(write(record, chunk));
  t.is(record.places.count, OWED);
  const other = recordOf(false).record;
  for (let chunk = 0; chunk < LIMIT; chunk++) t.true(write(other, chunk));
  t.false(write(other, LIMIT));
  t.is(other.places.count, LIMIT);
});

test("what is owed no more leaves it, down to the limit, once it is durable", (t) => {
  const { record, commits } = recordOf(true);
  const { places } = record;
  for (let chunk = 0; chunk < OWED; chunk++) write(record, chunk);
  const before = commits();
  record.shrink();
  t.is(places.count, OWED, "all of it is owed");
  t.is(commits(), before);
  for (let chunk = 0; chunk < OWED - 1; chunk++) if (places.beginCopy(chunk)) places.endCopy(chunk, true);
  record.shrink();
  t.is(places.count, OWED, "a power cut may take back what was written");
  places.endFlush(places.beginFlush());
  if (places.beginCopy(OWED - 1)) places.endCopy(OWED - 1, true);
  record.shrink();
  t.is(places.count, LIMIT);
  t.is(commits(), before + 1);
  record.shrink();
  t.is(commits(), before + 1, "nothing is to be done");
});
