/** Transfers and the items of points on the wire, byte by byte: docs/protocol.md held to the code, and nothing wrong passes. */
import { createHash } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import { codeOf } from "../../src/ublk/errors.ts";
import { decodeItems, encodeRuns, RUN_KIND, runSectors, type PointRun } from "../../src/replication/point-items.ts";
import { TRANSFER_SECTORS_MAX } from "../../src/targets/mirror/dirty-blocks.ts";
import {
  dataSectorsOf,
  decodeTransfer,
  encodeTable,
  ENTRY_KIND,
  SECTOR_BYTES,
  tableBytes,
  TRANSFER_BYTES_MAX,
  TRANSFER_ENTRIES_MAX,
  type TransferTable,
} from "../../src/targets/mirror/transfer.ts";

const VOLUME_SECTORS = 2 ** 40;
const GEOMETRY = { volumeSectors: 8 * 1000 + 3, blockSectors: 8 } as const;
/** Change them only with the protocol's version. */
const PINNED_TRANSFER = "c328c346241e074db298f1c97abbb847a4f35e6320f0e75e9a3eeaa1cd5801cc";
const PINNED_ITEMS = "1b82c0c1bf61ed3b615c1d69fe9338d74c8fc4ab893bab87b0458990e6ac5ee2";

const TABLE: TransferTable = {
  incarnation: 0x01020304,
  number: 0xfffffffe,
  sequence: 2 ** 40 + 5,
  log: 3,
  isAwaited: true,
  entries: [
    { kind: ENTRY_KIND.DATA, sector: 2 ** 39 + 1, sectors: 2 },
    { kind: ENTRY_KIND.ZEROES, sector: 7, sectors: 2 ** 31 },
    { kind: ENTRY_KIND.DATA, sector: 0, sectors: 1 },
  ],
};
const RUNS: readonly PointRun[] = [
  { kind: RUN_KIND.REFERENCE, block: 5, blocks: 3, transfer: 0xfffffffe, place: 4 },
  { kind: RUN_KIND.ZEROES, block: 100, blocks: 200, transfer: 0, place: 0 },
  { kind: RUN_KIND.DATA, block: 999, blocks: 2, transfer: 0, place: 0 },
];

function joined(table: Uint8Array, sectors: number): Uint8Array {
  const bytes = new Uint8Array(table.length + sectors * SECTOR_BYTES);
  bytes.set(table);
  for (let index = table.length; index < bytes.length; index++) bytes[index] = index * 7;
  return bytes;
}

const transferOf = (table: TransferTable): Uint8Array => joined(encodeTable(table), dataSectorsOf(table.entries));
const itemsOf = (runs: readonly PointRun[]): Uint8Array =>
  joined(
    encodeRuns(runs),
    runs.reduce((sum, run) => sum + (run.kind === RUN_KIND.DATA ? runSectors(run, GEOMETRY) : 0), 0),
  );
const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

test("a transfer is as it is written down, and says what it was made of", (t) => {
  const bytes = transferOf(TABLE);
  t.is(hashOf(bytes), PINNED_TRANSFER);
  const { data, ...table } = decodeTransfer(bytes, VOLUME_SECTORS);
  t.deepEqual(table, TABLE);
  t.deepEqual(data, bytes.subarray(tableBytes(3)));
  t.is(data.length, 3 * SECTOR_BYTES);
});

test("the largest transfer fits a frame", (t) => {
  t.true(TRANSFER_BYTES_MAX <= 4 * 2 ** 20);
  const entry = { kind: ENTRY_KIND.DATA, sector: 0, sectors: TRANSFER_SECTORS_MAX };
  t.is(codeOf(t.throws(() => encodeTable({ ...TABLE, entries: [entry, { ...entry, sectors: 1 }] }))), "ESIZE");
  const many = new Array(TRANSFER_ENTRIES_MAX).fill({ ...entry, sectors: 1 }) as TransferTable["entries"];
  t.is(encodeTable({ ...TABLE, entries: many }).length, tableBytes(TRANSFER_ENTRIES_MAX));
  t.is(codeOf(t.throws(() => encodeTable({ ...TABLE, entries: [...many, entry] }))), "ESIZE");
});

test("items are as they are written down, and say what they were made of", (t) => {
  const bytes = itemsOf(RUNS);
  t.is(hashOf(bytes), PINNED_ITEMS);
  const { runs, data } = decodeItems(bytes, GEOMETRY);
  t.deepEqual(runs, RUNS);
  // The volume's last block has three sectors.
  t.is(data.length, 11 * SECTOR_BYTES);
  t.deepEqual(data, bytes.subarray(8 + 3 * 16));
});

/** Changes a number of so many bytes. */
function changed(bytes: Uint8Array, at: number, size: 2 | 4, value: number): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  if (size === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
  return copy;
}

test("a transfer that does not fit together is refused", (t) => {
  const whole = transferOf(TABLE);
  const refused: Record<string, Uint8Array> = {
    nothing: new Uint8Array(0),
    "no writes": changed(whole, 12, 4, 0),
    "too many writes": changed(whole, 12, 4, TRANSFER_ENTRIES_MAX + 1),
    "more data than there are": changed(whole, 8, 4, 4),
    "more data than can be": changed(whole, 8, 4, TRANSFER_SECTORS_MAX + 1),
    "a sequence that is no number": changed(whole, 20, 4, 0xffffffff),
    "an unknown flag": changed(whole, 28, 4, 2),
    "an unknown kind": changed(whole, 32 + 6, 2, 3),
    "a write of nothing": changed(whole, 32 + 8, 4, 0),
    "beyond the volume": changed(whole, 32 + 4, 2, 0x100),
    "data moved from one to another": changed(changed(whole, 32 + 8, 4, 3), 32 + 24 + 8, 4, 1),
    "cut short": whole.subarray(0, whole.length - 1),
    "too long": joined(whole, 1),
  };
  for (const [what, bytes] of Object.entries(refused)) {
    t.is(codeOf(t.throws(() => decodeTransfer(bytes, VOLUME_SECTORS), undefined, what)), "EPROTOCOL", what);
  }
});

test("items that do not fit together are refused", (t) => {
  const whole = itemsOf(RUNS);
  const refused: Record<string, Uint8Array> = {
    nothing: new Uint8Array(0),
    "no runs": changed(whole, 0, 4, 0),
    "too many runs": changed(whole, 0, 4, 16_385),
    "runs that are not there": changed(whole, 0, 4, 4000),
    "an unknown kind": changed(whole, 8 + 14, 2, 4),
    "no blocks": changed(whole, 8 + 6, 2, 0),
    "beyond the volume": changed(whole, 8 + 6, 2, 1000),
    "beyond a transfer": changed(whole, 8 + 12, 2, TRANSFER_SECTORS_MAX - 23),
    "too few data": whole.subarray(0, whole.length - SECTOR_BYTES),
    "too many data": joined(whole, 1),
  };
  for (const [what, bytes] of Object.entries(refused)) {
    t.is(codeOf(t.throws(() => decodeItems(bytes, GEOMETRY), undefined, what)), "EPROTOCOL", what);
  }
});

test("whatever comes is taken or refused, and never misread", (t) => {
  const bytes = fc.uint8Array({ minLength: 0, maxLength: 2048 });
  const isTamed = (decode: () => unknown): boolean => {
    try {
      decode();
      return true;
    } catch (error) {
      return codeOf(error) === "EPROTOCOL";
    }
  };
  fc.assert(
    fc.property(bytes, fc.integer({ min: 1, max: 4 }), (content, count) => {
      if (content.length >= 16) content.set([count, 0, 0, 0], content.length % 2 === 0 ? 0 : 12);
      return isTamed(() => decodeTransfer(content, 1000)) && isTamed(() => decodeItems(content, GEOMETRY));
    }),
  );
  t.pass();
});
