/** How much of a point goes over at once: the receiver's log has room for it, whatever else is in it. */
import test from "ava";
import { limitsFor } from "../../src/replication/source-limits.ts";

const MIB = 2 ** 20;
const RING = { slots: 1024, dataBytes: 32 * MIB };

test("transfers of two points and the lists of two have room in the log, for any that is taken", (t) => {
  for (const log of [256 * MIB, 257 * MIB, 2 ** 40]) {
    const { aheadBytes, partialsMax, copyBytesMax } = limitsFor(log, RING, 4096, 65_536);
    t.true(aheadBytes > 0);
    // What is in the source's own log when a point is cut belongs to it: 4 KiB more for each transfer, and its table.
    const point = aheadBytes + RING.dataBytes + RING.slots * 8192;
    const lists = partialsMax * 4096 + copyBytesMax;
    t.true(2 * point + lists <= log, "the point that is under way has room beside one that is being built");
    t.true(lists <= log / 4);
  }
});

test("a log that is too small is refused, with what would do", (t) => {
  t.throws(() => limitsFor(64 * MIB, RING, 4096, 65_536), {
    code: "ESIZE",
    message: /has 67108864 bytes, wanted \d+ for a log of 33554432 here/,
  });
  t.notThrows(() => limitsFor(64 * MIB, { slots: 1024, dataBytes: 4 * MIB }, 4096, 65_536));
  t.throws(
    () => limitsFor(256 * MIB, RING, 4096, 32 * MIB),
    { code: "ESIZE" },
    "a chunk that is copied has to fit as well",
  );
});
