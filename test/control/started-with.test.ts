/** What a device was made over is known to the daemon that takes it over. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { forgetBacking, recallBacking, rememberBacking, sameStore } from "../../src/control/started-with.ts";

test.serial("a store is remembered until it is forgotten", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  process.env["SLUICE_RUNTIME_DIR"] = directory;
  t.teardown(() => rm(directory, { recursive: true }));
  t.is(await recallBacking("data"), undefined);
  rememberBacking("data", { kind: "file", path: "/srv/a" });
  rememberBacking("data", { kind: "file", path: "/srv/b" });
  t.deepEqual(await recallBacking("data"), { kind: "file", path: "/srv/b" });
  await forgetBacking("data");
  await forgetBacking("data");
  t.is(await recallBacking("data"), undefined);
});

test("stores are the same by kind and path, whatever their size", (t) => {
  t.true(sameStore({ kind: "file", path: "/a" }, { kind: "file", path: "/a" }));
  t.false(sameStore({ kind: "file", path: "/a" }, { kind: "file", path: "/b" }));
  t.true(sameStore({ kind: "null", sizeBytes: 1 }, { kind: "null", sizeBytes: 2 }));
  t.false(sameStore({ kind: "null", sizeBytes: 1 }, { kind: "file", path: "/a" }));
});
