/** Files, devices and pipes that copies are in: opened by one at a time, and unchanged by being opened. */
import { execFileSync } from "node:child_process";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type ExecutionContext } from "ava";
import { openImage } from "../../src/copy/file-destination.ts";
import { openToRead, openToWrite, STREAM_KINDS, type DestinationUse } from "../../src/copy/open-copy.ts";

async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(`${tmpdir()}/sluice-`);
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

test("what is opened to be written to is nobody else's, and read by anybody", async (t) => {
  const path = `${await folder(t)}/image`;
  await using opened = await openToWrite(path, "new");
  t.is(opened.kind, "file");
  for (const use of ["replace", "resume"] as const) {
    await t.throwsAsync(openToWrite(path, use), { code: "EBUSY", message: `${path} is in use by another sluice` });
  }
  await using read = await openToRead(path);
  t.is(read.file.sizeBytes, 0);
});

test("opening changes nothing; only beginning does", async (t) => {
  const path = `${await folder(t)}/image`;
  await writeFile(path, "what was there");
  const refused = { code: "EEXIST", message: `${path} exists already: name another, or overwrite it with --force` };
  await t.throwsAsync(openImage(path, 4096, "new"), refused);
  const opened = await openImage(path, 4096, "replace");
  t.is(await readFile(path, "utf8"), "what was there");
  await opened.takeBack();
  t.is(await readFile(path, "utf8"), "what was there", "it was not made by being opened");
  const again = await openImage(path, 4096, "replace");
  await again.begin();
  await again[Symbol.asyncDispose]();
  t.deepEqual(await readFile(path), Buffer.alloc(4096));
  const resumed = await openImage(path, 4096, "resume");
  await t.notThrowsAsync(resumed.goOn());
  await resumed[Symbol.asyncDispose]();
  const other = await openImage(path, 8192, "resume");
  await t.throwsAsync(other.goOn(), { code: "ESIZE", message: /not as it was left/ });
  await other[Symbol.asyncDispose]();
});

test("a file that was made for nothing goes again", async (t) => {
  const path = `${await folder(t)}/image`;
  for (const use of ["new", "replace"] as const) {
    await (await openImage(path, 4096, use)).takeBack();
    await t.throwsAsync(access(path), { code: "ENOENT" });
  }
});

test("what is not there, or cannot be written to, is said in the same words", async (t) => {
  const directory = await folder(t);
  const uses: readonly DestinationUse[] = ["new", "replace", "resume"];
  for (const use of uses) {
    await t.throwsAsync(openToWrite("/dev/none", use), { code: "ENOENT", message: /^Cannot open \/dev\/none: / });
    await t.throwsAsync(openToWrite(`${directory}/none/image`, use), { code: "ENOENT", message: /^Cannot open / });
    await t.throwsAsync(openToWrite("/dev/null", use), {
      code: "EINVAL",
      message: "/dev/null is neither a regular file nor a block device",
    });
    await t.throwsAsync(openToWrite("/dev/null", use, STREAM_KINDS), { message: /neither a regular file nor a pipe/ });
  }
  await t.throwsAsync(openToRead(directory), { code: "EINVAL", message: /neither a regular file/ });
});

test("a pipe is for streams, and is not gone on with", async (t) => {
  const path = `${await folder(t)}/pipe`;
  execFileSync("mkfifo", [path]);
  await t.throwsAsync(openToWrite(path, "new"), { code: "EINVAL", message: /neither a regular file nor a block dev/ });
  await t.throwsAsync(openToWrite(path, "resume", STREAM_KINDS), { code: "EPIPE", message: /cannot be gone on with/ });
});
