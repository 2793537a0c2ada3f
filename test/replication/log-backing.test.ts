/** The log of a receiver as a file of this machine: made once, locked while it is open, and faults that name it. */
import { mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type ExecutionContext } from "ava";
import { createLogBacking, isLog, openLogBacking } from "../../src/replication/log-backing.ts";
import { readLogSuperblock } from "../../src/replication/log-superblock.ts";
import { ByteFile } from "../../src/targets/byte-file.ts";

const MIB = 2 ** 20;
const OWNER = { volume: "data", mark: 7n };

async function pathIn(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(`${tmpdir()}/sluice-log-`);
  t.teardown(() => rm(folder, { recursive: true }));
  return `${folder}/log`;
}

test("a log is made in whole windows within the size that is given, and has all its room", async (t) => {
  const path = await pathIn(t);
  await createLogBacking(path, OWNER, 60 * MIB, { committed: 5, applied: 5 });
  const { size, blocks } = await stat(path);
  t.is(size, 48 * MIB + 8192);
  t.true(blocks * 512 >= size);
  await using backing = await openLogBacking(path, OWNER, 0);
  t.deepEqual(backing.geometry, { sectorBytes: 512, windowBytes: 16 * MIB, ringBytes: 48 * MIB });
  const { state, volume } = readLogSuperblock(new ByteFile(backing.plainFd));
  t.is(state.committed, 5);
  t.is(state.applied, 5);
  t.is(volume, "data");
  await t.throwsAsync(openLogBacking(path, OWNER, 0), { code: "EBUSY", message: /^Log .*log: .* in use/ });
});

test("what cannot be opened is told with its path and what to do", async (t) => {
  const path = await pathIn(t);
  await t.throwsAsync(openLogBacking(path, OWNER, 0), { code: "ENOENT", message: /log does not exist: make it with/ });
  t.false(await isLog(path));
  await writeFile(path, Buffer.alloc(16384));
  t.false(await isLog(path));
  await t.throwsAsync(openLogBacking(path, OWNER, 0), {
    code: "ELOG",
    message: /^Log .*log: it has no whole superblock/,
  });
  await rm(path);
  await createLogBacking(path, OWNER, 40 * MIB, { committed: 0, applied: 0 });
  t.true(await isLog(path));
  const again = createLogBacking(path, OWNER, 40 * MIB, { committed: 0, applied: 0 });
  await t.throwsAsync(again, { code: "EEXIST" });
  await t.throwsAsync(openLogBacking(path, { volume: "other", mark: 8n }, 0), { code: "EOWNER", message: /^Log / });
  await truncate(path, 20 * MIB);
  await t.throwsAsync(openLogBacking(path, OWNER, 0), { code: "ESIZE", message: /it was cut/ });
});

test("one that is too small is not made at all", async (t) => {
  const path = await pathIn(t);
  const made = createLogBacking(path, OWNER, 32 * MIB, { committed: 0, applied: 0 });
  await t.throwsAsync(made, { code: "ESIZE", message: /a log needs at least/ });
  await t.throwsAsync(stat(path), { code: "ENOENT" });
});
