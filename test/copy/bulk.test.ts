/** The originals of a bulk copy on their way: overlaid, appended, restored, and interrupted anywhere on it. */
import { Readable } from "node:stream";
import test from "ava";
import { appendRecords, findAppendPlace } from "../../src/copy/appended-stream.ts";
import { originalsStream, recordsOf, type OriginalsSource } from "../../src/copy/originals-stream.ts";
import { overlayOriginals } from "../../src/copy/overlay.ts";
import { restore } from "../../src/copy/restore.ts";
import { readAppended } from "../../src/targets/appended-originals.ts";
import type { StreamStart } from "../../src/targets/stream-format.ts";
import { MemoryFile } from "./memory-file.ts";

const BLOCK = 4096;
const VOLUME = 10 * BLOCK - 512;
const RECORD = 4096;
const START: StreamStart = {
  stream: Uint8Array.from({ length: 16 }, (_, index) => index),
  volume: "data",
  volumeBytes: VOLUME,
  createdMs: 1_700_000_000_000,
  content: "originals",
};
/** What the volume was, and what the outside program made of it. */
const WAS = Uint8Array.from({ length: VOLUME }, (_, index) => index % 251);
const RANGES = [
  { offset: BLOCK, length: 2 * BLOCK },
  { offset: 5 * BLOCK, length: BLOCK },
  { offset: 9 * BLOCK, length: BLOCK - 512 },
];
const COPIED = WAS.slice();
for (const { offset, length } of RANGES) COPIED.fill(0xff, offset, offset + length);

const SOURCE: OriginalsSource = {
  start: START,
  ranges: RANGES,
  read: (ranges, into) => {
    into.set(Buffer.concat(ranges.map(({ offset, length }) => WAS.subarray(offset, offset + length))));
    return Promise.resolve();
  },
};
/** Blocks that are full of numbers of their own. */
const numbered: OriginalsSource["read"] = (ranges, into) => {
  let at = 0;
  for (const { offset, length } of ranges)
    for (let from = offset; from < offset + length; from++) into[at++] = 1 + (Math.floor(from / BLOCK) % 250);
  return Promise.resolve();
};
const nothing = (): void => undefined;
const records = (from: number, source = SOURCE): AsyncIterable<Uint8Array> => originalsStream(source, RECORD, from);

/** As it comes over a socket: in pieces that know nothing of records, perhaps not all of it. */
async function* inPieces(all: AsyncIterable<Uint8Array>, most = Infinity): AsyncGenerator<Uint8Array> {
  let left = most;
  for await (const record of all) {
    for (let at = 0; at < record.length && left > 0; at += 1000) {
      const piece = record.subarray(at, Math.min(at + 1000, record.length, at + left));
      left -= piece.length;
      yield piece;
    }
  }
}

const append = async (file: MemoryFile, source = SOURCE, recordBytes = RECORD): Promise<void> => {
  const place = findAppendPlace(file, "image", source.start, recordBytes);
  await appendRecords(
    { file, cut: file.cut },
    place,
    originalsStream(source, recordBytes, place.reader.wholeRecords),
    nothing,
  );
};

test("originals laid over a copy make it what the volume was; a stream that breaks off is no success", async (t) => {
  const copy = new MemoryFile(COPIED.slice());
  const told: number[] = [];
  await overlayOriginals(recordsOf(inPieces(records(0)), RECORD), RECORD, copy, (bytes) => told.push(bytes));
  t.deepEqual(copy.bytes, WAS);
  t.is(told.at(-1), 4 * BLOCK - 512);
  t.is(copy.synced.length, 1);
  for (const bytes of [0, 500, RECORD, 3 * RECORD + 17]) {
    const half = new MemoryFile(COPIED.slice());
    const broken = recordsOf(inPieces(records(0), bytes), RECORD);
    await t.throwsAsync(() => overlayOriginals(broken, RECORD, half, nothing), { code: "ESTREAM" });
    t.deepEqual(half.synced, []);
  }
});

test("a stream that is asked for again, from any record on, has the same bytes", async (t) => {
  const whole = await Array.fromAsync(records(0));
  t.is(whole.length, 2 + 3 + 2 + 1);
  for (let from = 1; from <= whole.length; from++) t.deepEqual(await Array.fromAsync(records(from)), whole.slice(from));
});

test("scattered originals share records, and come back from their places", async (t) => {
  const ranges = Array.from({ length: 600 }, (_, index) => ({ offset: 3 * index * BLOCK, length: BLOCK }));
  const start = { ...START, volumeBytes: 1800 * BLOCK };
  const whole = await Array.fromAsync(originalsStream({ ...SOURCE, start, ranges, read: numbered }, 2 ** 20, 0));
  t.is(whole.length, 1 + Math.ceil(600 / 254) + 1);
  const file = new MemoryFile(new Uint8Array(1800 * BLOCK));
  await overlayOriginals(recordsOf(inPieces(Readable.from(whole)), 2 ** 20), 2 ** 20, file, nothing);
  for (let block = 0; block < 1800; block++) {
    const bytes = file.bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
    const wanted = block % 3 === 0 ? 1 + (block % 250) : 0;
    if (!bytes.every((byte) => byte === wanted)) t.fail(`block ${block} is wrong`);
  }
});

test("originals are appended behind an image in one pass, and found again from the end of the file", async (t) => {
  const file = new MemoryFile(COPIED.slice());
  await append(file);
  t.is(file.sizeBytes % RECORD, 0);
  t.is(file.sizeBytes, 10 * RECORD + 8 * RECORD);
  t.deepEqual(file.bytes.subarray(0, VOLUME), COPIED);
  // All is durable before the end says that it is there.
  t.deepEqual(file.synced, [file.sizeBytes - RECORD, file.sizeBytes]);
  const { start, originals } = readAppended(file, "image");
  t.deepEqual(start, START);
  t.is(originals.bytes, 4 * BLOCK - 512);

  const to = new MemoryFile(new Uint8Array(VOLUME + 100).fill(7));
  const counts = restore(file, { start, originals }, to, nothing);
  t.deepEqual(to.bytes.subarray(0, VOLUME), WAS);
  t.deepEqual(to.bytes.subarray(VOLUME), new Uint8Array(100).fill(7));
  t.deepEqual(counts, { bytes: VOLUME, writtenBytes: VOLUME });
  t.is(restore(file, { start, originals }, to, nothing).writtenBytes, 0, "what is right is not written again");
});

test("no originals at all, and an image that is longer than the volume", async (t) => {
  const none = { ...SOURCE, ranges: [] };
  const file = new MemoryFile(new Uint8Array(3 * RECORD * 10 + 1));
  file.bytes.set(WAS);
  await append(file, none);
  t.is(file.sizeBytes, 31 * RECORD + 2 * RECORD);
  const found = readAppended(file, "image");
  t.is(found.originals.count, 0);
  const to = new MemoryFile(new Uint8Array(VOLUME));
  restore(file, found, to, nothing);
  t.deepEqual(to.bytes, WAS);
});

test("an append that is interrupted anywhere is no stream until it has gone on to its end", async (t) => {
  const whole = new MemoryFile(COPIED.slice());
  await append(whole);
  const streamBytes = 8 * RECORD;
  for (let bytes = 0; bytes < streamBytes; bytes += 331) {
    const file = new MemoryFile(COPIED.slice());
    file.left = bytes;
    await t.throwsAsync(() => append(file), { message: "the machine goes off" });
    t.throws(() => readAppended(file, "image"), { code: "ENOSTREAM", message: /repeat "sluice bulk finish"/ });
    file.left = Infinity;
    file.writtenBytes = 0;
    await append(file);
    const { originals } = readAppended(file, "image");
    t.is(originals.count, 7);
    // What was whole is not written again; a start in part is not known for one, and stays before the stream.
    if (bytes >= RECORD) {
      t.is(Buffer.compare(file.bytes, whole.bytes), 0);
      t.is(file.writtenBytes, streamBytes - Math.floor(bytes / RECORD) * RECORD);
    }
  }
  // What is there already is not written again.
  whole.writtenBytes = 0;
  await append(whole);
  t.is(whole.writtenBytes, 0);
});

test("a file with another stream, with records of another size, or too short an image, is refused and left alone", async (t) => {
  const other = { ...SOURCE, start: { ...START, stream: START.stream.toReversed() } };
  const file = new MemoryFile(COPIED.slice());
  await append(file, other);
  const before = file.bytes.slice();
  await t.throwsAsync(() => append(file), { code: "EEXIST", message: /another bulk copy .* "truncate --size=40960"/ });
  const interrupted = new MemoryFile(before.slice(0, -RECORD));
  await t.throwsAsync(() => append(interrupted), { code: "EEXIST", message: /another bulk copy/ });
  t.deepEqual(file.bytes, before);
  const small = new MemoryFile(COPIED.slice());
  await append(small);
  small.cut(small.sizeBytes - RECORD);
  await t.throwsAsync(() => append(small, SOURCE, 8192), { code: "EEXIST", message: /records of 4096 bytes/ });
  await t.throwsAsync(() => append(new MemoryFile(COPIED.slice(1))), {
    code: "ESIZE",
    message: /wanted an image of all/,
  });
});

test("an appended stream that is damaged anywhere is refused before anything is restored", async (t) => {
  const whole = new MemoryFile(COPIED.slice());
  await append(whole);
  for (let at = 10 * RECORD; at < whole.sizeBytes; at += 61) {
    const file = new MemoryFile(whole.bytes.slice());
    file.bytes[at] = (file.bytes[at] as number) ^ 4;
    t.throws(() => readAppended(file, "image"), { message: /image/ }, `byte ${at}`);
  }
  t.throws(() => readAppended(new MemoryFile(WAS), "image"), { code: "ENOSTREAM", message: /restored by copying it/ });
});
