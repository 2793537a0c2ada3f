/** Checksums of blocks: what differs in one bit is found, and nothing else; what does not fit together is refused. */
import { createHash, randomFillSync } from "node:crypto";
import test from "ava";
import * as fc from "fast-check";
import {
  allDiffer,
  decodeSums,
  decodeSumsReply,
  differing,
  encodeSums,
  encodeSumsReply,
  hasBit,
} from "../../src/replication/sums.ts";

/** 25 blocks, the last one of three sectors. */
const GEOMETRY = { volumeSectors: 8 * 24 + 3, blockSectors: 8 };
const BLOCKS = 25;

const differ = (bits: Uint8Array, blocks: number): number[] =>
  Array.from({ length: blocks }, (_, index) => index).filter((index) => hasBit(bits, index));

test("blocks that differ in one bit are found, and no others", (t) => {
  const turned = fc.uniqueArray(fc.nat(GEOMETRY.volumeSectors * 512 * 8 - 1), { maxLength: 5 });
  fc.assert(
    fc.property(turned, fc.nat(BLOCKS - 1), (bits, block) => {
      const blocks = BLOCKS - block;
      const bytes = randomFillSync(new Uint8Array(GEOMETRY.volumeSectors * 512 - block * 4096));
      const sums = decodeSums(encodeSums({ block, blocks }, bytes, GEOMETRY), GEOMETRY);
      const wanted = new Set<number>();
      for (const bit of bits.filter((each) => each < bytes.length * 8)) {
        bytes[bit >>> 3] = (bytes[bit >>> 3] as number) ^ (1 << (bit & 7));
        wanted.add(Math.floor(bit / 8 / 4096));
      }
      const reply = decodeSumsReply(encodeSumsReply(sums, differing(sums, bytes, GEOMETRY)), GEOMETRY);
      t.is(reply.block, block);
      t.is(reply.blocks, blocks);
      t.deepEqual(
        differ(reply.differs, blocks),
        [...wanted].toSorted((one, other) => one - other),
      );
    }),
    { numRuns: 50 },
  );
});

test("zeroes have the sums that any block has, and a short block of them its own", (t) => {
  const sumOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex").slice(0, 32);
  for (const [block, blocks] of [
    [0, 5],
    [BLOCKS - 1, 1],
    [0, BLOCKS],
  ] as const) {
    const bytes = new Uint8Array(Math.min(blocks * 4096, GEOMETRY.volumeSectors * 512 - block * 4096));
    const sums = decodeSums(encodeSums({ block, blocks }, bytes, GEOMETRY), GEOMETRY);
    for (let index = 0; index < blocks; index++) {
      const wanted = sumOf(bytes.subarray(index * 4096, (index + 1) * 4096));
      t.is(Buffer.from(sums.sums.subarray(index * 16, (index + 1) * 16)).toString("hex"), wanted);
    }
    t.deepEqual(differ(differing(sums, bytes, GEOMETRY), blocks), []);
    bytes[bytes.length - 1] = 1;
    t.deepEqual(differ(differing(sums, bytes, GEOMETRY), blocks), [blocks - 1]);
  }
});

test("of a place that cannot be read, all differs", (t) => {
  t.deepEqual(differ(allDiffer({ block: 3, blocks: 10 }), 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("what lies outside of the volume, or has another length than it says, is refused", (t) => {
  const whole = (block: number, blocks: number): Uint8Array =>
    encodeSums({ block, blocks }, new Uint8Array(blocks * 4096), GEOMETRY);
  const large = { volumeSectors: 80_000, blockSectors: 8 };
  for (const [what, payload] of Object.entries({
    "behind its end": whole(24, 2),
    "no blocks": whole(0, 0),
    "a sum is missing": whole(0, 2).subarray(0, 32),
    nothing: new Uint8Array(0),
  })) {
    t.throws(() => decodeSums(payload, GEOMETRY), { code: "EPROTOCOL" }, what);
  }
  t.throws(() => decodeSums(whole(0, 65), large), { code: "EPROTOCOL" }, "more than one frame may have");
  t.is(decodeSums(whole(0, 64), large).blocks, 64);
  const reply = encodeSumsReply({ block: 0, blocks: 9 }, new Uint8Array(2));
  t.throws(() => decodeSumsReply(reply.subarray(0, 17), GEOMETRY), { code: "EPROTOCOL" });
  t.throws(() => decodeSumsReply(encodeSumsReply({ block: 20, blocks: 9 }, new Uint8Array(2)), GEOMETRY), {
    code: "EPROTOCOL",
  });
});
