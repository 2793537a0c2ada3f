/** How the record comes into its file. */
import test from "ava";
import { DaxPersistence } from "../../src/nvram/dax-persistence.ts";
import { linesBytes, RecordLines } from "../../src/nvram/record-lines.ts";
import { PersistentRecordStore } from "../../src/nvram/record-store.ts";

const CHUNKS = 2000;
const SALT = 5;

test("the file's lines are whole at every moment until a commit, and hold the changes after it", (t) => {
  const bytes = new Uint8Array(linesBytes(CHUNKS));
  const empty = new RecordLines(bytes, CHUNKS, SALT);
  for (let line = 0; line < empty.lines; line++) empty.seal(line);
  const members = (): number[] => {
    const found: number[] = [];
    t.is(
      new RecordLines(bytes.slice(), CHUNKS, SALT).read((chunk) => void found.push(chunk)),
      0,
      "no line is damaged",
    );
    return found;
  };
  const store = new PersistentRecordStore(new DaxPersistence(bytes, () => undefined), CHUNKS, SALT);
  t.is(
    store.load(() => undefined),
    0,
  );
  store.set(3, true);
  store.set(1999, true);
  t.deepEqual(members(), []);
  store.commit(() => undefined);
  t.deepEqual(members(), [3, 1999]);
  store.set(3, false);
  t.deepEqual(members(), [3, 1999]);
  store.commit(() => undefined);
  t.deepEqual(members(), [1999]);
});
