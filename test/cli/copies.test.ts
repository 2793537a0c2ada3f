/** `sluice copy start` of several volumes as a process, over volumes that are none: its folders are real. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { SampleVolume } from "../control/sample.ts";
import { places, type Places } from "./command.ts";

interface Scene extends Places {
  readonly data: SampleVolume;
  readonly log: SampleVolume;
  readonly folder: string;
}

async function scene(t: ExecutionContext): Promise<Scene> {
  const found = await places(t);
  const folder = await mkdtemp(`${tmpdir()}/sluice-`);
  t.teardown(() => rm(folder, { recursive: true }));
  const [data, log] = [new SampleVolume(), new SampleVolume()];
  for (const [name, volume] of Object.entries({ data, log })) {
    const server = await serveApi(`${found.runtime}/${name}.sock`, volume);
    t.teardown(() => server.close());
  }
  return { ...found, data, log, folder };
}

test("several volumes: a file of each in each folder, which is made where its name ends with a slash", async (t) => {
  const { run, data, log, folder } = await scene(t);
  const done = await run("copy", "start", "data,log", folder, `${folder}/night/`, "--as", "night", "--json");
  t.deepEqual(
    (JSON.parse(done.stdout) as { volume: string }[]).map(({ volume }) => volume),
    ["data", "log"],
  );
  t.is(data.calls[0], `prepare night to ${folder}/data.img ${folder}/night/data.img`);
  t.is(log.calls[0], `prepare night to ${folder}/log.img ${folder}/night/log.img`);
  t.deepEqual(await readdir(folder), ["night"]);
  const stream = await run("copy", "start", "data,log", folder, "--stream");
  t.regex(stream.stdout, /^VOLUME +COPY .*\ndata .*\nlog /);
  t.is(data.calls.at(-4), `prepare copy-2 to ${folder}/data.sluice`);
});

test("what cannot be of several volumes is said, and nothing is asked or made", async (t) => {
  const { run, data, log, folder } = await scene(t);
  await writeFile(`${folder}/file`, "");
  for (const [words, said] of [
    [["data,log", `${folder}/file`], /file is no folder: .* end its name with "\/"/],
    [["data,log", `${folder}/none`, `${folder}/night/`], /none is no folder/],
    [["data,log", "/dev/stdout", "--stream"], /\/dev\/stdout is no folder/],
    [["data,log", folder, "--stage"], /--stage is for one volume/],
    [["data,data", folder], /volume data is named twice/],
  ] as const) {
    const { status, stderr } = await run("copy", "start", ...words);
    t.is(status, 2, stderr);
    t.regex(stderr, said);
  }
  t.deepEqual([...data.calls, ...log.calls], []);
  t.deepEqual(await readdir(folder), ["file"]);
});

test("where one volume cannot, the folder that was made goes again", async (t) => {
  const { run, data, log, folder } = await scene(t);
  log.whenCalled = () => {
    throw new UblkError("ELIMIT", "Volume log has 3 copy jobs under way");
  };
  const { status, stderr } = await run("copy", "start", "data,log", `${folder}/night/`);
  t.is(status, 1);
  t.is(stderr, 'sluice: No copy job "copy-2": Volume log has 3 copy jobs under way\n');
  t.deepEqual(data.calls.slice(1), ["undo ticket"]);
  t.deepEqual(await readdir(folder), []);
});

test("one volume is as it was: its destinations are no folders", async (t) => {
  const { run, data, folder } = await scene(t);
  t.is((await run("copy", "start", "data", `${folder}/a.img`)).status, 0);
  t.regex(data.calls[0] ?? "", new RegExp(`^copy undefined to ${folder}/a.img `));
});
