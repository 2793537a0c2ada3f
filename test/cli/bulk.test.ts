/** `sluice bulk` as a process, over a volume that is none: its files are real. */
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Readable } from "node:stream";
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import { originalsStream, type OriginalsSource } from "../../src/copy/originals-stream.ts";
import { sampleBulk, SampleVolume } from "../control/sample.ts";
import { places, type Places } from "./command.ts";

const MIB = 2 ** 20;
const VOLUME = 3 * MIB;
const WAS = new Uint8Array(VOLUME).map((_, index) => index % 253);
const RANGES = [{ offset: MIB - 4096, length: MIB }];
const COPIED = WAS.slice().fill(0, MIB - 4096, 2 * MIB - 4096);
const SOURCE: OriginalsSource = {
  start: {
    stream: Buffer.from(sampleBulk.stream, "hex"),
    volume: "data",
    volumeBytes: VOLUME,
    createdMs: 1_700_000_000_000,
    content: "originals",
  },
  ranges: RANGES,
  read: (ranges, into) => {
    into.set(Buffer.concat(ranges.map(({ offset, length }) => WAS.subarray(offset, offset + length))));
    return Promise.resolve();
  },
};

interface Bulk extends Places {
  readonly volume: SampleVolume;
  readonly image: string;
  readonly directory: string;
}

async function bulk(t: ExecutionContext): Promise<Bulk> {
  const found = await places(t);
  const directory = await mkdtemp(`${tmpdir()}/sluice-`);
  t.teardown(() => rm(directory, { recursive: true }));
  const volume = new SampleVolume();
  volume.bulkStatus = { ...sampleBulk, sizeBytes: VOLUME, originalBytes: MIB };
  volume.originals = (recordBytes, from) => originalsStream(SOURCE, recordBytes, from);
  const server = await serveApi(`${found.runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  const image = `${directory}/image`;
  await writeFile(image, COPIED);
  return { ...found, volume, image, directory };
}

test("status, and what is wrong usage", async (t) => {
  const { run } = await bulk(t);
  t.regex((await run("bulk", "status", "data")).stdout, /^state +copying: /);
  t.like(JSON.parse((await run("bulk", "mark", "data", "--json")).stdout), { state: "marked" });
  const usage = await run("bulk", "finish", "data");
  for (const range of ["5", "1MiB+0", "1+2+3", "x+1"]) {
    const { status, stderr } = await run("bulk", "begin", "data", "--range", range);
    t.is(status, 2);
    t.regex(stderr, /wanted a range such as 10GiB\+512MiB/);
  }
  t.is(usage.status, 2);
  t.regex(usage.stderr, /--overlay DEST or --append FILE/);
  t.is((await run("bulk", "finish", "data", "--append", "x", "--record", "5000")).status, 2);
});

test("a copy of parts of a volume: as many ranges as are given, before the name or behind it", async (t) => {
  const { run, volume } = await bulk(t);
  const { stdout } = await run("bulk", "begin", "--range", "1MiB+4KiB", "data", "--range", "0+512");
  t.is(volume.calls.at(-1), "bulk begin 1048576+4096 0+512");
  t.regex(stdout, /^of it +4\.5KiB in 2 ranges$/m);
  t.notRegex((await run("bulk", "begin", "data")).stdout, /of it/);
  t.is(volume.calls.at(-1), "bulk begin");
});

test("finish --overlay makes the copy what the volume was, then drops the originals", async (t) => {
  const { run, volume, image } = await bulk(t);
  const { status, stdout } = await run("bulk", "finish", "data", "--overlay", image);
  t.is(status, 0);
  t.is(stdout, `1MiB of originals overlaid on ${image}\n`);
  t.is(Buffer.compare(await readFile(image), WAS), 0);
  t.deepEqual(volume.calls, ["bulk", "bulk end-cow", "bulk originals 1048576 0", `bulk drop ${sampleBulk.stream}`]);
});

test("a copy that is too small is refused before anything is marked", async (t) => {
  const { run, volume, image } = await bulk(t);
  await truncate(image, VOLUME - 1);
  const { status, stderr } = await run("bulk", "finish", "data", "--overlay", image);
  t.is(status, 1);
  t.is(stderr, `sluice: ${image} has 3145727 bytes, less than the 3145728 of the volume\n`);
  t.regex((await run("bulk", "finish", "data", "--append", image)).stderr, /wanted an image of all of it/);
  t.regex((await run("bulk", "finish", "data", "--append", `${image}2`)).stderr, /Cannot open .*ENOENT/);
  t.deepEqual([...new Set(volume.calls)], ["bulk"]);
});

test("finish --append, interrupted and asked for again, then restore, again and over something else", async (t) => {
  const { run, volume, image, directory } = await bulk(t);
  const all = volume.originals;
  volume.originals = (recordBytes, from) =>
    Readable.from(
      (async function* () {
        for await (const record of all(recordBytes, from)) {
          yield record.subarray(0, 2000);
          if (from === 0) throw new Error("the volume is gone");
        }
      })(),
    );
  t.regex((await run("bulk", "finish", "data", "--append", image, "--record", "64KiB")).stderr, /the volume is gone/);
  t.notRegex(volume.calls.join(), /drop/);
  const to = `${directory}/restored`;
  t.regex((await run("bulk", "restore", image, to)).stderr, /has no originals at its end/);
  volume.originals = all;
  t.is((await run("bulk", "finish", "data", "--append", image, "--record", "64KiB")).status, 0);
  t.is(volume.calls.at(-1), `bulk drop ${sampleBulk.stream}`);

  const restored = await run("bulk", "restore", image, to);
  t.is(restored.stdout, `${to} is what data was at 2023-11-14T22:13:20.000Z: 3MiB of 3MiB had to be written\n`);
  t.is(Buffer.compare(await readFile(to), WAS), 0);
  t.regex((await run("bulk", "restore", image, to)).stderr, /restored exists already: .*--force/);
  const again = await run("bulk", "restore", image, to, "--force", "--json");
  t.like(JSON.parse(again.stdout), { writtenBytes: 0, bytes: VOLUME });
  // What is left of a restore that was interrupted.
  await writeFile(`${directory}/second.sluice-restore`, WAS.subarray(0, 4096));
  t.like(JSON.parse((await run("bulk", "restore", image, `${directory}/second`, "--json")).stdout), {
    writtenBytes: VOLUME,
  });
  t.is(Buffer.compare(await readFile(`${directory}/second`), WAS), 0);
  t.regex((await run("bulk", "restore", image, image)).stderr, /is the file itself/);
  t.regex((await run("bulk", "restore", image, "/dev/none")).stderr, /Cannot open \/dev\/none/);
});

test("a stream that ends too early is an error, and the originals stay", async (t) => {
  const { run, volume, image } = await bulk(t);
  volume.originals = (recordBytes, from) => Readable.from(originalsStream(SOURCE, recordBytes, from)).take(2);
  const { status, stderr } = await run("bulk", "finish", "data", "--overlay", image);
  t.is(status, 1);
  t.regex(stderr, /record 2 \(byte 2097152\): the stream is cut: it has no end record/);
  t.notRegex(volume.calls.join(), /drop/);
});

test("a volume that does not run is said", async (t) => {
  const { run } = await places(t);
  t.regex((await run("bulk", "status", "data")).stderr, /is not running/);
});
