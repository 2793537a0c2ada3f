/** The file that a copy job lives in. */
import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { CopyRecords, decodeRecord, encodeRecord, type CopyRecord } from "../../src/copy/copy-record.ts";

const RECORD: CopyRecord = {
  name: "copy-1",
  state: "running",
  error: null,
  epoch: 7,
  createdMs: 1_772_366_400_000,
  volumeBytes: 11 * 65_536 - 512,
  unitBytes: 65_536,
  segmentBytes: 1_048_576,
  order: "linear",
  bytesPerSecond: null,
  destinations: [
    { path: "/backup/data.img", stream: null },
    {
      path: "/backup/data.stream",
      stream: { id: "0123456789abcdef".repeat(2), recordBytes: 65_536, records: 7, payloadBytes: 390_144 },
    },
  ],
  overwrites: false,
  copied: Uint8Array.of(0b0000_1001, 0b0000_0010),
};

const PINNED = `sluice-copy 1 950f0b7f 420
{"name":"copy-1","state":"running","error":null,"epoch":7,"createdMs":1772366400000,"volumeBytes":720384,"unitBytes":65536,"segmentBytes":1048576,"order":"linear","bytesPerSecond":null,"destinations":[{"path":"/backup/data.img","stream":null},{"path":"/backup/data.stream","stream":{"id":"0123456789abcdef0123456789abcdef","recordBytes":65536,"records":7,"payloadBytes":390144}}],"overwrites":false,"copied":"42QCAA=="}
`;

test("a record has exactly these bytes", (t) => {
  t.is(encodeRecord(RECORD), PINNED);
  t.deepEqual(decodeRecord(PINNED), RECORD);
});

test("a record with any byte changed, or cut anywhere, is refused", (t) => {
  for (let at = 0; at < PINNED.length; at++) {
    const changed = PINNED.slice(0, at) + (PINNED[at] === "x" ? "y" : "x") + PINNED.slice(at + 1);
    t.throws(() => decodeRecord(changed), { message: /damaged|no record|version/ }, changed);
    t.throws(() => decodeRecord(PINNED.slice(0, at)), { message: /damaged|no record/ });
  }
  t.throws(() => decodeRecord(PINNED.replace("copy 1 ", "copy 2 ")), { code: "EVERSION" });
});

test("records are kept in a folder; what cannot be read is told, and keeps no other from being read", async (t) => {
  const folder = join(await mkdtemp(join(tmpdir(), "sluice-")), "data.copies");
  const records = new CopyRecords(folder);
  t.deepEqual(await records.load(), { records: [], faults: [] });
  await Promise.all([records.save(RECORD), records.save({ ...RECORD, state: "paused" })]);
  await records.save({ ...RECORD, name: "other" });
  await writeFile(join(folder, "bad.copy"), "nonsense");
  const { records: found, faults } = await records.load();
  t.deepEqual(
    found.map(({ name, state }) => [name, state]),
    [
      ["copy-1", "paused"],
      ["other", "running"],
    ],
  );
  t.deepEqual(faults, [{ path: join(folder, "bad.copy"), error: "it is no record of a copy" }]);
  await records.remove("copy-1");
  t.deepEqual((await readdir(folder)).sort(), ["bad.copy", "other.copy"]);
});
