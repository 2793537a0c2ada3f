/** What a restore writes to: no file is overwritten unasked, and one that was interrupted is gone on with. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type ExecutionContext } from "ava";
import { openRestoreTarget } from "../../src/copy/restore-target.ts";

async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(`${tmpdir()}/sluice-`);
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

test("a new file has its name when it is whole, and not before", async (t) => {
  const directory = await folder(t);
  {
    await using to = await openRestoreTarget(`${directory}/image`, false);
    to.fit(8);
    to.file.write(0, Buffer.from("half"));
    t.deepEqual(await readdir(directory), ["image.sluice-restore"]);
    await t.throwsAsync(openRestoreTarget(`${directory}/image`, false), { code: "EBUSY" });
  }
  {
    await using to = await openRestoreTarget(`${directory}/image`, false);
    t.is(Buffer.from(to.file.read(0, 4)).toString(), "half", "it goes on with what is there");
    to.fit(6);
    to.file.write(4, Buffer.from("er"));
    await to.finish();
  }
  t.deepEqual(await readdir(directory), ["image"]);
  t.is(await readFile(`${directory}/image`, "utf8"), "halfer");
});

test("a file that is there is refused, unless it is to be overwritten", async (t) => {
  const directory = await folder(t);
  const path = `${directory}/image`;
  await writeFile(path, "what was there");
  await t.throwsAsync(openRestoreTarget(path, false), { code: "EEXIST", message: /image exists already: .*--force/ });
  t.is(await readFile(path, "utf8"), "what was there");
  {
    await using to = await openRestoreTarget(path, true);
    to.fit(4);
    await to.finish();
  }
  t.is(await readFile(path, "utf8"), "what");
  t.deepEqual(await readdir(directory), ["image"]);
});

test("a file that has come meanwhile is not overwritten either", async (t) => {
  const directory = await folder(t);
  await using to = await openRestoreTarget(`${directory}/image`, true);
  to.fit(4);
  await writeFile(`${directory}/image`, "another's");
  await t.throwsAsync(to.finish(), { code: "EEXIST" });
  t.is(await readFile(`${directory}/image`, "utf8"), "another's");
});

test("a restore that could not begin leaves nothing", async (t) => {
  const directory = await folder(t);
  await (await openRestoreTarget(`${directory}/image`, false))[Symbol.asyncDispose]();
  t.deepEqual(await readdir(directory), []);
  await t.throwsAsync(openRestoreTarget("/dev/none", false), { code: "ENOENT", message: /Cannot open \/dev\/none/ });
});
