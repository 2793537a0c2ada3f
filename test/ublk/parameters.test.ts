/** The kernel's structures in bytes, and the limits that are refused before the kernel has to. */
import test from "ava";
import fc from "fast-check";
import { COMPILED } from "../../src/ublk/abi.ts";
import { checkAbi, native } from "../../src/ublk/native.ts";
import { checkLimits, decodeParameters, encodeParameters } from "../../src/ublk/parameters.ts";
import type { Limits } from "../../src/ublk/target.ts";

const LIMITS: Limits = {
  sizeBytes: 2 ** 30,
  logicalBlockBytes: 512,
  physicalBlockBytes: 4096,
  readOnly: false,
  rotational: false,
  volatileCache: true,
  fua: true,
  discard: { granularityBytes: 4096, maxBytes: 2 ** 30 },
  writeZeroesMaxBytes: 2 ** 20,
};

test("an addon whose compiler saw other structures is refused, by name", (t) => {
  t.notThrows(() => checkAbi(native.abi, "it"));
  t.throws(() => checkAbi({ ...native.abi, "ioDesc.size": 32 }, "it"), {
    code: "EABI",
    message: /ioDesc.size is 32 in it, wanted 24/,
  });
  t.true(Object.keys(COMPILED).length > 40);
});

test("struct ublk_params has exactly these bytes", (t) => {
  const bytes = encodeParameters({ limits: LIMITS, maxIoBytes: 262144 });
  const expected =
    "98000000 03000000" + // len 152, types BASIC | DISCARD
    "0c000000 09 0c 12 0c 00020000 00000000" + // VOLATILE_CACHE | FUA, shifts, 512 sectors, chunk
    "0000200000000000 0000000000000000" + // 2097152 sectors, virt_boundary_mask
    "00000000 00100000 00002000 00080000 0100 0000"; // discard: alignment, granularity, 2^21 and 2^11 sectors, one segment
  t.is(Buffer.from(bytes.subarray(0, 60)).toString("hex"), expected.replaceAll(" ", ""));
  t.true(bytes.subarray(60).every((byte) => byte === 0));
  t.is(bytes.length, 152);
});

test("what is encoded is decoded", (t) => {
  const blocks = fc.constantFrom(512, 1024, 2048, 4096);
  const limits = fc.record({
    logicalBlockBytes: blocks,
    count: fc.integer({ min: 1, max: 2 ** 32 }),
    readOnly: fc.boolean(),
    rotational: fc.boolean(),
    cache: fc.constantFrom([false, false], [true, false], [true, true]),
    zeroes: fc.option(fc.integer({ min: 1, max: 1000 })),
    discard: fc.option(fc.integer({ min: 1, max: 1000 })),
  });
  fc.assert(
    fc.property(limits, (sample) => {
      const wanted: Limits = {
        sizeBytes: sample.count * sample.logicalBlockBytes,
        logicalBlockBytes: sample.logicalBlockBytes,
        physicalBlockBytes: 4096,
        readOnly: sample.readOnly,
        rotational: sample.rotational,
        volatileCache: sample.cache[0],
        fua: sample.cache[1],
        discard: sample.discard === null ? null : { granularityBytes: 4096, maxBytes: sample.discard * 4096 },
        writeZeroesMaxBytes: sample.zeroes === null ? null : sample.zeroes * 512,
      };
      t.deepEqual(decodeParameters(encodeParameters({ limits: wanted, maxIoBytes: 65536 })).limits, wanted);
    }),
  );
});

for (const [changes, message] of [
  [{ logicalBlockBytes: 256 }, /logical block is 256/],
  [{ logicalBlockBytes: 8192, physicalBlockBytes: 8192 }, /logical block is 8192/],
  [{ physicalBlockBytes: 256 }, /physical block is 256/],
  [{ sizeBytes: 0 }, /size is 0/],
  [{ sizeBytes: 1000 }, /size is 1000, wanted a multiple of 512/],
  [{ discard: { granularityBytes: 100, maxBytes: 1 } }, /discard granularity is 100/],
] as const) {
  test(`limits are refused: ${JSON.stringify(changes)}`, (t) => {
    t.throws(() => checkLimits({ limits: { ...LIMITS, ...changes }, maxIoBytes: 65536 }), { code: "ELIMITS", message });
  });
}

test("a largest request that is no power of two is refused", (t) => {
  t.throws(() => checkLimits({ limits: LIMITS, maxIoBytes: 5000 }), { code: "ELIMITS" });
});
