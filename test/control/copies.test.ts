/** The copy jobs of a volume: what there is of them when they begin, end, cannot begin, and when a daemon dies. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type ExecutionContext } from "ava";
import { Copies } from "../../src/control/copies.ts";
import type { CopyRow } from "../../src/control/copy-status.ts";
import { FreezeHook } from "../../src/control/freeze-hook.ts";
import { GroupPart } from "../../src/control/group-part.ts";
import { newRecord, type NewCopy } from "../../src/control/new-copy.ts";
import { CopyRecords, type CopyRecord } from "../../src/copy/copy-record.ts";
import { MemoryVolume } from "./memory-volume.ts";

const SIZE = 5 * 65_536 + 512;

interface Scene {
  /** How the program that brings applications to rest has been called. */
  readonly hookCalls: () => Promise<string>;
  readonly volume: MemoryVolume;
  readonly records: CopyRecords;
  readonly copies: Copies;
  readonly group: GroupPart<CopyRow>;
  /** A daemon that finds what there is. */
  readonly restarted: () => Promise<Copies>;
  /** Where images go. */
  readonly folder: string;
  readonly noted: () => Promise<CopyRecord[]>;
}

/** `hook` is a shell script that brings applications to rest. */
async function scene(t: ExecutionContext, hook?: string): Promise<Scene> {
  const directory = await mkdtemp(`${tmpdir()}/sluice-`);
  t.teardown(() => rm(directory, { recursive: true }));
  const folder = `${directory}/images`;
  await mkdir(folder);
  const volume = new MemoryVolume(SIZE);
  const records = new CopyRecords(`${directory}/data.copies`);
  const noted = async (): Promise<CopyRecord[]> => (await records.load()).records;
  const group = newGroup();
  const restarted = async (): Promise<Copies> => {
    const next = new Copies(volume, records, null, newGroup());
    await next.recover();
    return next;
  };
  const program = `${directory}/hook`;
  await writeFile(program, `#!/bin/sh\necho "$@" >>${program}.calls\n${hook ?? ""}\n`);
  await chmod(program, 0o755);
  const freezeHook = hook === undefined ? null : new FreezeHook("data", program, `${directory}/data.frozen`);
  const copies = new Copies(volume, records, freezeHook, group);
  const hookCalls = (): Promise<string> => readFile(`${program}.calls`, "utf8");
  return { volume, records, copies, group, restarted, folder, noted, hookCalls };
}

/** Whose deadlines never pass. */
function newGroup(): GroupPart<CopyRow> {
  const nothing = (): Promise<void> => Promise.resolve();
  return new GroupPart("data", { holdBack: nothing, letGo: nothing }, () => () => undefined);
}

const wanted = (path: string, how: Partial<NewCopy> = {}): NewCopy => ({
  name: undefined,
  destinations: [path],
  segmentBytes: 65_536,
  order: "linear",
  bytesPerSecond: null,
  recordBytes: null,
  force: false,
  staged: false,
  ...how,
});

/** Waits for an event, however long it takes. */
async function until(happens: () => boolean): Promise<void> {
  while (!happens()) await new Promise((resolve) => setImmediate(resolve));
}
async function complete(copies: Copies): Promise<void> {
  await until(() => copies.list().every(({ state }) => state === "complete"));
  // In its turn: what was noted last is durable.
  await copies.halt();
}

test("a job is of the moment it began, and leaves its file and its record", async (t) => {
  const { volume, copies, folder, noted } = await scene(t);
  const was = volume.content.slice();
  const row = await copies.start(wanted(`${folder}/a.img`));
  t.like(row, { name: "copy-1", state: "running", volumeBytes: SIZE, destinations: [`${folder}/a.img`] });
  volume.content.fill(0);
  await complete(copies);
  t.deepEqual(new Uint8Array(await readFile(`${folder}/a.img`)), was);
  t.is(volume.shown.size, 0);
  t.like((await noted())[0], { name: "copy-1", state: "complete", epoch: null });
  t.like(copies.list()[0], { copiedBytes: SIZE, rateBytesPerSecond: null });
  await copies.cancel("copy-1");
  t.deepEqual(await noted(), []);
  t.deepEqual(await readdir(folder), ["a.img"]);
});

test("applications are at rest when the point of a job is taken; where they cannot be, none begins", async (t) => {
  const { copies, folder, hookCalls, noted } = await scene(t, `[ "$1" != freeze ] || [ ! -e "$0.refuses" ]`);
  await copies.start(wanted(`${folder}/a.img`, { staged: true }));
  await t.throwsAsync(hookCalls(), { code: "ENOENT" });
  await copies.release();
  t.is(await hookCalls(), "freeze data\nthaw data\n");
  await complete(copies);
  await writeFile(`${folder}/../hook.refuses`, "");
  await t.throwsAsync(copies.start(wanted(`${folder}/b.img`)), { code: "EFREEZE" });
  await t.throwsAsync(copies.prepare(wanted(`${folder}/b.img`)), { code: "EFREEZE" });
  t.deepEqual(await readdir(folder), ["a.img"]);
  t.is((await noted()).length, 1);
});

test("a job has begun where applications could not be brought back, and that is told", async (t) => {
  const { volume, copies, folder } = await scene(t, `[ "$1" != thaw ]`);
  const was = volume.content.slice();
  await t.throwsAsync(copies.start(wanted(`${folder}/a.img`)), { code: "EFREEZE", message: /may still be frozen/ });
  volume.content.fill(0);
  await complete(copies);
  t.deepEqual(new Uint8Array(await readFile(`${folder}/a.img`)), was);
});

test("staged jobs have begun as one even where applications could not be brought back: none is left to begin again", async (t) => {
  const { copies, folder, noted } = await scene(t, `[ "$1" != thaw ]`);
  for (const name of ["a", "b"]) await copies.start(wanted(`${folder}/${name}.img`, { name, staged: true }));
  await t.throwsAsync(copies.release(), { code: "EFREEZE" });
  await complete(copies);
  t.like(copies.list(), [{ name: "a", destinations: [`${folder}/a.img`, `${folder}/b.img`] }]);
  t.is(copies.list().length, 1);
  t.is((await noted()).length, 1);
});

test("where no point can be taken, nothing is left, and nothing has changed", async (t) => {
  const { volume, copies, folder, noted } = await scene(t);
  await writeFile(`${folder}/old.img`, "what was there");
  volume.isBroken = true;
  const both = { destinations: [`${folder}/new.img`, `${folder}/old.img`], force: true };
  await t.throwsAsync(copies.start(wanted("", both)), { code: "ESNAPSHOT" });
  t.deepEqual(await readdir(folder), ["old.img"]);
  t.is(await readFile(`${folder}/old.img`, "utf8"), "what was there");
  t.deepEqual(await noted(), []);
  t.deepEqual(copies.list(), []);
});

test("where one destination cannot be opened, none has been made", async (t) => {
  const { volume, copies, folder, noted } = await scene(t);
  await writeFile(`${folder}/old.img`, "what was there");
  const both = { destinations: [`${folder}/new.img`, `${folder}/old.img`] };
  await t.throwsAsync(copies.start(wanted("", both)), { code: "EEXIST" });
  t.deepEqual(await readdir(folder), ["old.img"]);
  t.deepEqual(await noted(), []);
  t.is(volume.shown.size, 0);
});

test("the next daemon goes on, also with one that had written nothing yet", async (t) => {
  const { volume, copies, records, restarted, folder } = await scene(t);
  const gate = Promise.withResolvers<undefined>();
  volume.gate = gate.promise;
  const was = volume.content.slice();
  await copies.start(wanted(`${folder}/a.img`, { recordBytes: 4096 }));
  // It has begun, and the daemon has died before its image had its size.
  const { epoch } = await volume.take("copy-2", 0);
  await records.save({ ...newRecord("copy-2", wanted(`${folder}/b.img`), volume), epoch });
  await writeFile(`${folder}/b.img`, "");
  volume.content.fill(0);
  await copies.cancel("copy-1");
  volume.gate = Promise.resolve();
  const next = await restarted();
  await complete(next);
  t.deepEqual(
    next.list().map(({ name }) => name),
    ["copy-2"],
  );
  t.deepEqual(new Uint8Array(await readFile(`${folder}/b.img`)), was);
  gate.resolve(undefined);
});

test("of a job that had not begun the next daemon leaves nothing, but what is not its own", async (t) => {
  const { volume, records, restarted, folder, noted } = await scene(t);
  const prepared = async (name: string, path: string, how: Partial<NewCopy> = {}): Promise<void> => {
    await records.save(newRecord(name, wanted(path, how), volume));
    await volume.take(name, 0);
  };
  await prepared("made", `${folder}/made.img`);
  await writeFile(`${folder}/made.img`, "");
  await prepared("filled", `${folder}/filled.img`);
  await writeFile(`${folder}/filled.img`, "somebody has put it there since");
  await prepared("forced", `${folder}/forced.img`, { force: true });
  await writeFile(`${folder}/forced.img`, "");
  await prepared("staged", `${folder}/staged.img`, { staged: true });
  const next = await restarted();
  t.deepEqual(
    next.list().map(({ name, state }) => [name, state]),
    [["staged", "staged"]],
  );
  t.deepEqual((await readdir(folder)).toSorted(), ["filled.img", "forced.img"]);
  t.is((await noted()).length, 1);
  t.is(volume.shown.size, 0);
});

test("staged jobs stay what they are where they cannot begin, and begin as one", async (t) => {
  const { volume, copies, restarted, folder, noted } = await scene(t);
  await copies.start(wanted(`${folder}/a.img`, { staged: true, name: "one" }));
  await copies.start(wanted(`${folder}/b.img`, { staged: true, name: "two" }));
  const staged = await noted();
  volume.isBroken = true;
  await t.throwsAsync(copies.release(), { code: "ESNAPSHOT" });
  t.deepEqual(await noted(), staged);
  t.deepEqual(await readdir(folder), []);
  volume.isBroken = false;
  const next = await restarted();
  t.like(await next.release(), { name: "one", destinations: [`${folder}/a.img`, `${folder}/b.img`] });
  await complete(next);
  t.deepEqual(
    (await noted()).map(({ name }) => name),
    ["one"],
  );
  t.deepEqual(await readFile(`${folder}/b.img`), Buffer.from(volume.content));
});

test("of several volumes: it is of the moment it was taken, and changes nothing before it is kept", async (t) => {
  const { volume, copies, group, folder, noted } = await scene(t);
  await writeFile(`${folder}/old.img`, "what was there");
  const both = { name: "night", destinations: [`${folder}/new.img`, `${folder}/old.img`], force: true };
  const ticket = await copies.prepare(wanted("", both));
  await t.throwsAsync(copies.start(wanted(`${folder}/a.img`)), {
    code: "EBUSY",
    message: /Copy job "night" of volume/,
  });
  await t.throwsAsync(copies.prepare(wanted(`${folder}/a.img`)), { code: "EBUSY" });
  await group.hold(ticket);
  volume.content.fill(7);
  t.like(await group.take(ticket, 1_772_366_400_000), { name: "night", created: "2026-03-01T12:00:00.000Z" });
  volume.content.fill(9);
  t.is(await readFile(`${folder}/old.img`, "utf8"), "what was there");
  t.deepEqual(copies.list(), []);
  await group.finish(ticket, true);
  await complete(copies);
  for (const name of ["new", "old"]) t.true((await readFile(`${folder}/${name}.img`)).every((byte) => byte === 7));
  t.like((await noted())[0], { name: "night", state: "complete", createdMs: 1_772_366_400_000 });
});

test("of several volumes: where another cannot, there is no record, no point, and no file that was not there", async (t) => {
  const { volume, copies, group, folder, noted } = await scene(t);
  await writeFile(`${folder}/old.img`, "what was there");
  for (const steps of [0, 1, 2]) {
    const both = { destinations: [`${folder}/new.img`, `${folder}/old.img`], force: true };
    const ticket = await copies.prepare(wanted("", both));
    if (steps > 0) await group.hold(ticket);
    if (steps > 1) await group.take(ticket, 0);
    await group.finish(ticket, false);
    t.deepEqual(copies.list(), []);
    t.deepEqual(await noted(), []);
    t.is(volume.shown.size, 0);
    t.deepEqual(await readdir(folder), ["old.img"]);
    t.is(await readFile(`${folder}/old.img`, "utf8"), "what was there");
  }
  await t.throwsAsync(copies.prepare(wanted(`${folder}/old.img`)), { code: "EEXIST" });
  await t.throwsAsync(copies.prepare(wanted(`${folder}/a.img`, { staged: true })), { code: "EUSAGE" });
  await copies.start(wanted(`${folder}/a.img`));
  await complete(copies);
});

test("the next daemon tells of what cannot go on, and drops what has no record", async (t) => {
  const { volume, records, restarted, folder } = await scene(t);
  const begun = async (name: string): Promise<void> => {
    const record = newRecord(name, wanted(`${folder}/${name}.img`), volume);
    await writeFile(`${folder}/${name}.img`, "");
    await truncate(`${folder}/${name}.img`, SIZE);
    const { epoch } = await volume.take(name, 0);
    await records.save({
      ...record,
      state: "running",
      epoch,
      copied: record.copied.map((_, at) => (at === 0 ? 1 : 0)),
    });
  };
  await begun("gone");
  await begun("cut");
  await volume.drop(1);
  await truncate(`${folder}/cut.img`, 100);
  await volume.take("stray", 0);
  const next = await restarted();
  t.deepEqual(
    next.list().map(({ name, state, error }) => [name, state, error]),
    [
      ["cut", "failed", `Destination ${folder}/cut.img is not as it was left: wanted ${SIZE} bytes`],
      ["gone", "failed", "its point is gone"],
    ],
  );
  t.deepEqual(
    (await volume.points()).map(({ name }) => name),
    ["cut"],
  );
});
