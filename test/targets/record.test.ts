/** A record over a file target, on real files of this machine. */
import type { PredictiveRecord } from "../../src/nvram/record.ts";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { StandInDrain } from "../../src/nvram/drain.ts";
import { FilePersistence } from "../../src/nvram/file-persistence.ts";
import { createNvram, openNvram } from "../../src/nvram/nvram-file.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { memoryLimits } from "../../src/targets/memory.ts";
import { ByteFile } from "../../src/targets/byte-file.ts";
import { belowRecord, openRecord, type BelowRecord, type OpenRecord } from "../../src/targets/open-record.ts";
import { SingleQueue } from "./single-queue.ts";

const CHUNK = 65_536;
const CHUNKS = 4096;
const OWNER = { volume: "data", mark: 1n, volumeBytes: CHUNKS * CHUNK };

test("misses of one batch share one update, and their data come after it; hits need none", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-record-"));
  await writeFile(join(folder, "data"), "");
  await writeFile(join(folder, "nvram"), "");
  await using data = await open(join(folder, "data"), "r+");
  await using nvram = await open(join(folder, "nvram"), "r+");
  await data.truncate(OWNER.volumeBytes);
  const storage = new ByteFile(nvram.fd);
  createNvram(storage, OWNER, { chunkBytes: CHUNK, salt: 9, inSync: true });
  const place = openNvram(storage, OWNER);
  {
    using queue = new SingleQueue(memoryLimits(OWNER.volumeBytes, 512, false));
    let opened: OpenRecord | undefined;
    queue.open((context) => {
      const options = { fd: data.fd, isBlockDevice: false, punchesHoles: true, zeroesRanges: true };
      const file = new FileTarget(options, belowRecord(context));
      const content = storage.read(place.offset, place.lengthBytes);
      const persistence = new FilePersistence(context.ring, context.useFile(nvram.fd), place.offset, content);
      const setup = { place, limitChunks: 1024 };
      const openBelow = ({ places }: PredictiveRecord): BelowRecord => ({
        drain: new StandInDrain(places),
        next: file,
      });
      opened = openRecord(setup, persistence, openBelow, context);
      return opened.target;
    });
    const counts = (): { updates: number; held: number } => (opened as OpenRecord).record.counts.read();
    // Far apart, and in no order: none is predicted from another.
    const chunks = queue.requests.map(({ slot }) => ((slot * 2731 + 17) % CHUNKS) & ~63);
    const write = (slot: number): void => {
      queue.submit(slot, {
        operation: "WRITE",
        offset: (chunks[slot] as number) * CHUNK,
        data: new Uint8Array(512).fill(7),
      });
    };
    for (const { slot } of queue.requests) write(slot);
    t.is(counts().updates, 0, "nothing before the batch has ended");
    queue.endBatch();
    for (const { slot } of queue.requests) t.is(queue.finish(slot), 512);
    t.like(counts(), { updates: 1, held: queue.requests.length });
    for (const { slot } of queue.requests) write(slot);
    for (const { slot } of queue.requests) t.is(queue.finish(slot), 512);
    t.like(counts(), { updates: 1, held: queue.requests.length });
  }
  await rm(folder, { recursive: true });
});
