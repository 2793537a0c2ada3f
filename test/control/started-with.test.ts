/** What a device was made over is known to the daemon that takes it over. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { forget, recall, remember, sameStore } from "../../src/control/started-with.ts";

test.serial("a store is remembered until it is forgotten", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  process.env["SLUICE_RUNTIME_DIR"] = directory;
  t.teardown(() => rm(directory, { recursive: true }));
  const second = {
    backing: { kind: "file", path: "/srv/b" },
    record: { path: "/srv/b.nvram", limitBytes: 2 ** 24 },
    snapshots: { path: "/srv/b.store" },
    isMirrored: true,
  } as const;
  t.is(await recall("data"), undefined);
  remember("data", { backing: { kind: "file", path: "/srv/a" }, record: null, snapshots: null, isMirrored: false });
  remember("data", second);
  t.deepEqual(await recall("data"), second);
  await forget("data");
  await forget("data");
  t.is(await recall("data"), undefined);
});

test("stores are the same by kind and path, whatever their size", (t) => {
  t.true(sameStore({ kind: "file", path: "/a" }, { kind: "file", path: "/a" }));
  t.false(sameStore({ kind: "file", path: "/a" }, { kind: "file", path: "/b" }));
  t.false(sameStore({ kind: "appended", path: "/a" }, { kind: "appended", path: "/b" }));
  t.false(sameStore({ kind: "appended", path: "/a" }, { kind: "file", path: "/a" }));
  t.true(sameStore({ kind: "null", sizeBytes: 1 }, { kind: "null", sizeBytes: 2 }));
  t.false(sameStore({ kind: "null", sizeBytes: 1 }, { kind: "file", path: "/a" }));
});
