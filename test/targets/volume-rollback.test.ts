/** A volume is rolled back on real files, by a ring of its own. */
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { CowAnswer, CowOrder } from "../../src/targets/cow/cow-orders.ts";
import { openTarget, type StackOptions } from "../../src/targets/stack.ts";
import { createStoreBacking } from "../../src/targets/store-backing.ts";
import { rollBackVolume } from "../../src/targets/volume-rollback.ts";
import { openVolume, type OpenVolume } from "../../src/targets/volume.ts";
import type { Target } from "../../src/ublk/target.ts";
import { SingleQueue, SLOT_BYTES, type Asked } from "./single-queue.ts";

const SIZE = 16 * SLOT_BYTES;
const OWNER = { volume: "data", mark: 7n };

/** Serves the volume as a device does, for as long as `action` goes on. */
function serving<T>(volume: OpenVolume, action: (queue: SingleQueue, order: (order: CowOrder) => CowAnswer) => T): T {
  using queue = new SingleQueue(volume.limits);
  const target: Target = queue.open((context) => openTarget(volume.source.options as StackOptions, context));
  const order = (wanted: CowOrder): CowAnswer => {
    let found: unknown;
    target.obey?.(wanted, (answer) => (found = answer));
    while (found === undefined) queue.turn();
    return found as CowAnswer;
  };
  return action(queue, order);
}

/** What waits for an original is looked at when the batch is over. */
function ask(queue: SingleQueue, asked: Asked): void {
  queue.submit(0, asked);
  queue.endBatch();
  queue.finish(0);
}

const filled = (byte: number): Uint8Array => new Uint8Array(SLOT_BYTES).fill(byte);
const shown = (queue: SingleQueue): number[] =>
  Array.from({ length: SIZE / SLOT_BYTES }, (_, slot) => {
    const bytes = queue.read(slot * SLOT_BYTES, SLOT_BYTES);
    return bytes.every((byte) => byte === bytes[0]) ? (bytes[0] ?? 0) : NaN;
  });

test("a volume goes back to a snapshot, and forth to a newer one; what is not there changes nothing", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = `${directory}/data.img`;
  const store = `${directory}/data.store`;
  await writeFile(path, "");
  await truncate(path, SIZE);
  await createStoreBacking(store, OWNER, { sizeBytes: 64 * 2 ** 20, blockBytes: 4096 });
  await using volume = await openVolume({
    backing: { kind: "file", path },
    sizeBytes: null,
    logicalBlockBytes: 512,
    readOnly: false,
    record: null,
    mirror: null,
    snapshots: { path: store, fullPolicy: "invalidate", ...OWNER, lossNotePath: `${directory}/lost` },
    filters: [],
  });
  const write = (queue: SingleQueue, slots: readonly number[], byte: number): void => {
    for (const slot of slots) ask(queue, { operation: "WRITE", offset: slot * SLOT_BYTES, data: filled(byte) });
  };
  const [monday, tuesday, atMonday, atTuesday] = serving(volume, (queue, order) => {
    const take = (name: string): number => {
      const answer = order({ kind: "take", point: "snapshot", name, createdMs: 0 });
      return "points" in answer ? (answer.points[0]?.epoch ?? 0) : 0;
    };
    write(queue, [0, 1, 2, 3, 4, 5, 6, 7], 1);
    const first = take("monday");
    const before = shown(queue);
    write(queue, [2, 3, 4, 15], 2);
    const second = take("tuesday");
    const then = shown(queue);
    write(queue, [0, 3, 8], 3);
    ask(queue, { operation: "DISCARD", offset: 5 * SLOT_BYTES, length: SLOT_BYTES });
    return [first, second, before, then] as const;
  });
  const roll = (snapshot: string, epoch: number): unknown =>
    rollBackVolume(volume.source.options as StackOptions, volume.limits, { snapshot, epoch }, () => undefined);
  t.is(roll("monday", monday), "done");
  t.deepEqual(serving(volume, shown), atMonday);
  t.is(roll("tuesday", tuesday), "done");
  t.deepEqual(serving(volume, shown), atTuesday);
  t.like(roll("tuesday", monday), { failed: "impossible" });
  t.deepEqual(serving(volume, shown), atTuesday);
  t.is(roll("monday", monday), "done");
  t.deepEqual(serving(volume, shown), atMonday);
});
