/** The end of a point's list in the receiver's log, byte by byte: docs/receiver-log.md held to the code. */
import test from "ava";
import { codeOf } from "../../src/ublk/errors.ts";
import { decodePointRecord, encodePointRecord } from "../../src/replication/committed-point.ts";

const POINT = {
  cut: { incarnation: 3, counter: 0xfffffffe },
  lists: 5,
  isClosed: true,
  isReplay: false,
  createdMs: 1_772_366_400_000,
  generation: "fedcba9876543210",
  lastClosed: 2 ** 40 + 1,
  tail: { position: 2 ** 33 + 512, link: 0x01020304 },
  log: 5,
  next: { incarnation: 4, counter: 1 },
};
/** Change it only with the version of the log. */
const PINNED = [
  "03000000feffffff0500000001000000000a45a99c010000",
  "1032547698badcfe01000000000100000002000002000000",
  "04030201050000000400000001000000",
].join("");

test("the bytes of version 1 are pinned, and say the same when they are read", (t) => {
  const bytes = encodePointRecord(POINT);
  t.is(Buffer.from(bytes).toString("hex"), PINNED);
  t.deepEqual(decodePointRecord(bytes), POINT);
  const open = { ...POINT, isClosed: false };
  t.deepEqual(decodePointRecord(encodePointRecord(open)), open);
  const replay = { ...POINT, isReplay: true };
  t.deepEqual(decodePointRecord(encodePointRecord(replay)), replay);
});

test("what is no end of a point is refused", (t) => {
  const bytes = encodePointRecord(POINT);
  const other = bytes.slice();
  other[12] = 4;
  for (const wrong of [bytes.subarray(1), new Uint8Array(0), other]) {
    t.is(codeOf(t.throws(() => decodePointRecord(wrong))), "ELOG");
  }
});
