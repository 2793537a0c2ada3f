/** The bytes of the NVRAM file, pinned: a file that was made once must be read for ever. */
import test from "ava";
import fc from "fast-check";
import { crc32c } from "../../src/nvram/crc32c.ts";
import { decodeHeader, encodeHeader, type Header } from "../../src/nvram/header.ts";
import type { ByteStorage } from "../../src/nvram/byte-storage.ts";
import { createNvram, openNvram, readHeader } from "../../src/nvram/nvram-file.ts";
import { CHUNKS_PER_LINE, LINE_BYTES, linesBytes, RecordLines } from "../../src/nvram/record-lines.ts";

const HEADER: Header = {
  salt: 0x01020304,
  sequence: 5,
  volume: "data",
  mark: 0x1122334455667788n,
  volumeBytes: 2 ** 40,
  chunkBytes: 65536,
  regions: [{ kind: 1, offset: 8192, lengthBytes: 4096 }],
};
/** In hexadecimal, without the zeros between the regions and the checksum. */
const HEADER_BYTES_PINNED = [
  "534c554943454e5601000000040302010500000000000000887766554433221100000000000100000000010001000000",
  "646174610000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
  "00000000000000000000000000000000010000000000000000200000000000000010...1ca71ad4",
].join("");

class Memory implements ByteStorage {
  bytes = new Uint8Array(0);

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(offset: number, lengthBytes: number): Uint8Array {
    return this.bytes.slice(offset, offset + lengthBytes);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset + bytes.length > this.bytes.length) {
      const larger = new Uint8Array(offset + bytes.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes.set(bytes, offset);
  }

  sync(): void {
    // Nothing is volatile here.
  }
}

test("CRC-32C has the check value of its catalogue", (t) => {
  t.is(crc32c(new TextEncoder().encode("123456789"), 0, 9), 0xe3069283);
  const bytes = new TextEncoder().encode("123456789");
  t.is(crc32c(bytes, 4, 9, crc32c(bytes, 0, 4)), 0xe3069283);
});

test("a header has exactly these bytes, and is read back", (t) => {
  const bytes = encodeHeader(HEADER);
  t.is(bytes.length, 512);
  const hex = Buffer.from(bytes).toString("hex");
  t.is(hex.replace(/(00)+(?=.{8}$)/, "..."), HEADER_BYTES_PINNED);
  t.deepEqual(decodeHeader(bytes), HEADER);
});

test("a header with any byte changed is none, and one of another version is refused", (t) => {
  const bytes = encodeHeader(HEADER);
  for (let at = 0; at < bytes.length; at++) {
    const damaged = bytes.slice();
    damaged[at] = (damaged[at] as number) ^ 0x10;
    t.is(decodeHeader(damaged), undefined, `byte ${at}`);
  }
  bytes[8] = 2;
  new DataView(bytes.buffer).setUint32(508, crc32c(bytes, 0, 508), true);
  t.throws(() => decodeHeader(bytes), { message: /version 2, wanted 1/ });
});

test("a line has exactly these bytes", (t) => {
  const lines = new RecordLines(new Uint8Array(LINE_BYTES), 480, 0x01020304);
  for (const chunk of [0, 9, 479]) lines.set(chunk, true);
  lines.seal(0);
  t.is(Buffer.from(lines.bytes).toString("hex"), `0102${"00".repeat(57)}80feb39a66`);
});

test("property: what is set is what is read, and a damaged line reads as all set", (t) => {
  const chunks = fc.integer({ min: 1, max: 3000 });
  fc.assert(
    fc.property(chunks, fc.array(fc.nat(2999)), fc.nat(), fc.nat(7), (count, picks, damagedByte, bit) => {
      const members = new Set(picks.map((pick) => pick % count));
      const lines = new RecordLines(new Uint8Array(linesBytes(count)), count, 7);
      for (const chunk of members) lines.set(chunk, true);
      for (let line = 0; line < lines.lines; line++) lines.seal(line);
      const found = new Set<number>();
      t.is(
        lines.read((chunk) => found.add(chunk)),
        0,
      );
      t.deepEqual(
        [...found],
        [...members].toSorted((a, b) => a - b),
      );
      const at = damagedByte % lines.bytes.length;
      lines.bytes[at] = (lines.bytes[at] as number) ^ (1 << bit);
      found.clear();
      t.is(
        lines.read((chunk) => found.add(chunk)),
        1,
      );
      const line = Math.floor(at / LINE_BYTES);
      const first = line * CHUNKS_PER_LINE;
      for (let chunk = first; chunk < Math.min(first + CHUNKS_PER_LINE, count); chunk++) t.true(found.has(chunk));
      for (const chunk of members) t.true(found.has(chunk));
    }),
    { numRuns: 60 },
  );
});

test("a file is refused for another volume, and for one that has shrunk; it grows with its volume", (t) => {
  const owner = { volume: "data", mark: 1n, volumeBytes: 1000 * 65536 };
  const storage = new Memory();
  createNvram(storage, owner, { chunkBytes: 65536, salt: 3, inSync: true });
  t.is(openNvram(storage, owner).chunks, 1000);
  t.throws(() => openNvram(storage, { ...owner, mark: 2n, volume: "other" }), { code: "EOWNER" });
  t.throws(() => openNvram(storage, { ...owner, volumeBytes: 999 * 65536 }), { code: "ESIZE" });
  const grown = openNvram(storage, { ...owner, volumeBytes: 2000 * 65536 });
  t.is(grown.chunks, 2000);
  t.is(readHeader(storage).sequence, 2);
  const recorded: number[] = [];
  new RecordLines(storage.read(grown.offset, grown.lengthBytes), 2000, 3).read((chunk) => void recorded.push(chunk));
  t.deepEqual(
    recorded,
    Array.from({ length: 1000 }, (_, index) => 1000 + index),
  );
  t.throws(() => createNvram(new Memory(), owner, { chunkBytes: 65537, salt: 3, inSync: true }), { code: "ECHUNK" });
  storage.bytes = storage.bytes.slice(0, grown.offset + 64);
  t.throws(() => openNvram(storage, { ...owner, volumeBytes: 2000 * 65536 }), { message: /it was cut/ });
});
