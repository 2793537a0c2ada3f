/** A copy as a stream in a file: written, interrupted, gone on with, checked and restored. */
import { appendFile, mkdtemp, readFile, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { checkStream, restoreStream } from "../../src/cli/copy-stream.ts";
import type { CopyDestination } from "../../src/copy/copy-job.ts";
import { openStream, type StreamDestination } from "../../src/copy/stream-destination.ts";

const RECORD_BYTES = 4096;
const VOLUME_BYTES = 20_000;
const START = {
  stream: Uint8Array.from({ length: 16 }, (_, index) => index),
  volume: "data",
  volumeBytes: VOLUME_BYTES,
  createdMs: 1_772_366_400_000,
  content: "copy",
} as const;
const CONTENT = Uint8Array.from({ length: VOLUME_BYTES }, (_, index) => (index * 7) % 251);
const NOTHING = { records: 0, payloadBytes: 0 };

const done = (action: (ended: (error: Error | undefined) => void) => void): Promise<void> =>
  new Promise((resolve, reject) => action((error) => (error === undefined ? resolve() : reject(error))));
const write = (to: CopyDestination, offset: number, length: number): Promise<void> =>
  done((ended) => to.write(offset, CONTENT.subarray(offset, offset + length), ended));
const place = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), "sluice-")), "stream");

async function whole(path: string): Promise<StreamDestination> {
  const to = await openStream(path, "new", START, RECORD_BYTES, NOTHING);
  await to.begin(START.createdMs);
  await write(to, 10_000, 10_000);
  await write(to, 0, 10_000);
  await done((ended) => to.finish(ended));
  return to;
}

test("what is written in any order is restored in its places", async (t) => {
  const path = await place();
  await (await whole(path))[Symbol.asyncDispose]();
  t.is((await readFile(path)).length % RECORD_BYTES, 0);
  const found = await checkStream(path);
  t.like(found, { volume: "data", volumeBytes: VOLUME_BYTES, recordBytes: RECORD_BYTES });
  await restoreStream(path, `${path}.restored`, false);
  t.deepEqual(new Uint8Array(await readFile(`${path}.restored`)), CONTENT);
});

test("a later process cuts off what is behind the mark, and goes on", async (t) => {
  const path = await place();
  const first = await openStream(path, "new", START, RECORD_BYTES, NOTHING);
  await first.begin(START.createdMs);
  await write(first, 0, 8_000);
  await done((ended) => first.sync(ended));
  const { mark } = first;
  t.deepEqual(mark, { records: 4, payloadBytes: 8_000 });
  await write(first, 8_000, 4_000);
  await first[Symbol.asyncDispose]();
  await appendFile(path, "half a rec");
  const second = await openStream(path, "resume", START, RECORD_BYTES, mark);
  await second.goOn();
  await write(second, 8_000, 12_000);
  await done((ended) => second.finish(ended));
  await second[Symbol.asyncDispose]();
  await restoreStream(path, `${path}.restored`, false);
  t.deepEqual(new Uint8Array(await readFile(`${path}.restored`)), CONTENT);
  // A stream that lost what was durable cannot go on.
  await truncate(path, 100);
  await using third = await openStream(path, "resume", START, RECORD_BYTES, mark);
  await t.throwsAsync(third.goOn(), { code: "ESIZE" });
});

test("a stream that is cut, damaged, or lacks a part of the volume is refused, and nothing is overwritten unasked", async (t) => {
  const path = await place();
  const to = await whole(path);
  await t.throwsAsync(openStream(path, "new", START, RECORD_BYTES, NOTHING), {
    code: "EEXIST",
    message: /--force/,
  });
  await t.throwsAsync(openStream(path, "replace", START, RECORD_BYTES, NOTHING), { code: "EBUSY" });
  await to[Symbol.asyncDispose]();
  const bytes = await readFile(path);
  const changed = Buffer.from(bytes);
  changed[2 * RECORD_BYTES + 999] = (changed[2 * RECORD_BYTES + 999] as number) ^ 1;
  await writeFile(path, changed);
  await t.throwsAsync(checkStream(path), { code: "ESTREAM", message: /record 2/ });
  await writeFile(path, bytes.subarray(0, bytes.length - RECORD_BYTES));
  await t.throwsAsync(checkStream(path), { code: "ESTREAM", message: /no end record/ });
  const short = await openStream(path, "replace", START, RECORD_BYTES, NOTHING);
  await short.begin(START.createdMs);
  await write(short, 0, 9_000);
  await done((ended) => short.finish(ended));
  await short[Symbol.asyncDispose]();
  await t.throwsAsync(checkStream(path), { code: "ESTREAM", message: /less than the volume/ });
});
