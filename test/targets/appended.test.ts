/** An image with originals behind it, shown as what its volume was: reads against a model, and files that are refused. */
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { appendRecords, findAppendPlace } from "../../src/copy/appended-stream.ts";
import { originalsStream, type OriginalsSource } from "../../src/copy/originals-stream.ts";
import { AppendedOriginals, indexAppended, readAppended } from "../../src/targets/appended-originals.ts";
import type { ByteRange } from "../../src/targets/cow/byte-range.ts";
import { AppendedTarget } from "../../src/targets/appended.ts";
import type { StackOptions } from "../../src/targets/stack.ts";
import {
  CONTROL_BYTES,
  encodeData,
  encodeEnd,
  PART_BYTES,
  PAYLOAD_AT,
  type StreamStart,
} from "../../src/targets/stream-format.ts";
import { openVolume, type OpenVolume } from "../../src/targets/volume.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import { MemoryFile } from "../copy/memory-file.ts";
import { SingleQueue, SLOT_BYTES } from "./single-queue.ts";

const SECTOR = 512;
const SECTORS = 400;
const VOLUME = SECTORS * SECTOR;
const RECORD = 4096;
const MOST = 1000;
const START: StreamStart = {
  stream: Uint8Array.from({ length: 16 }, (_, index) => index),
  volume: "data",
  volumeBytes: VOLUME,
  createdMs: 1_700_000_000_000,
  content: "originals",
};
/** No two sectors alike. */
const WAS = Uint8Array.from({ length: VOLUME }, (_, index) => (index % 251) ^ Math.floor(index / SECTOR));
const FEW: readonly ByteRange[] = [
  { offset: 8 * SECTOR, length: 20 * SECTOR },
  { offset: 100 * SECTOR, length: SECTOR },
  { offset: 399 * SECTOR, length: SECTOR },
];

const folder = await mkdtemp(join(tmpdir(), "sluice-appended-"));
test.after.always(() => rm(folder, { recursive: true }));

/** The file that "bulk finish --append" makes: in the image what is original is overwritten. */
async function appended(ranges: readonly ByteRange[], recordBytes = RECORD): Promise<Uint8Array> {
  const file = new MemoryFile(WAS.slice());
  for (const { offset, length } of ranges) file.bytes.fill(0xee, offset, offset + length);
  const read: OriginalsSource["read"] = (parts, into) => {
    into.set(Buffer.concat(parts.map(({ offset, length }) => WAS.subarray(offset, offset + length))));
    return Promise.resolve();
  };
  const records = originalsStream({ start: START, ranges, read }, recordBytes, 0);
  const place = findAppendPlace(file, "image", START, recordBytes);
  await appendRecords({ file, cut: file.cut }, place, records, () => undefined);
  return file.bytes;
}

const spec = (path: string, logicalBlockBytes = SECTOR) =>
  ({
    backing: { kind: "appended", path },
    sizeBytes: null,
    logicalBlockBytes,
    readOnly: true,
    record: null,
    mirror: null,
    snapshots: null,
    filters: [],
  }) as const;

function serve(volume: OpenVolume): SingleQueue {
  const { bottom } = volume.source.options as StackOptions;
  if (bottom.kind !== "appended") throw new Error(`a target of kind ${bottom.kind}`);
  const queue = new SingleQueue(volume.limits);
  queue.open((context) => new AppendedTarget(bottom, context));
  return queue;
}

async function shown(
  bytes: Uint8Array,
  run: (queue: SingleQueue, path: string) => void | Promise<void>,
): Promise<void> {
  const path = join(folder, `image-${Math.random()}`);
  await writeFile(path, bytes);
  try {
    await using volume = await openVolume(spec(path));
    using queue = serve(volume);
    await run(queue, path);
  } finally {
    await rm(path);
  }
}

const someRanges = fc
  .uniqueArray(fc.nat(SECTORS), { minLength: 0, maxLength: 40 })
  .map((borders) => borders.toSorted((one, other) => one - other))
  .map((borders) =>
    borders.slice(0, -1).flatMap((from, index) => {
      const to = borders[index + 1] as number;
      // Every third one lies in the image alone; others touch one another.
      return index % 3 === 2 ? [] : [{ offset: from * SECTOR, length: (to - from) * SECTOR }];
    }),
  );
const someRead = fc
  .tuple(fc.nat(SECTORS - 1), fc.integer({ min: 1, max: SLOT_BYTES / SECTOR }))
  .map(([from, count]) => ({ offset: from * SECTOR, length: Math.min(count, SECTORS - from) * SECTOR }));

test("property: what is read is what the volume was, whatever borders of originals a read crosses", async (t) => {
  const someCase = fc.tuple(
    someRanges,
    fc.constantFrom(4096, 8192, 65_536),
    fc.array(someRead, { minLength: 8, maxLength: 8 }),
  );
  for (const [ranges, recordBytes, reads] of fc.sample(someCase, { numRuns: 40, seed: 1 })) {
    await shown(await appended(ranges, recordBytes), (queue) => {
      // All at once, so that lanes of several requests are under way together.
      reads.forEach((read, slot) => queue.submit(slot, { operation: "READ", ...read }));
      reads.forEach(({ offset, length }, slot) => {
        t.is(queue.finish(slot), length);
        const { buffer } = queue.requests[slot] as (typeof queue.requests)[number];
        t.is(Buffer.compare(buffer.subarray(0, length), WAS.subarray(offset, offset + length)), 0);
      });
      t.is(queue.answeredSlots.length, reads.length);
    });
  }
});

test("property: the index finds the first original that ends behind a place", (t) => {
  const someTable = fc.tuple(someRanges, fc.nat(VOLUME));
  fc.assert(
    fc.property(someTable, ([ranges, place]) => {
      const originals = new AppendedOriginals({
        places: new Float64Array(ranges.length),
        offsets: Float64Array.from(ranges, ({ offset }) => offset),
        lengths: Uint32Array.from(ranges, ({ length }) => length),
      });
      const wanted = ranges.findIndex(({ offset, length }) => offset + length > place);
      t.is(originals.firstBehind(place), wanted < 0 ? ranges.length : wanted);
    }),
  );
});

test("the whole of the volume is shown, and nothing is written, discarded or zeroed", async (t) => {
  const bytes = await appended(FEW);
  await shown(bytes, async (queue, path) => {
    for (let offset = 0; offset < VOLUME; offset += SLOT_BYTES) {
      const length = Math.min(SLOT_BYTES, VOLUME - offset);
      t.is(Buffer.compare(queue.read(offset, length), WAS.subarray(offset, offset + length)), 0);
    }
    t.is(queue.ask({ operation: "WRITE", offset: 0, data: new Uint8Array(SECTOR) }), -ERRNO.EROFS);
    t.is(queue.ask({ operation: "DISCARD", offset: 0, length: SECTOR }), -ERRNO.EROFS);
    t.is(queue.ask({ operation: "WRITE_ZEROES", offset: 0, length: SECTOR }), -ERRNO.EROFS);
    t.is(queue.ask({ operation: "FLUSH" }), 0);
    const file = await open(path);
    t.is(Buffer.compare(await file.readFile(), bytes), 0);
    await file.close();
  });
});

test("a file that is shortened under it is an error of the reads that it meets, and of no others", async (t) => {
  await shown(await appended(FEW), async (queue, path) => {
    const file = await open(path, "r+");
    await file.truncate(VOLUME);
    await file.close();
    // A sector of the image, an original, the image again: one run of the three fails.
    queue.submit(1, { operation: "READ", offset: 99 * SECTOR, length: 3 * SECTOR });
    queue.submit(2, { operation: "READ", offset: 200 * SECTOR, length: 8 * SECTOR });
    t.is(queue.finish(1), -ERRNO.EIO);
    t.is(queue.finish(2), 8 * SECTOR);
    t.is(queue.ask({ operation: "READ", offset: 99 * SECTOR, length: SECTOR }), SECTOR);
  });
});

test("it is as large as its volume was, read-only, and held by one daemon alone", async (t) => {
  const path = join(folder, "held");
  await writeFile(path, await appended(FEW));
  await using volume = await openVolume(spec(path));
  t.like(volume.limits, { sizeBytes: VOLUME, readOnly: true, discard: null, writeZeroesMaxBytes: null });
  t.is(await volume.measure(), VOLUME);
  t.is(volume.explain[0], "data as it was at 2023-11-14T22:13:20.000Z");
  t.is(volume.explain[2], `originals: ${22 * SECTOR} bytes in 6 runs, through the page cache`);
  await t.throwsAsync(openVolume(spec(path)), { code: "EBUSY" });
});

test("what is no image with originals is refused in one line", async (t) => {
  const path = join(folder, "refused");
  await t.throwsAsync(openVolume(spec(path)), { code: "ENOENT", message: /bulk finish --append/ });
  await writeFile(path, WAS);
  await t.throwsAsync(openVolume(spec(path)), { code: "ENOSTREAM", message: /has no originals at its end/ });
  await writeFile(path, new Uint8Array(0));
  await t.throwsAsync(openVolume(spec(path)), { code: "ENOSTREAM" });
  await writeFile(path, await appended(FEW));
  await t.throwsAsync(openVolume(spec(path, 4096)), { code: "EBLOCK", message: /set a smaller logical_block_size/ });
  // Where one original follows another there is nothing to be read from the image.
  await writeFile(path, await appended([{ offset: 8 * SECTOR, length: 48 * SECTOR }]));
  await using volume = await openVolume(spec(path, 4096));
  t.is(volume.limits.logicalBlockBytes, 4096);
});

const index = (bytes: Uint8Array): { offset: number; length: number; fileOffset: number }[] => {
  const { originals } = indexAppended(new MemoryFile(bytes), "image", MOST);
  return Array.from({ length: originals.count }, (_, at) => ({
    offset: originals.offset(at),
    length: originals.end(at) - originals.offset(at),
    fileOffset: originals.fileOffset(at),
  }));
};

test("the index is of all originals, without their bytes being read", async (t) => {
  const bytes = await appended(FEW);
  const found = index(bytes);
  t.deepEqual(
    found.map(({ offset, length }) => ({ offset, length })),
    [
      { offset: 8 * SECTOR, length: 6 * SECTOR },
      { offset: 14 * SECTOR, length: 6 * SECTOR },
      { offset: 20 * SECTOR, length: 6 * SECTOR },
      { offset: 26 * SECTOR, length: 2 * SECTOR },
      ...FEW.slice(1),
    ],
  );
  for (const { offset, length, fileOffset } of found)
    t.deepEqual(bytes.slice(fileOffset, fileOffset + length), WAS.slice(offset, offset + length));
  const damaged = bytes.slice();
  for (const { fileOffset, length } of found) damaged.fill(0, fileOffset, fileOffset + length);
  t.deepEqual(index(damaged), found);
  t.throws(() => readAppended(new MemoryFile(damaged), "image"), { code: "ESTREAM", message: /data are damaged/ });
  t.throws(() => indexAppended(new MemoryFile(bytes), "image", 5), { code: "ELIMIT", message: /restore it/ });
});

test("control data that are changed anywhere, and a file that is cut anywhere, are refused", async (t) => {
  const bytes = await appended(FEW);
  const at = 50 * RECORD;
  t.is(bytes.length, at + 6 * RECORD);
  for (let record = at; record < bytes.length; record += RECORD) {
    const isOfData = record > at && record < bytes.length - RECORD;
    const tail = record + RECORD - CONTROL_BYTES - (isOfData ? PART_BYTES : 0);
    for (const [from, to] of [
      [record, record + CONTROL_BYTES],
      [tail, record + RECORD],
    ] as const) {
      for (let byte = from; byte < to; byte += 3) {
        const damaged = bytes.slice();
        damaged[byte] = (damaged[byte] as number) ^ 4;
        t.throws(() => index(damaged), { message: /image/ }, `byte ${byte}`);
      }
    }
  }
  for (let length = at; length < bytes.length; length += 97)
    t.throws(() => index(bytes.slice(0, length)), { code: "ENOSTREAM" }, `${length} bytes`);
});

test("records that are missing, exchanged, of other totals, out of order or empty are refused", async (t) => {
  const bytes = await appended(FEW);
  const at = 50 * RECORD;
  const records: Uint8Array[] = Array.from({ length: 6 }, (_, sequence) =>
    bytes.slice(at + sequence * RECORD, at + (sequence + 1) * RECORD),
  );
  const refused = (changed: readonly Uint8Array[], message: RegExp): void => {
    const file = Buffer.concat([bytes.subarray(0, at), ...changed]);
    t.throws(() => index(file), { code: "ESTREAM", message });
  };
  const data = (sequence: number, offset: number, length: number): Uint8Array => {
    const record = (records[sequence] as Uint8Array).slice();
    encodeData(record, { stream: START.stream, sequence, parts: [{ offset, length }] });
    return record;
  };
  const end = records[5] as Uint8Array;
  t.is(index(Buffer.concat([bytes.subarray(0, at), ...records])).length, 6);
  refused(records.toSpliced(3, 1), /header is damaged/);
  refused(records.with(2, records[3] as Uint8Array).with(3, records[2] as Uint8Array), /found record 3/);
  refused(records.with(3, data(3, 8 * SECTOR, 6 * SECTOR)), /out of order at byte/);
  refused(records.with(4, data(4, 399 * SECTOR, 0)), /out of order at byte/);
  refused(records.with(4, data(4, 399 * SECTOR, 2 * SECTOR)), /ends at byte 205312 of a volume of 204800/);
  const otherTotals = end.slice();
  encodeEnd(otherTotals, { stream: START.stream, sequence: 5, payloadBytes: SECTOR });
  refused(records.with(5, otherTotals), /tells of 6 records with 512 bytes/);
  const another = data(4, 100 * SECTOR, SECTOR);
  const parts = [{ offset: 100 * SECTOR, length: SECTOR }];
  encodeData(another, { stream: START.stream.toReversed(), sequence: 4, parts });
  refused(records.with(4, another), /of another stream/);
  const torn = (records[2] as Uint8Array).slice();
  torn.set((records[3] as Uint8Array).subarray(PAYLOAD_AT), PAYLOAD_AT);
  refused(records.with(2, torn), /written in part/);
  const none = (records[4] as Uint8Array).slice();
  encodeData(none, { stream: START.stream, sequence: 4, parts: [] });
  refused(records.with(4, none), /without originals/);
});
