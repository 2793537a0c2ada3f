/** The small frames of a mirror, byte by byte: docs/protocol.md, held to the code. */
import test from "ava";
import {
  ACK_BYTES,
  decodeAck,
  decodePing,
  decodePointBegin,
  decodePointCommitted,
  decodePointEnd,
  decodeReason,
  encodeAck,
  encodePing,
  encodePointBegin,
  encodePointCommitted,
  encodePointEnd,
  encodeReason,
  PING_BYTES,
  POINT_BEGIN_BYTES,
  POINT_COMMITTED_BYTES,
  POINT_END_BYTES,
  REASON_BYTES_MAX,
} from "../../src/replication/messages.ts";
import { isBefore, NO_TRANSFER } from "../../src/replication/transfer-id.ts";

const ACK = {
  received: { incarnation: 3, counter: 0xfffffffe },
  durable: { incarnation: 2, counter: 7 },
  granted: { transferBytes: 2 ** 53 - 1, itemBytes: 4096 },
  taken: { transferBytes: 2 ** 40, itemBytes: 2 },
  isAtRest: true,
};
const BEGIN = {
  point: 2 ** 40 + 1,
  cut: { incarnation: 3, counter: 9 },
  createdMs: 1_772_366_400_000,
  isClosed: true,
  next: 12,
  log: 3,
};
const END = { point: 2 ** 40 + 1, items: 5, checksum: 0xfedcba98 };

/** Change them only with the version. */
const PINNED = {
  ack: "03000000feffffff0200000007000000ffffffffffff1f000010000000000000000000000001000002000000000000000100000000000000",
  begin: "01000000000100000300000009000000000a45a99c010000010000000c0000000300000000000000",
  end: "0100000000010000050000000000000098badcfe00000000",
  committed: "0100000000010000",
  ping: "0500000001000000",
  reason: `45524f4c45${"00".repeat(27)}6f20c3a9`,
};

/** Each goes over what was there before. */
const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(0xee);
const hex = (payload: Uint8Array): string => Buffer.from(payload).toString("hex");

function encoded(): Record<Exclude<keyof typeof PINNED, "reason">, Uint8Array> {
  const into = {
    ack: bytes(ACK_BYTES),
    begin: bytes(POINT_BEGIN_BYTES),
    end: bytes(POINT_END_BYTES),
    committed: bytes(POINT_COMMITTED_BYTES),
    ping: bytes(PING_BYTES),
  };
  encodeAck(into.ack, ACK);
  encodePointBegin(into.begin, BEGIN);
  encodePointEnd(into.end, END);
  encodePointCommitted(into.committed, BEGIN.point);
  encodePing(into.ping, 2 ** 32 + 5);
  return into;
}

test("the bytes of version 1 are pinned, and say the same when they are read", (t) => {
  const all = { ...encoded(), reason: encodeReason({ code: "EROLE", text: "o é" }) };
  t.deepEqual(Object.fromEntries(Object.entries(all).map(([name, payload]) => [name, hex(payload)])), PINNED);
  t.deepEqual(decodeAck(all.ack), ACK);
  t.deepEqual(decodePointBegin(all.begin), BEGIN);
  t.deepEqual(decodePointEnd(all.end), END);
  t.is(decodePointCommitted(all.committed), BEGIN.point);
  t.is(decodePing(all.ping), 2 ** 32 + 5);
  t.deepEqual(decodeReason(all.reason), { code: "EROLE", text: "o é" });
});

test("a payload of another size is refused", (t) => {
  const decoders = {
    ack: decodeAck,
    begin: decodePointBegin,
    end: decodePointEnd,
    committed: decodePointCommitted,
    ping: decodePing,
  };
  for (const [name, payload] of Object.entries(encoded())) {
    const decode = decoders[name as keyof typeof decoders];
    for (const wrong of [payload.subarray(1), Buffer.concat([payload, new Uint8Array(1)]), new Uint8Array(0)]) {
      t.throws(() => decode(wrong), { code: "EPROTOCOL" }, name);
    }
  }
});

test("a point is closed or open, and nothing else", (t) => {
  const { begin } = encoded();
  t.true(decodePointBegin(begin).isClosed);
  encodePointBegin(begin, { ...BEGIN, isClosed: false });
  t.deepEqual(decodePointBegin(begin), { ...BEGIN, isClosed: false });
  begin[24] = 3;
  t.throws(() => decodePointBegin(begin), { code: "EPROTOCOL", message: /of kind 3/ });
});

test("numbers that are none are refused on both sides", (t) => {
  const large = new Uint8Array(8);
  large[6] = 0x20;
  t.throws(() => decodePing(large), { code: "EPROTOCOL" });
  for (const wrong of [2 ** 53, -1, 0.5, NaN]) t.throws(() => encodePing(large, wrong), { code: "ERANGE" });
  encodePing(large, 2 ** 53 - 1);
  t.is(decodePing(large), 2 ** 53 - 1);
});

test("a reason is bounded, is cut where a character ends, and gives no orders to a terminal", (t) => {
  const long = encodeReason({ code: "EIO", text: `a${"é".repeat(1000)}` });
  t.is(long.length, REASON_BYTES_MAX - 1);
  t.is(decodeReason(long).text, `a${"é".repeat(511)}`);
  t.is(decodeReason(encodeReason({ code: "EIO", text: "\u001b[2J\nx" })).text, "\ufffd[2J\ufffdx");
  t.is(decodeReason(encodeReason({ code: "EIO", text: "" })).text, "");
  t.throws(() => decodeReason(Buffer.concat([long, new Uint8Array(2)])), { code: "EPROTOCOL", message: /1057/ });
  t.throws(() => decodeReason(long.subarray(0, 31)), { code: "EPROTOCOL" });
  t.throws(() => decodeReason(new Uint8Array(40)), { code: "EPROTOCOL" });
  t.throws(() => decodeReason(new TextEncoder().encode(`e io${" ".repeat(40)}`)), { code: "EPROTOCOL" });
  for (const code of ["", "EIO\n", "no", `E${"X".repeat(32)}`]) {
    t.throws(() => encodeReason({ code, text: "" }), { code: "EINVAL" });
  }
});

test("transfers are ordered by incarnation, then by counter", (t) => {
  const order = [
    NO_TRANSFER,
    { incarnation: 1, counter: 1 },
    { incarnation: 1, counter: 99 },
    ACK.durable,
    { incarnation: 2, counter: 8 },
    ACK.received,
  ];
  order.forEach((one, index) => order.forEach((other, place) => t.is(isBefore(one, other), index < place)));
});
