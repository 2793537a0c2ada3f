/** The stream on the wire, byte by byte: docs/stream-format.md, held to the code; and that nothing that is wrong passes. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import test from "ava";
import {
  encodeData,
  encodeEnd,
  encodeStart,
  PAYLOAD_AT,
  payloadMax,
  roomForPart,
  type StreamStart,
} from "../../src/targets/stream-format.ts";
import { recordBytesOf, StreamReader, type StreamRecord } from "../../src/targets/stream-reader.ts";
import type { ByteRange } from "../../src/targets/cow/byte-range.ts";
import { codeOf } from "../../src/ublk/errors.ts";

const RECORD = 4096;
const START: StreamStart = {
  stream: Uint8Array.from({ length: 16 }, (_, index) => index + 1),
  volume: "data",
  volumeBytes: 2 ** 40,
  createdMs: 1_700_000_000_000,
  content: "originals",
};
/** Change it only with the version. */
const PINNED = "04d1a7241fde01b02f08686689b10304343d321ad077801235887f3a30c44cd3";

/** Parts that fill a record: one of two sectors, and one of as many as there is room for. */
function fullOf(offset: number, recordBytes: number): ByteRange[] {
  const length = roomForPart(recordBytes, 1, 1024, Infinity);
  return [
    { offset, length: 1024 },
    { offset: offset + 8192, length },
  ];
}

/** A start, so many data records with the last one half full, an end. */
function streamOf(data: number, { start = START, recordBytes = RECORD } = {}): Uint8Array {
  const bytes = new Uint8Array((data + 2) * recordBytes).fill(0xa5);
  const record = (index: number): Uint8Array => bytes.subarray(index * recordBytes, (index + 1) * recordBytes);
  const { stream } = start;
  let payloadBytes = 0;
  encodeStart(record(0), start);
  for (let sequence = 1; sequence <= data; sequence++) {
    const last = [{ offset: sequence * 65_536, length: 1024 }];
    const parts = sequence === data ? last : fullOf(sequence * 65_536, recordBytes);
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    record(sequence).fill(sequence, PAYLOAD_AT, PAYLOAD_AT + length);
    encodeData(record(sequence), { stream, sequence, parts });
    payloadBytes += length;
  }
  encodeEnd(record(data + 1), { stream, sequence: data + 1, payloadBytes });
  return bytes;
}

function readAll(bytes: Uint8Array): { reader: StreamReader; records: StreamRecord[] } {
  const reader = new StreamReader(RECORD);
  const records: StreamRecord[] = [];
  for (let at = 0; at < bytes.length; at += RECORD) records.push(reader.take(bytes.subarray(at, at + RECORD)));
  reader.end();
  return { reader, records };
}

/** What is said of a stream that is wrong, and how many records before that are whole. */
function faultOf(bytes: Uint8Array): { code: string | undefined; message: string; whole: number } {
  const reader = new StreamReader(RECORD);
  try {
    for (let at = 0; at < bytes.length; at += RECORD) reader.take(bytes.subarray(at, at + RECORD));
    reader.end();
  } catch (error) {
    return { code: codeOf(error), message: (error as Error).message, whole: reader.wholeRecords };
  }
  return { code: undefined, message: "no fault is found", whole: reader.wholeRecords };
}

const recordsOf = (bytes: Uint8Array, ...indices: number[]): Uint8Array =>
  Uint8Array.from(indices.flatMap((index) => [...bytes.subarray(index * RECORD, (index + 1) * RECORD)]));

test("the bytes of version 2 are pinned", (t) => {
  t.is(createHash("sha256").update(streamOf(2)).digest("hex"), PINNED);
});

test("what is written is read back; records have one size, and hold whole sectors", (t) => {
  const { records, reader } = readAll(streamOf(3));
  t.is(roomForPart(RECORD, 0, 0, 10_000), 3072);
  t.is(roomForPart(RECORD, 0, 0, 3568), 3568, "all of it, sectors or not");
  t.is(roomForPart(RECORD, 1, 3072, 4096), 0);
  t.is(roomForPart(RECORD, 300, 0, 4096), 0);
  t.deepEqual(records[0], { kind: "start", start: START });
  const [one, other] = fullOf(65_536, RECORD);
  t.is((one as ByteRange).length + (other as ByteRange).length, 3072);
  t.deepEqual(records[1], {
    kind: "data",
    parts: [
      { offset: 65_536, length: 1024, bytes: new Uint8Array(1024).fill(1), recordOffset: 256 },
      { offset: 65_536 + 8192, length: 2048, bytes: new Uint8Array(2048).fill(1), recordOffset: 256 + 1024 },
    ],
  });
  t.deepEqual(records[3], {
    kind: "data",
    parts: [{ offset: 3 * 65_536, length: 1024, bytes: new Uint8Array(1024).fill(3), recordOffset: 256 }],
  });
  t.deepEqual(records[4], { kind: "end", records: 5, payloadBytes: 2 * 3072 + 1024 });
  t.is(reader.wholeRecords, 5);
  t.true(reader.isEnded);
  t.is(recordBytesOf(streamOf(1, { recordBytes: 65_536 })), 65_536);
  for (const bytes of [2048, 5000, 2 ** 25]) t.throws(() => payloadMax(bytes), { code: "ESIZE" });
  const tooMuch = { stream: START.stream, sequence: 1, parts: [{ offset: 0, length: 3584 }] };
  t.throws(() => encodeData(new Uint8Array(RECORD), tooMuch), { code: "ESIZE" });
  t.throws(() => encodeStart(new Uint8Array(RECORD), { ...START, volume: "x".repeat(65) }), { code: "ENAME" });
});

test("a byte that is changed is found, wherever it is, in the record where it is", (t) => {
  const whole = streamOf(2);
  for (let at = 0; at < whole.length; at++) {
    const bytes = whole.slice();
    bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
    const fault = faultOf(bytes);
    if (fault.code === "ESTREAM" && fault.whole === Math.floor(at / RECORD)) continue;
    t.fail(`byte ${at}: ${fault.message}, after ${fault.whole} records`);
    return;
  }
  t.pass();
});

test("a stream that is cut is found, wherever it is cut, and goes on behind its whole records", (t) => {
  const whole = streamOf(2);
  for (let length = 0; length < whole.length; length++) {
    const fault = faultOf(whole.subarray(0, length));
    if (fault.code === "ESTREAM" && fault.whole === Math.floor(length / RECORD)) continue;
    t.fail(`${length} bytes: ${fault.message}, after ${fault.whole} records`);
    return;
  }
  t.regex(faultOf(whole.subarray(0, 5000)).message, /^record 1 \(byte 4096\): it is cut: 904 bytes of 4096/);
  t.regex(faultOf(whole.subarray(0, 8192)).message, /^record 2 \(byte 8192\): .* no end record/);
});

test("records that are missing, doubled, out of order, of another stream, or of two, are found and named", (t) => {
  const whole = streamOf(3);
  const other = streamOf(3, { start: { ...START, stream: START.stream.toReversed() } });
  const torn = whole.slice();
  torn.set(recordsOf(whole, 2).subarray(RECORD / 2), RECORD + RECORD / 2);
  const cases: readonly [Uint8Array, RegExp][] = [
    [recordsOf(whole, 0, 2, 3, 4), /^record 1 \(byte 4096\): found record 2: records are missing/],
    [recordsOf(whole, 1, 2, 3, 4), /^record 0 \(byte 0\): found record 1/],
    [recordsOf(whole, 0, 1, 2, 3), /^record 4 .*no end record/],
    [recordsOf(whole, 0, 1, 1, 2, 3, 4), /^record 2 .*found record 1, .* doubled/],
    [recordsOf(whole, 0, 2, 1, 3, 4), /^record 1 .*out of order/],
    [recordsOf(whole, 0, 1, 2, 3, 4, 4), /^record 5 .*after the end record/],
    [Uint8Array.from([...recordsOf(whole, 0, 1), ...recordsOf(other, 2, 3, 4)]), /^record 2 .*another stream/],
    [torn, /^record 1 .*trailer is that of another record/],
    [new Uint8Array(RECORD), /^record 0 .*header is damaged/],
  ];
  for (const [bytes, message] of cases) {
    const fault = faultOf(bytes);
    t.is(fault.code, "ESTREAM");
    t.regex(fault.message, message);
  }
  t.throws(() => recordBytesOf(new Uint8Array(256)), { code: "ESTREAM" });
});

test("an end record that counts otherwise, and data beyond the volume, are refused", (t) => {
  const counted = streamOf(2);
  encodeEnd(counted.subarray(3 * RECORD), { stream: START.stream, sequence: 3, payloadBytes: 7 });
  t.regex(faultOf(counted).message, /^record 3 .*tells of 4 records with 7 bytes, found 4 with 4096/);
  t.regex(
    faultOf(streamOf(2, { start: { ...START, volumeBytes: 65_536 } })).message,
    /^record 1 .*of a volume of 65536/,
  );
});

test("another version is refused, and said", (t) => {
  const newer = streamOf(1);
  const view = new DataView(newer.buffer);
  view.setUint32(8, 3, true);
  view.setUint32(252, crc32(newer.subarray(0, 252)), true);
  t.is(faultOf(newer).code, "EVERSION");
  t.regex(faultOf(newer).message, /format 3, known here is 2/);
  t.throws(() => recordBytesOf(newer), { code: "EVERSION" });
});
