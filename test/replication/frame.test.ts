/** Frames on the wire, byte by byte, and found again in a stream that comes in pieces, is damaged, or is cut. */
import { randomBytes } from "node:crypto";
import { crc32, zstdCompressSync } from "node:zlib";
import test from "ava";
import fc from "fast-check";
import { crc32c } from "../../src/nvram/crc32c.ts";
import { compressed } from "../../src/replication/compression.ts";
import {
  decodeHeader,
  encodeHeader,
  FRAME,
  type FrameType,
  HEADER_BYTES,
  PAYLOAD_MAX,
  sealFrame,
} from "../../src/replication/frame.ts";
import { FrameReader } from "../../src/replication/frame-reader.ts";

interface Frame {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

/** Change it only with the version. */
const PINNED = "534c4e4b01000d000500000086a61036020000000100000000000000382fad4168656c6c6f";

const TYPES = Object.values(FRAME);
const frames = fc.array(fc.record({ type: fc.constantFrom(...TYPES), payload: fc.uint8Array({ maxLength: 70 }) }), {
  minLength: 1,
  maxLength: 8,
});

function encoded({ type, payload }: Frame, sequence: number): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  frame.set(payload, HEADER_BYTES);
  sealFrame(frame, type, sequence);
  return frame;
}

function streamOf(list: readonly Frame[]): Buffer {
  return Buffer.concat(list.map(encoded));
}

/** A header with a whole checksum, and `change` in it. */
function headerWith(change: (view: DataView) => void): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  encodeHeader(header, { type: FRAME.PING, sequence: 0, length: 0, checksum: 0, unpacked: 0 });
  const view = new DataView(header.buffer);
  change(view);
  view.setUint32(28, crc32c(header, 0, 28), true);
  return header;
}

/** What a reader gives of a stream in pieces, and the first error that it throws. */
function readIn(pieces: readonly Uint8Array[], budgetBytes?: number): { found: Frame[]; code: string | undefined } {
  const found: Frame[] = [];
  const reader = new FrameReader((type, payload) => found.push({ type, payload: payload.slice() }), budgetBytes);
  let code: string | undefined;
  try {
    for (const piece of pieces) reader.take(piece);
    reader.end();
  } catch (error) {
    code = (error as { code: string }).code;
  }
  return { found, code };
}

function cutAt(stream: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)).sort((one, other) => one - other), stream.length];
  return places.slice(1).map((end, index) => stream.subarray(places[index], end));
}

const plain = (list: readonly Frame[]): string[] =>
  list.map(({ type, payload }) => `${type} ${Buffer.from(payload).toString("hex")}`);

test("a frame has exactly these bytes, whether its payload lies behind the header or elsewhere", (t) => {
  const payload = new TextEncoder().encode("hello");
  const frame = encoded({ type: FRAME.PING, payload }, 2 ** 32 + 2);
  t.is(Buffer.from(frame).toString("hex"), PINNED);
  const header = new Uint8Array(HEADER_BYTES).fill(0xff);
  const said = { type: FRAME.PING, sequence: 2 ** 32 + 2, length: 5, checksum: crc32(payload), unpacked: 0 };
  encodeHeader(header, said);
  t.deepEqual(header, frame.slice(0, HEADER_BYTES));
  t.deepEqual(decodeHeader(Buffer.concat([new Uint8Array(3), header]), 3), said);
});

test("the numbers of the types are pinned", (t) => {
  t.deepEqual(
    { ...FRAME },
    {
      HELLO: 1,
      WELCOME: 2,
      REFUSED: 3,
      TRANSFER: 4,
      ACK: 5,
      POINT_BEGIN: 6,
      POINT_ITEMS: 7,
      POINT_END: 8,
      POINT_COMMITTED: 9,
      NAK: 10,
      SUMS: 11,
      SUMS_REPLY: 12,
      PING: 13,
      PONG: 14,
      BYE: 15,
      TAKE_OVER: 16,
      TAKEN_OVER: 17,
    },
  );
});

test("a stream in any pieces gives the same frames", (t) => {
  fc.assert(
    fc.property(frames, fc.array(fc.nat(), { maxLength: 30 }), (list, cuts) => {
      const { found, code } = readIn(cutAt(streamOf(list), cuts));
      t.is(code, undefined);
      t.deepEqual(plain(found), plain(list));
    }),
    { numRuns: 300 },
  );
  const list = TYPES.map((type) => ({ type, payload: new Uint8Array(type).fill(type) }));
  const bytes = [...streamOf(list)].map((byte) => Uint8Array.of(byte));
  t.deepEqual(plain(readIn(bytes).found), plain(list));
});

test("of a stream with a bit turned no frame is given from there on, and the fault is told", (t) => {
  fc.assert(
    fc.property(frames, fc.array(fc.nat(), { maxLength: 10 }), fc.nat(), fc.nat(7), (list, cuts, byte, bit) => {
      const stream = streamOf(list);
      const at = byte % stream.length;
      stream[at] = (stream[at] as number) ^ (1 << bit);
      const { found, code } = readIn(cutAt(stream, cuts));
      let whole = 0;
      for (let end = 0; whole < list.length; whole++) {
        end += HEADER_BYTES + (list[whole] as Frame).payload.length;
        if (end > at) break;
      }
      t.is(code, "EPROTOCOL");
      t.deepEqual(plain(found), plain(list.slice(0, whole)));
    }),
    { numRuns: 500 },
  );
  // Every bit of one stream.
  const list = [
    { type: FRAME.ACK, payload: new Uint8Array(3) },
    { type: FRAME.BYE, payload: new Uint8Array(0) },
  ];
  const stream = streamOf(list);
  for (let bit = 0; bit < stream.length * 8; bit++) {
    const turned = Uint8Array.from(stream);
    turned[bit >> 3] = (turned[bit >> 3] as number) ^ (1 << (bit & 7));
    const { found, code } = readIn([turned]);
    t.is(code, "EPROTOCOL", `bit ${bit}`);
    t.is(found.length, bit >> 3 < HEADER_BYTES + 3 ? 0 : 1, `bit ${bit}`);
  }
});

test("a stream that is cut gives the frames before the cut, and tells of it unless it is between two", (t) => {
  fc.assert(
    fc.property(frames, fc.nat(), (list, cut) => {
      const stream = streamOf(list);
      const end = cut % (stream.length + 1);
      const { found, code } = readIn([stream.subarray(0, end)]);
      t.deepEqual(plain(found), plain(list.slice(0, found.length)));
      const whole = streamOf(list.slice(0, found.length)).length;
      t.is(code, whole === end ? undefined : "EPROTOCOL");
      t.true(found.length === list.length || streamOf(list.slice(0, found.length + 1)).length > end);
    }),
    { numRuns: 300 },
  );
});

test("frames that are missing, doubled or out of order are faults", (t) => {
  const list = [5, 6, 7].map((length) => ({ type: FRAME.PONG, payload: new Uint8Array(length) }));
  const [first, second, third] = list.map(encoded) as [Uint8Array, Uint8Array, Uint8Array];
  t.is(readIn([first, second, third]).code, undefined);
  for (const stream of [[second], [first, third], [first, first], [first, third, second]]) {
    t.is(readIn([Buffer.concat(stream)]).code, "EPROTOCOL");
  }
  // The same beyond what 32 bits count.
  const far = encoded(list[0] as Frame, 2 ** 32);
  t.is(readIn([far]).code, "EPROTOCOL");
});

test("a header that is whole and says what cannot be is refused", (t) => {
  t.is(readIn([headerWith(() => undefined)]).code, undefined);
  t.is(readIn([headerWith((view) => view.setUint16(4, 2, true))]).code, "EVERSION");
  t.is(readIn([headerWith((view) => view.setUint16(6, 0, true))]).code, "EPROTOCOL");
  t.is(readIn([headerWith((view) => view.setUint16(6, 18, true))]).code, "EPROTOCOL");
  t.is(readIn([headerWith((view) => view.setUint32(8, PAYLOAD_MAX + 1, true))]).code, "EPROTOCOL");
  t.is(readIn([headerWith((view) => view.setUint32(20, 1, true))]).code, "EPROTOCOL");
  t.throws(
    () =>
      decodeHeader(
        headerWith((view) => view.setUint32(20, 2 ** 21, true)),
        0,
      ),
    { message: /2\^53/ },
  );
  const long = headerWith((view) => view.setUint32(8, PAYLOAD_MAX + 1, true));
  t.throws(() => decodeHeader(long, 0), { message: /4194305/ });
  t.throws(
    () =>
      decodeHeader(
        headerWith((view) => view.setUint16(4, 7, true)),
        0,
      ),
    { message: /version 7, wanted 1/ },
  );
  const into = new Uint8Array(HEADER_BYTES);
  const header = { type: FRAME.TRANSFER, sequence: 0, length: PAYLOAD_MAX + 1, checksum: 0, unpacked: 0 };
  t.throws(() => encodeHeader(into, header), { code: "ESIZE" });
  t.throws(() => encodeHeader(into, { ...header, length: 0, sequence: 2 ** 53 }), { code: "ERANGE" });
});

test("the longest payload passes, and none that is longer than the budget is held", (t) => {
  const longest = encoded({ type: FRAME.TRANSFER, payload: new Uint8Array(PAYLOAD_MAX).fill(7) }, 0);
  t.is(readIn([longest.subarray(0, 1000), longest.subarray(1000)]).found[0]?.payload.length, PAYLOAD_MAX);
  const frame = encoded({ type: FRAME.HELLO, payload: new Uint8Array(101) }, 0);
  t.is(readIn([frame], 101).code, undefined);
  const reader = new FrameReader(() => t.fail(), 100);
  t.throws(() => reader.take(frame.subarray(0, HEADER_BYTES)), { code: "EPROTOCOL", message: /frame 0: .*101.*100/ });
});

/** A frame that says of its packed payload that it has so many bytes. */
function packedFrame(packed: Uint8Array, unpacked: number): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  const { length } = packed;
  encodeHeader(header, { type: FRAME.TRANSFER, sequence: 0, length, checksum: crc32(packed), unpacked });
  return Buffer.concat([header, packed]);
}

test("what is packed is given unpacked, whole or in pieces, and is exactly what was told", (t) => {
  const payload = new Uint8Array(100_000).map((_, index) => index >>> 6);
  const packed = compressed([payload.subarray(0, 7), payload.subarray(7)], payload.length) as Uint8Array;
  t.true(packed.length < payload.length / 4);
  const frame = packedFrame(packed, payload.length);
  for (const pieces of [[frame], [frame.subarray(0, 40), frame.subarray(40)]]) {
    t.deepEqual(readIn(pieces).found, [{ type: FRAME.TRANSFER, payload }]);
  }
  for (const told of [payload.length - 1, payload.length + 1, 1, PAYLOAD_MAX]) {
    t.is(readIn([packedFrame(packed, told)]).code, "EPROTOCOL", `it says ${told}`);
  }
  t.is(readIn([packedFrame(packed.subarray(1), payload.length)]).code, "EPROTOCOL");
  t.is(readIn([packedFrame(new Uint8Array(0), 10)]).code, "EPROTOCOL");
  const budget = new FrameReader(() => t.fail(), 5000);
  t.throws(() => budget.take(frame.subarray(0, HEADER_BYTES)), { code: "EPROTOCOL", message: /100000 bytes.*5000/ });
  t.throws(() => decodeHeader(packedFrame(packed, PAYLOAD_MAX + 1), 0), { code: "EPROTOCOL", message: /4194305/ });
});

test("what unpacks to more than was told takes no memory for it, nor does a window that is larger than any payload", (t) => {
  const bomb = zstdCompressSync(new Uint8Array(2 ** 26));
  t.true(bomb.length < 2 ** 14);
  t.is(readIn([packedFrame(bomb, PAYLOAD_MAX)]).code, "EPROTOCOL");
  // RFC 8878: magic, no size, a window of 2 to the power of this and 10, and one raw block of 16 bytes.
  const windowed = (exponent: number): Uint8Array =>
    new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, (16 << 3) | 1, 0, 0, ...new Uint8Array(16)]);
  t.is(readIn([packedFrame(windowed(12), 16)]).found[0]?.payload.length, 16);
  t.is(readIn([packedFrame(windowed(13), 16)]).code, "EPROTOCOL");
});

test("what does not become smaller is sent as it is", (t) => {
  const noise = randomBytes(65_536);
  t.is(compressed([noise], noise.length), undefined);
  t.is(compressed([new Uint8Array(511)], 511), undefined, "it is not worth it");
  t.not(compressed([new Uint8Array(512)], 512), undefined);
});

test("a budget may grow with a frame, for those behind it in the same piece", (t) => {
  const list = [10, 20].map((length) => ({ type: FRAME.HELLO, payload: new Uint8Array(length) }));
  const found: number[] = [];
  const reader = new FrameReader((_type, payload) => {
    found.push(payload.length);
    reader.budgetBytes = 20;
  }, 10);
  reader.take(streamOf(list));
  t.deepEqual(found, [10, 20]);
});

test("after a fault nothing is parsed any more, be it of the stream or of whoever takes the frames", (t) => {
  const list = [1, 2, 3].map((length) => ({ type: FRAME.PING, payload: new Uint8Array(length) }));
  const found: number[] = [];
  const picky = new FrameReader((_type, payload) => {
    found.push(payload.length);
    if (payload.length === 2) throw new Error("not this one");
  });
  t.throws(() => picky.take(streamOf(list)), { message: "not this one" });
  t.true(picky.isBroken);
  picky.take(encoded(list[2] as Frame, 2));
  picky.end();
  t.deepEqual(found, [1, 2]);
  const given: number[] = [];
  const reader = new FrameReader((type) => given.push(type));
  t.throws(() => reader.take(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")), {
    code: "EPROTOCOL",
    message: /no sluice/,
  });
  reader.take(encoded(list[0] as Frame, 0));
  t.deepEqual(given, []);
});

test("a payload is the piece's own memory where it lies whole in it, and is put together once where not", (t) => {
  const payload = new Uint8Array(50).fill(9);
  const stream = streamOf([1, 2, 3].map(() => ({ type: FRAME.TRANSFER, payload })));
  const given: Uint8Array[] = [];
  const reader = new FrameReader((_type, bytes) => given.push(bytes));
  const pieces = [stream.subarray(0, 100), stream.subarray(100, 150), stream.subarray(150)].map((piece) =>
    Uint8Array.from(piece),
  );
  for (const piece of pieces) reader.take(piece);
  t.deepEqual(given, [payload, payload, payload]);
  t.is(given[0]?.buffer, pieces[0]?.buffer);
  t.is(given[1]?.buffer.byteLength, 50);
  t.is(given[2]?.buffer, pieces[2]?.buffer);
});
