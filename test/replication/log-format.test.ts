/** The receiver's log on the disk, byte by byte: docs/receiver-log.md, held to the code. */
import { crc32 } from "node:zlib";
import test from "ava";
import { crc32c } from "../../src/nvram/crc32c.ts";
import { checkLogGeometry, logBytes, logGeometryFor, offsetOf } from "../../src/replication/log-geometry.ts";
import {
  decodeRecordHeader,
  encodeRecordHeader,
  LOG_RECORD,
  RECORD_HEADER_BYTES,
} from "../../src/replication/log-record.ts";
import { recoverLog } from "../../src/replication/log-recovery.ts";
import {
  createLog,
  decodeLogSuperblock,
  encodeLogSuperblock,
  openLog,
  readLogSuperblock,
  writeLogSuperblock,
} from "../../src/replication/log-superblock.ts";
import { MemoryFile } from "../copy/memory-file.ts";

const GEOMETRY = { sectorBytes: 512, windowBytes: 4096, ringBytes: 3 * 4096 };
const OWNER = { volume: "data", mark: 0x534c_0000_0000_0007n };
const SUPERBLOCK = {
  ...OWNER,
  salt: 0x01020304,
  sequence: 9,
  geometry: { sectorBytes: 4096, windowBytes: 2 ** 24, ringBytes: 2 ** 40 },
  state: {
    life: 6,
    tail: { position: 2 ** 41 + 4096, link: 0x0a0b0c0d },
    durable: 2 ** 41 + 8192,
    committed: 2 ** 52 + 2,
    applied: 2 ** 52 + 1,
    lostFrom: 2 ** 41 + 12288,
  },
};
const HEADER = {
  position: 2 ** 41 + 512,
  life: 6,
  link: 0x0a0b0c0d,
  kind: LOG_RECORD.POINT_ITEMS,
  length: 1000,
  high: 3,
  low: 0xfffffffe,
  durable: 2 ** 41,
  payloadChecksum: 0xdeadbeef,
};
const NOBODY = { transfer: () => undefined, pointItems: () => undefined, pointEnd: () => undefined };

/** Change them only with the version. */
const PINNED = {
  superblock:
    "534c55494345524c010000000403020109000000000000000700000000004c53001000000000000100000000000100000600" +
    "00000d0c0b0a0010000000020000002000000002000002000000000010000100000000001000003000000002000064617461" +
    "00000000",
  header:
    "534c524c040302010002000000020000060000000d0c0b0a02000000e803000003000000feffffff000000000002" +
    "0000efbeadde000000000000000080ae52d7",
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function newLog(): MemoryFile {
  const file = new MemoryFile(new Uint8Array(logBytes(GEOMETRY)));
  createLog(file, OWNER, GEOMETRY, 5, { committed: 4, applied: 3 });
  return file;
}

test("the bytes of a superblock and of a record's header are what they were", (t) => {
  const superblock = new Uint8Array(512).fill(0xff);
  encodeLogSuperblock(superblock, SUPERBLOCK);
  t.is(hex(superblock.subarray(0, 104)), PINNED.superblock);
  t.true(superblock.subarray(104, 508).every((byte) => byte === 0));
  t.is(new DataView(superblock.buffer).getUint32(508, true), crc32(superblock.subarray(0, 508)));
  t.deepEqual(decodeLogSuperblock(superblock), SUPERBLOCK);
  const header = new Uint8Array(RECORD_HEADER_BYTES).fill(0xff);
  const checksum = encodeRecordHeader(header, 0x01020304, HEADER);
  t.is(hex(header), PINNED.header);
  t.is(checksum, crc32c(header, 0, 60));
  t.deepEqual(decodeRecordHeader(header, 0x01020304), { ...HEADER, checksum });
});

test("a header with any bit turned over is none, nor is one of another log", (t) => {
  const header = new Uint8Array(RECORD_HEADER_BYTES);
  encodeRecordHeader(header, 5, HEADER);
  t.is(decodeRecordHeader(header, 6), undefined);
  for (let bit = 0; bit < 8 * RECORD_HEADER_BYTES; bit++) {
    const damaged = header.map((byte, index) => (index === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
    t.is(decodeRecordHeader(damaged, 5), undefined, `bit ${bit}`);
  }
});

test("a new log is empty, and each opening is a new life of it, in both slots", (t) => {
  const file = newLog();
  for (const life of [1, 2, 3]) {
    const { superblock, head } = recoverLog(file, OWNER, NOBODY);
    t.is(superblock.state.life, life);
    t.is(superblock.state.committed, 4);
    t.is(superblock.state.applied, 3);
    t.deepEqual(head, { position: GEOMETRY.ringBytes, link: 5 });
    for (const offset of [0, 4096]) t.is(decodeLogSuperblock(file.read(offset, 512))?.state.life, life);
  }
});

test("the newest whole superblock counts", (t) => {
  const file = newLog();
  const older = readLogSuperblock(file);
  const newer = { ...older, sequence: older.sequence + 1, state: { ...older.state, applied: 4 } };
  writeLogSuperblock(file, newer);
  t.deepEqual(readLogSuperblock(file), newer);
  file.bytes[4096 + 80] = 0;
  t.deepEqual(readLogSuperblock(file), older);
  file.bytes[80] = 0;
  t.throws(() => readLogSuperblock(file), { code: "ELOG", message: /no whole superblock/ });
});

test("another version, another volume, a log that was cut, and what cannot be laid out are refused", (t) => {
  const refuses = (change: (view: DataView) => void, code: string, message: RegExp): void => {
    const file = newLog();
    for (const offset of [0, 4096]) {
      const view = new DataView(file.bytes.buffer, offset, 512);
      change(view);
      view.setUint32(508, crc32(file.bytes.subarray(offset, offset + 508)), true);
    }
    t.throws(() => openLog(file, OWNER), { code, message });
  };
  refuses((view) => view.setUint32(8, 2, true), "EVERSION", /version 2, wanted 1/);
  refuses((view) => view.setUint32(24, 8, true), "EOWNER", /belongs to volume data, wanted data/);
  refuses((view) => view.setUint32(40, 4 * 4096, true), "ESIZE", /was cut/);
  refuses((view) => view.setUint32(36, 512 + 1, true), "ELAYOUT", /cannot be laid out/);
});

test("a record of a kind that is not known is refused", (t) => {
  const file = newLog();
  const sector = new Uint8Array(512);
  const link = 5;
  const position = GEOMETRY.ringBytes;
  encodeRecordHeader(sector, 5, { ...HEADER, position, link, length: 0, kind: 4, payloadChecksum: 0 });
  file.write(offsetOf(GEOMETRY, position), sector);
  t.throws(() => recoverLog(file, OWNER, NOBODY), { code: "EVERSION", message: /kind 4/ });
});

test("a record with another position, link or payload than is expected is none", (t) => {
  const position = GEOMETRY.ringBytes;
  const header = { ...HEADER, position, link: 5, length: 0, payloadChecksum: 0 };
  const head = (change: object): number => {
    const file = newLog();
    const sector = new Uint8Array(512);
    encodeRecordHeader(sector, 5, { ...header, ...change });
    file.write(offsetOf(GEOMETRY, position), sector);
    return recoverLog(file, OWNER, NOBODY).head.position - position;
  };
  t.is(head({}), 512);
  t.is(head({ position: 2 * position }), 0);
  t.is(head({ link: 6 }), 0);
  t.is(head({ payloadChecksum: 1 }), 0);
});

test("a record that would be longer than the window is none", (t) => {
  const file = newLog();
  const sector = new Uint8Array(512);
  const position = GEOMETRY.ringBytes;
  for (const length of [4096 - RECORD_HEADER_BYTES + 1, 2 ** 32 - 1]) {
    const payload = file.read(offsetOf(GEOMETRY, position) + RECORD_HEADER_BYTES, Math.min(length, 8192));
    encodeRecordHeader(sector, 5, { ...HEADER, position, link: 5, length, payloadChecksum: crc32(payload) });
    file.write(offsetOf(GEOMETRY, position), sector);
    t.is(recoverLog(file, OWNER, NOBODY).head.position, position);
  }
});

test("a log takes as many windows as there is room for, at least two", (t) => {
  t.deepEqual(logGeometryFor(8192 + 4 * 4096 + 4095, 512, 4096), {
    sectorBytes: 512,
    windowBytes: 4096,
    ringBytes: 4 * 4096,
  });
  t.throws(() => logGeometryFor(8192 + 2 * 4096 - 1, 512, 4096), {
    code: "ESIZE",
    message: /16384 bytes, found 16383/,
  });
  const bad = [
    { sectorBytes: 1024 },
    { windowBytes: 4096 + 256, ringBytes: 2 * (4096 + 256) },
    { ringBytes: 4096 },
    { ringBytes: 2.5 * 4096 },
    { windowBytes: 0 },
  ];
  for (const change of bad) t.throws(() => checkLogGeometry({ ...GEOMETRY, ...change }), { code: "ELAYOUT" });
});
