/** What is read back of a store whose last append was interrupted, laid out by hand. */
import { crc32 } from "node:zlib";
import test from "ava";
import { Layout } from "../../src/targets/cow/layout.ts";
import { FROM_VOLUME } from "../../src/targets/cow/moves.ts";
import { recoverStore } from "../../src/targets/cow/recovery.ts";
import { createStore } from "../../src/targets/cow/store-file.ts";
import { TableSector } from "../../src/targets/cow/table-sector.ts";
import { NONE } from "../../src/targets/cow/version-map.ts";
import { MemoryFile } from "../copy/memory-file.ts";

const BLOCK_BYTES = 512;
const SALT = 7;
const GEOMETRY = { blockBytes: BLOCK_BYTES, sectorBytes: 512, slotsPerSegment: 9, segments: 6, catalogBytes: 2048 };
const LAYOUT = new Layout(GEOMETRY);

interface Entry {
  readonly block: number;
  readonly epoch: number;
  /** Its bytes have not come to the store. */
  readonly isTorn: boolean;
}

/** A segment with entries of which so many are known to be durable. */
function put(file: MemoryFile, segment: number, sequence: number, durable: number, entries: readonly Entry[]): void {
  const bytes = new Uint8Array(GEOMETRY.sectorBytes);
  const sector = new TableSector(bytes, SALT);
  entries.forEach(({ block, epoch, isTorn }, at) => {
    const content = new Uint8Array(BLOCK_BYTES).fill(16 * block + epoch);
    sector.setEntry(at, block, 0, epoch, crc32(content));
    if (!isTorn) file.write(LAYOUT.slotOffset(segment * GEOMETRY.slotsPerSegment + at), content);
  });
  sector.seal(sequence, 0, entries.length, durable, 0, sequence - 1);
  file.write(LAYOUT.tableOffset(segment), bytes);
}

function store(): MemoryFile {
  const file = new MemoryFile(new Uint8Array(LAYOUT.sizeBytes));
  createStore(file, { volume: "data", mark: 1n }, GEOMETRY, SALT);
  return file;
}

test("a block is moved again in each of its versions that are torn: an original, and a copy made within the store", (t) => {
  const file = store();
  put(file, 0, 1, 1, [{ block: 5, epoch: 1, isTorn: false }]);
  put(file, 1, 2, 0, [
    { block: 5, epoch: 3, isTorn: true },
    { block: 5, epoch: 1, isTorn: true },
    { block: 6, epoch: 3, isTorn: false },
  ]);
  const { torn, map, isDamaged } = recoverStore(file, LAYOUT, SALT);
  t.deepEqual(
    [...torn].sort((one, other) => one.epoch - other.epoch),
    [
      { block: 5, epoch: 1, source: 0 },
      { block: 5, epoch: 3, source: FROM_VOLUME },
    ],
  );
  t.is(map.slot(map.findExactly(5, 1)), 0, "until then it is where it was");
  t.is(map.findExactly(5, 3), NONE);
  t.is(map.slot(map.findExactly(6, 3)), 11);
  t.false(isDamaged);
});

test("what was torn and has been moved again counts where it is now", (t) => {
  const file = store();
  put(file, 0, 1, 0, [{ block: 5, epoch: 1, isTorn: true }]);
  put(file, 1, 2, 1, [{ block: 5, epoch: 1, isTorn: false }]);
  const { torn, map } = recoverStore(file, LAYOUT, SALT);
  t.deepEqual(torn, []);
  t.is(map.slot(map.findExactly(5, 1)), 9);
});
