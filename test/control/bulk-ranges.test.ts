/** A bulk copy of parts of a volume: which blocks they are, and the note that remembers them. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { decodeNote, encodeNote, loadNote, removeNote, saveNote } from "../../src/control/bulk-note.ts";
import { blocksOutside, blocksWithin, mergeRanges } from "../../src/control/bulk-ranges.ts";

const BLOCK = 8;
const VOLUME = 100;
const BLOCKS = Math.ceil(VOLUME / BLOCK);

const someRanges = fc.array(
  fc
    .tuple(fc.nat(VOLUME - 1), fc.integer({ min: 1, max: 20 }))
    .map(([offset, length]) => ({ offset, length: Math.min(length, VOLUME - offset) })),
  { minLength: 1, maxLength: 6 },
);

test("property: what is within and what is outside is all of the volume, by the bytes that were asked for", (t) => {
  fc.assert(
    fc.property(someRanges, (ranges) => {
      const merged = mergeRanges(ranges, VOLUME);
      const bytes = new Set(ranges.flatMap(({ offset, length }) => Array.from({ length }, (_, at) => offset + at)));
      t.deepEqual(
        merged.flatMap(({ offset, length }) => Array.from({ length }, (_, at) => offset + at)),
        [...bytes].sort((one, other) => one - other),
      );
      merged.forEach(({ offset }, index) => {
        const before = merged[index - 1];
        t.true(before === undefined || before.offset + before.length < offset);
      });
      const wanted = new Set([...bytes].map((byte) => Math.floor(byte / BLOCK)));
      const all = Float64Array.from({ length: BLOCKS }, (_, block) => block);
      t.deepEqual(
        [...blocksWithin(all, merged, BLOCK)],
        [...all].filter((block) => wanted.has(block)),
      );
      t.deepEqual(
        blocksOutside(merged, BLOCK, VOLUME).flatMap(({ first, end }) => [...all.slice(first, end)]),
        [...all].filter((block) => !wanted.has(block)),
      );
    }),
  );
});

test("a range that is empty, or ends beyond the volume, is refused", (t) => {
  for (const range of [
    { offset: 5, length: 0 },
    { offset: 0, length: 101 },
    { offset: 100, length: 1 },
  ])
    t.throws(() => mergeRanges([range], VOLUME), { code: "ERANGE", message: /is no range of a volume of 100 bytes/ });
});

const NOTE = { createdMs: 1_772_366_400_000, ranges: [{ offset: 0, length: 1_048_576 }] };
const PINNED = `sluice-bulk 1 9be26dd2 69
{"createdMs":1772366400000,"ranges":[{"offset":0,"length":1048576}]}
`;

test("a note has exactly these bytes; with any of them changed, or cut anywhere, it is refused", (t) => {
  t.is(encodeNote(NOTE), PINNED);
  t.deepEqual(decodeNote(PINNED), NOTE);
  for (let at = 0; at < PINNED.length; at++) {
    const changed = PINNED.slice(0, at) + (PINNED[at] === "x" ? "y" : "x") + PINNED.slice(at + 1);
    t.throws(() => decodeNote(changed), { message: /damaged|no note|version/ }, changed);
    t.throws(() => decodeNote(PINNED.slice(0, at)), { message: /damaged|no note/ });
  }
  t.throws(() => decodeNote(PINNED.replace("bulk 1 ", "bulk 2 ")), { code: "EVERSION" });
});

test("a note is that of one bulk copy, and of no later one", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, "state", "data.bulk");
  await saveNote(path, { ...NOTE, createdMs: 1 });
  await saveNote(path, NOTE);
  t.deepEqual(await loadNote(path, NOTE.createdMs), NOTE);
  await t.throwsAsync(loadNote(path, NOTE.createdMs + 1), {
    code: "EBULK",
    message: /that of another bulk copy\): cancel/,
  });
  await writeFile(path, "nonsense");
  await t.throwsAsync(loadNote(path, NOTE.createdMs), { code: "EBULK", message: /it is no note of a bulk copy\)/ });
  await removeNote(path);
  await removeNote(path);
  await t.throwsAsync(loadNote(path, NOTE.createdMs), { code: "EBULK", message: /it is gone\)/ });
});
