/** The targets that keep bytes, on real files of this machine, against a plain array. */
import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { openFileBacking } from "../../src/targets/file-backing.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { MemoryTarget, memoryLimits } from "../../src/targets/memory.ts";
import { NullTarget, nullLimits } from "../../src/targets/null.ts";
import { openVolume } from "../../src/targets/volume.ts";
import type { BottomOptions } from "../../src/targets/stack.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import type { QueueContext, Target } from "../../src/ublk/target.ts";
import { SingleQueue, type Asked } from "./single-queue.ts";

const BLOCK = 512;
const BLOCKS = 64;
const SIZE = BLOCK * BLOCKS;
const RUNS = 40;

const folder = await mkdtemp(join(tmpdir(), "sluice-targets-"));
test.after.always(() => rm(folder, { recursive: true }));

const limits = memoryLimits(SIZE, BLOCK, false);

/** Runs with the target over a fresh file of zeroes. */
async function overFile(
  make: (fd: number, context: QueueContext) => Target,
  run: (queue: SingleQueue, path: string) => void | Promise<void>,
  flags = "r+",
): Promise<void> {
  const path = join(folder, `store-${Math.random()}`);
  await writeFile(path, new Uint8Array(SIZE));
  const handle = await open(path, flags);
  try {
    using queue = new SingleQueue(limits);
    queue.open((context) => make(handle.fd, context));
    await run(queue, path);
  } finally {
    await handle.close();
    await rm(path);
  }
}

const file =
  (options: { punchesHoles: boolean; zeroesRanges: boolean }) =>
  (fd: number, context: QueueContext): Target =>
    new FileTarget({ fd, isBlockDevice: false, ...options }, context);

const KEEPERS = {
  memory: (fd: number, context: QueueContext): Target => new MemoryTarget({ fd, sizeBytes: SIZE }, context),
  "file with fallocate": file({ punchesHoles: true, zeroesRanges: true }),
  "file that writes its zeroes": file({ punchesHoles: false, zeroesRanges: false }),
};

const range = fc
  .tuple(fc.nat(BLOCKS - 1), fc.integer({ min: 1, max: BLOCKS }))
  .map(([start, count]) => ({ offset: start * BLOCK, length: Math.min(count, BLOCKS - start) * BLOCK }));

const step = fc.oneof(
  fc.record({ operation: fc.constant("WRITE" as const), range, byte: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ operation: fc.constantFrom("READ" as const, "WRITE_ZEROES" as const), range, byte: fc.nat(1) }),
  fc.record({ operation: fc.constant("FLUSH" as const), range, byte: fc.constant(0) }),
);

for (const [name, make] of Object.entries(KEEPERS)) {
  test(`${name}: reads give what was written or zeroed last`, async (t) => {
    const histories = fc.sample(fc.array(step, { minLength: 1, maxLength: 30 }), { numRuns: RUNS, seed: 1 });
    for (const history of histories) {
      await overFile(make, (queue) => {
        const model = new Uint8Array(SIZE);
        for (const { operation, range: at, byte } of history) {
          const { offset, length } = at;
          const [from, to] = [offset, offset + length];
          switch (operation) {
            case "WRITE":
              t.is(queue.ask({ operation, offset, data: new Uint8Array(length).fill(byte) }), length);
              model.fill(byte, from, to);
              break;
            case "WRITE_ZEROES":
              t.is(queue.ask({ operation, offset, length, noUnmap: byte === 1 }), 0);
              model.fill(0, from, to);
              break;
            case "READ":
              t.deepEqual(queue.read(offset, length), model.slice(from, to));
              break;
            case "FLUSH":
              t.is(queue.ask({ operation }), 0);
          }
        }
        t.deepEqual(queue.read(0, SIZE), model);
      });
    }
  });

  test(`${name}: requests in all slots at once are each answered once, with their own bytes`, async (t) => {
    await overFile(make, (queue) => {
      const slots = queue.requests.map(({ slot }) => slot);
      for (const slot of slots)
        queue.submit(slot, { operation: "WRITE", offset: slot * 4096, data: new Uint8Array(4096).fill(slot + 1) });
      for (const slot of slots) t.is(queue.finish(slot), 4096);
      for (const slot of slots) queue.submit(slot, { operation: "READ", offset: slot * 4096, length: 4096 });
      for (const slot of slots) t.is(queue.finish(slot), 4096);
      for (const { slot, buffer } of queue.requests)
        t.true(buffer.subarray(0, 4096).every((byte) => byte === slot + 1));
      t.is(queue.answeredSlots.length, 2 * slots.length);
    });
  });
}

test("a discard gives the space of a file back, zeroes with NO_UNMAP keep it", async (t) => {
  await overFile(KEEPERS["file with fallocate"], async (queue, path) => {
    const blocks = async (): Promise<number> => (await stat(path)).blocks;
    queue.ask({ operation: "WRITE", offset: 0, data: new Uint8Array(SIZE).fill(7) });
    queue.ask({ operation: "FLUSH" });
    const full = await blocks();
    t.is(queue.ask({ operation: "WRITE_ZEROES", offset: 0, length: SIZE, noUnmap: true }), 0);
    t.is(await blocks(), full);
    t.is(queue.ask({ operation: "DISCARD", offset: 0, length: SIZE }), 0);
    t.true((await blocks()) < full);
    t.is((await stat(path)).size, SIZE);
  });
});

test("an errno of the file reaches exactly the request that met it", async (t) => {
  await overFile(
    KEEPERS["file with fallocate"],
    (queue) => {
      queue.submit(1, { operation: "WRITE", offset: 0, data: new Uint8Array(BLOCK) });
      queue.submit(2, { operation: "READ", offset: 0, length: BLOCK });
      queue.submit(3, { operation: "DISCARD", offset: 0, length: BLOCK });
      t.is(queue.finish(1), -ERRNO.EBADF);
      t.is(queue.finish(2), BLOCK);
      t.is(queue.finish(3), -ERRNO.EBADF);
    },
    "r",
  );
});

test("a read beyond the end of a file that has shrunk is an error, not bytes of somebody else", async (t) => {
  await overFile(KEEPERS["file with fallocate"], async (queue, path) => {
    await (await open(path, "r+").then(async (handle) => (await handle.truncate(BLOCK), handle))).close();
    t.is(queue.ask({ operation: "READ", offset: 0, length: 4 * BLOCK }), -ERRNO.EIO);
    t.is(queue.ask({ operation: "READ", offset: 0, length: BLOCK }), BLOCK);
  });
});

test("null answers everything at once", (t) => {
  using queue = new SingleQueue(nullLimits(SIZE, BLOCK, false));
  queue.open(() => new NullTarget());
  const asked: readonly Asked[] = [
    { operation: "READ", length: BLOCK },
    { operation: "WRITE", data: new Uint8Array(BLOCK) },
    { operation: "FLUSH" },
    { operation: "DISCARD", length: SIZE },
    { operation: "WRITE_ZEROES", length: SIZE },
  ];
  t.deepEqual(
    asked.map((each) => queue.ask(each)),
    [BLOCK, BLOCK, 0, 0, 0],
  );
});

test("a store that is open cannot be opened again, by whatever name", async (t) => {
  const path = join(folder, "locked");
  await writeFile(path, new Uint8Array(SIZE));
  const spec = {
    backing: { kind: "file", path },
    sizeBytes: null,
    logicalBlockBytes: BLOCK,
    readOnly: false,
    record: null,
    mirror: null,
    snapshots: null,
    filters: [],
  } as const;
  {
    await using volume = await openVolume(spec);
    t.is(volume.limits.sizeBytes, SIZE);
    t.is((volume.source.options as { bottom: BottomOptions }).bottom.kind, "file");
    await t.throwsAsync(openVolume(spec), { code: "EBUSY" });
  }
  await using again = await openVolume(spec);
  t.is(again.limits.sizeBytes, SIZE);
});

test("a file nearly as large as its file system lets it be can be a store", async (t) => {
  const path = join(folder, "large");
  // The largest that ext4 has, and a little less; another file system has room beyond them as well.
  for (const sizeBytes of [16 * 2 ** 40 - 4096, 16 * 2 ** 40 - 2 ** 20]) {
    await writeFile(path, "");
    await truncate(path, sizeBytes);
    const options = { path, sizeBytes: null, logicalBlockBytes: BLOCK, readOnly: false, lockWaitMs: 0 };
    const backing = await openFileBacking(options);
    t.is(backing.limits.sizeBytes, sizeBytes);
    await backing.handle.close();
    await rm(path);
  }
});
