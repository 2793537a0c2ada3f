/** The store of originals on the disk, byte by byte: docs/store-format.md, held to the code. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import test from "ava";
import type { ByteStorage } from "../../src/nvram/byte-storage.ts";
import { decodeCatalog, encodeCatalog, pointsMax } from "../../src/targets/cow/catalog.ts";
import { Layout } from "../../src/targets/cow/layout.ts";
import { readSuperblock } from "../../src/targets/cow/recovery.ts";
import { createStore, geometryFor, openStore } from "../../src/targets/cow/store-file.ts";
import { encodeSuperblock, SUPERBLOCK_BYTES } from "../../src/targets/cow/superblock.ts";
import { TableSector } from "../../src/targets/cow/table-sector.ts";

const GEOMETRY = { blockBytes: 4096, sectorBytes: 512, slotsPerSegment: 64, segments: 6, catalogBytes: 4096 };
const SUPERBLOCK = { salt: 0x01020304, sequence: 1, volume: "data", mark: 0x534c000000000007n, geometry: GEOMETRY };
const POINT = {
  epoch: 3,
  kind: "snapshot",
  name: "monday",
  createdMs: 1_700_000_000_000,
  volumeBytes: 2 ** 40,
  state: "full",
  mark: 0,
} as const;
const BULK = { ...POINT, epoch: 4, kind: "bulk", name: "bulk", state: "valid", mark: 5 } as const;

/** Change them only with the version. */
const PINNED = {
  superblock: "ed9fd903f451e078eda1e2965bf920f5d9e68bbd0ec8e4e9556c547245401cee",
  bulk: "baad45e739a74854e3398767a7e1db8cd9c0a9e222273d1d6f5516bf9a06e4c8",
  catalog: "eee9f99321f706c89255ed5f8c1fea907b00bb85410b86e817a04927a4c8de2e",
  table: "fd6a1235c2c4b46982a803f1013a674571fc53c1f07ce24ed912f74c5dff2457",
};

const sha = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

class MemoryFile implements ByteStorage {
  readonly bytes: Uint8Array;
  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
  }
  get sizeBytes(): number {
    return this.bytes.length;
  }
  read(offset: number, lengthBytes: number): Uint8Array {
    return this.bytes.slice(offset, offset + lengthBytes);
  }
  write(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
  }
  sync(): void {
    // Memory is as durable as it gets.
  }
}

function tableSector(): Uint8Array {
  const bytes = new Uint8Array(512);
  const sector = new TableSector(bytes, 0x01020304);
  sector.setEntry(0, 2 ** 40 + 5, 0, 3, 0xdeadbeef);
  sector.setEntry(1, 6, 1, 4, 0);
  sector.seal(9, 1, 2, 30, 8, 64);
  return bytes;
}

test("the bytes of version 1 are pinned", (t) => {
  const catalog = new Uint8Array(4096);
  const length = encodeCatalog(catalog, 0x01020304, { sequence: 2, lastEpoch: 5, points: [POINT] });
  t.is(length, 32 + 128);
  const bulk = new Uint8Array(4096);
  encodeCatalog(bulk, 0x01020304, { sequence: 2, lastEpoch: 5, points: [BULK] });
  t.deepEqual(
    {
      superblock: sha(encodeSuperblock(SUPERBLOCK)),
      bulk: sha(bulk.subarray(0, 32 + 128)),
      catalog: sha(catalog.subarray(0, length)),
      table: sha(tableSector()),
    },
    PINNED,
  );
});

test("places: superblocks, catalogue areas, slots, tables", (t) => {
  const layout = new Layout(GEOMETRY);
  t.is(layout.catalogOffset(0), 8192);
  t.is(layout.catalogOffset(1), 12_288);
  t.is(layout.slotOffset(0), 16_384);
  t.is(layout.slotOffset(65), 16_384 + 64 * 4096 + 4096 + 4096);
  // Two places for a sector that is not full, three for full ones, rounded up to 4096.
  t.is(layout.tableOffset(0), 16_384 + 64 * 4096);
  t.is(layout.fullSectorOffset(0, 1), layout.tableOffset(0) + 3 * 512);
  t.deepEqual(
    [0, 1, 2].map((index) => layout.entriesOf(index)),
    [30, 30, 4],
  );
  t.is(layout.sizeBytes, 16_384 + 6 * (64 * 4096 + 4096));
  t.is(Layout.segmentsWithin(layout.sizeBytes, GEOMETRY), 6);
  t.is(Layout.segmentsWithin(layout.sizeBytes - 1, GEOMETRY), 5);
});

test("what is written is read back; what is damaged, or of another store, is not", (t) => {
  const content = { sequence: 2, lastEpoch: 5, points: [POINT, BULK] };
  const catalog = new Uint8Array(4096);
  encodeCatalog(catalog, 7, content);
  t.deepEqual(decodeCatalog(catalog, 7), content);
  t.is(decodeCatalog(catalog, 8), undefined);
  catalog[100] = (catalog[100] ?? 0) ^ 1;
  t.is(decodeCatalog(catalog, 7), undefined);
  encodeCatalog(catalog, 7, content);
  catalog[32 + 4] = 4;
  new DataView(catalog.buffer).setUint32(12, crc32(catalog.subarray(16, 32 + 2 * 128)), true);
  t.throws(() => decodeCatalog(catalog, 7), { code: "EVERSION", message: /points of a kind/ });
  t.throws(
    () => encodeCatalog(catalog, 7, { ...content, points: Array.from({ length: pointsMax(4096) + 1 }, () => POINT) }),
    {
      code: "ENOSPC",
    },
  );

  const bytes = tableSector();
  const sector = new TableSector(bytes, 0x01020304);
  t.deepEqual(sector.read(), { sequence: 9, index: 1, count: 2, durable: 30, settled: 8, durableBefore: 64 });
  t.deepEqual([sector.block(0), sector.epoch(0), sector.checksum(0)], [2 ** 40 + 5, 3, 0xdeadbeef]);
  t.deepEqual([sector.block(1), sector.flags(1)], [6, 1]);
  t.is(new TableSector(bytes, 7).read(), undefined);
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  t.is(sector.read(), undefined);
});

test("a store is opened by its own volume alone, in a version that is known, and only whole", (t) => {
  const owner = { volume: "data", mark: 7n };
  const layout = new Layout(GEOMETRY);
  const file = new MemoryFile(layout.sizeBytes);
  t.throws(() => openStore(file, owner), { code: "ESTORE" });
  createStore(file, owner, GEOMETRY, 99);
  t.is(openStore(file, owner).salt, 99);
  t.throws(() => openStore(file, { volume: "other", mark: 8n }), { code: "EOWNER", message: /belongs to volume data/ });
  const cut = new MemoryFile(layout.sizeBytes - 1);
  cut.bytes.set(file.bytes.subarray(0, cut.sizeBytes));
  t.throws(() => openStore(cut, owner), { code: "ESIZE" });
  // One slot of the superblock may be lost.
  file.bytes.fill(0, 0, SUPERBLOCK_BYTES);
  t.is(readSuperblock(file).volume, "data");
  const newer = encodeSuperblock(SUPERBLOCK);
  newer[8] = 2;
  file.bytes.set(withChecksum(newer), 4096);
  t.throws(() => openStore(file, owner), { code: "EVERSION" });
});

test("a store is laid out to fit, and refused where it is too small to be of use", (t) => {
  for (const blockBytes of [4096, 65_536, 2 ** 20]) {
    const geometry = geometryFor(2 ** 30, blockBytes, 512);
    const { sizeBytes, segmentBytes } = new Layout(geometry);
    t.true(sizeBytes <= 2 ** 30 && sizeBytes + segmentBytes > 2 ** 30, `${blockBytes}`);
  }
  t.throws(() => geometryFor(2 ** 20, 4096, 512), { code: "ESIZE", message: /needs \d+ bytes, found 1048576/ });
});

function withChecksum(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer).setUint32(508, crc32(bytes.subarray(0, 508)), true);
  return bytes;
}
