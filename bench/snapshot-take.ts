/**
 * How long writes are held while a snapshot of a sparse volume of 16 TiB is taken under load, on this machine and without a
 * guest: the targets of a volume on their real ring, over a sparse file and a store in the folder for temporary files. What
 * writes wait for the taking is told apart from what the first overwrites cost that follow it.
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CowCounts } from "../src/targets/cow/cow-counts.ts";
import type { CowTarget } from "../src/targets/cow/cow-target.ts";
import { openFileBacking, type FileBacking } from "../src/targets/file-backing.ts";
import { openCopying } from "../src/targets/stack.ts";
import { createStoreBacking, openStoreBacking, type StoreBacking } from "../src/targets/store-backing.ts";
import { Ring } from "../src/ublk/ring.ts";
import type { QueueContext } from "../src/ublk/target.ts";
import { saveResult } from "./guest-run.ts";
import { HostWrites } from "./native/host-writes.ts";
import { Random } from "./record/random.ts";
import { median } from "./report.ts";

const BLOCK_BYTES = 64 * 1024;
/** A little less than 16 TiB, which is more than a file of ext4 can have. */
const VOLUME_BYTES = 16 * 2 ** 40 - 2 * 2 ** 30;
const STORE_BYTES = 2 ** 30;
const WRITE_BYTES = 4096;
const SECTOR_BYTES = 512;
const DEPTH = 32;
/** Places that are written to, all over the volume, and have their room in the file. */
const PLACES = 8192;
const SNAPSHOTS = 40;
/** Of load, before each snapshot. */
const QUIET_MS = 200;
/** What must be reached. */
const HELD_MS = 10;
const OWNER = { volume: "bench", mark: 1n };

/** One snapshot; milliseconds. */
export interface Taking {
  /** Until originals were moved for it: no write that needed one went on before. */
  readonly heldMs: number;
  /** Until it was durable. */
  readonly takenMs: number;
  /** The longest that a write took, of those that were under way meanwhile, and in as long a time before. */
  readonly longestMs: number;
  readonly longestBeforeMs: number;
}

/** The targets of a volume in their ring, under a load of random writes that never pauses. */
class LoadedVolume implements Disposable {
  readonly #ring = new Ring({ entries: 1024, singleThread: true });
  readonly #host = new HostWrites(DEPTH, WRITE_BYTES);
  readonly #batchEnds: (() => void)[] = [];
  readonly #random = new Random(1);
  readonly counts = new CowCounts();
  readonly target: CowTarget;
  /** Of the writes that have ended: when they were begun, and when they ended. */
  readonly writes: [beganMs: number, endedMs: number][] = [];
  /** Called when the targets have had the end of their batch, before the kernel is entered. */
  whenBatchEnds = (): void => undefined;
  #nextPlace = 0;

  constructor(volume: FileBacking, store: StoreBacking, lossNotePath: string) {
    const files: number[] = [];
    const context: QueueContext = {
      device: 0,
      queue: 0,
      limits: volume.limits,
      depth: DEPTH,
      ring: this.#ring,
      useFile: (fd) => files.push(fd) - 1,
      afterBatch: (callback) => void this.#batchEnds.push(callback),
    };
    const cow = {
      fd: store.fd,
      plainFd: store.plainFd,
      owner: OWNER,
      volumeBytes: VOLUME_BYTES,
      blockBytes: BLOCK_BYTES,
      fullPolicy: "stall" as const,
      lossNotePath,
      counts: this.counts.shared,
    };
    const bottom = { kind: "file" as const, ...volume.options };
    this.target = openCopying({ bottom, record: null, mirror: null, cow, filters: [] }, cow, context).target;
    this.#ring.registerFiles(files);
    this.#host.whenEnded = (beganMs, endedMs) => void this.writes.push([beganMs, endedMs]);
  }

  get oldestBeganMs(): number {
    return this.#host.oldestBeganMs;
  }

  /** Every place has been written to once when this returns. */
  fill(): void {
    while (this.#nextPlace < PLACES) this.turn(() => this.#nextPlace++ % PLACES);
  }

  turn(nextPlace = (): number => this.#random.below(PLACES)): void {
    const offsetOf = (place: number): number => place * Math.floor(VOLUME_BYTES / BLOCK_BYTES / PLACES) * BLOCK_BYTES;
    this.#host.begin(this.target, DEPTH, () => offsetOf(nextPlace()));
    for (const endBatch of this.#batchEnds) endBatch();
    this.whenBatchEnds();
    this.#ring.submitAndWait();
    this.#ring.reap();
  }

  [Symbol.dispose](): void {
    this.target.close();
    this.#ring[Symbol.dispose]();
    this.#host[Symbol.dispose]();
  }
}

function longest(writes: LoadedVolume["writes"], fromMs: number, toMs: number): number {
  const then = writes.filter(([beganMs, endedMs]) => beganMs < toMs && endedMs > fromMs);
  return then.reduce((most, [beganMs, endedMs]) => Math.max(most, endedMs - beganMs), 0);
}

function take(volume: LoadedVolume, name: string): Taking {
  const { target, counts, writes } = volume;
  writes.length = 0;
  const quietMs = performance.now();
  while (performance.now() - quietMs < QUIET_MS) volume.turn();

  const read = (): number => counts.read().readBytes;
  const before = read();
  const startMs = performance.now();
  let epoch = 0;
  target.takePoint("snapshot", name, Date.now(), (result) => {
    if (typeof result === "number") throw new Error(`no snapshot was taken: ${result}`);
    epoch = result.epoch;
  });
  let movingMs = NaN;
  volume.whenBatchEnds = () => {
    if (Number.isNaN(movingMs) && read() > before) movingMs = performance.now();
  };
  while (epoch === 0 || Number.isNaN(movingMs)) volume.turn();
  const takenMs = performance.now();
  // Those that were under way to the end have to end.
  while (volume.oldestBeganMs < takenMs) volume.turn();

  const lastsMs = takenMs - startMs;
  const taking = {
    heldMs: movingMs - startMs,
    takenMs: lastsMs,
    longestMs: longest(writes, startMs, takenMs),
    longestBeforeMs: longest(writes, startMs - lastsMs, startMs),
  };
  target.dropPoint(epoch, () => undefined);
  while (target.leaving.length > 0 || target.versions > 0) volume.turn();
  return taking;
}

async function measure(folder: string): Promise<Taking[]> {
  const path = join(folder, "volume");
  const file = await open(path, "w");
  await file.truncate(VOLUME_BYTES);
  await file.close();
  const storePath = join(folder, "store");
  await createStoreBacking(storePath, OWNER, { sizeBytes: STORE_BYTES, blockBytes: BLOCK_BYTES });
  await using store = await openStoreBacking(storePath, OWNER, 0);
  const backing = { path, sizeBytes: null, logicalBlockBytes: SECTOR_BYTES, readOnly: false, lockWaitMs: 0 };
  await using opened = new AsyncDisposableStack();
  const volumeFile = await openFileBacking(backing);
  opened.use(volumeFile.handle);
  using volume = new LoadedVolume(volumeFile, store, join(folder, "lost"));
  volume.fill();
  // What the first ones bring, such as compiled code, is not counted.
  take(volume, "warm");
  return Array.from({ length: SNAPSHOTS }, (_, number) => take(volume, `s${number}`));
}

export async function snapshotTake(): Promise<{ result: unknown; text: string }> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  try {
    const takings = await measure(folder);
    const of = (key: keyof Taking): number[] => takings.map((taking) => taking[key]);
    const summary = (key: keyof Taking): { median: number; most: number } => ({
      median: median(of(key)),
      most: Math.max(...of(key)),
    });
    const result = {
      held: summary("heldMs"),
      taken: summary("takenMs"),
      longest: summary("longestMs"),
      longestBefore: summary("longestBeforeMs"),
    };
    const saved = await saveResult("snapshot-take", { ...result, takings });
    const ms = ({ median, most }: { median: number; most: number }): string =>
      `${median.toFixed(2)} ms (most: ${most.toFixed(2)})`;
    const text = [
      `${SNAPSHOTS} snapshots of a sparse volume of 16 TiB on this machine, one at a time, while random 4 KiB are written at depth ${DEPTH};`,
      "medians. First overwrites move blocks of 64 KiB.",
      `${result.held.most <= HELD_MS ? "reached" : "NOT REACHED"}: writes held by the taking at most ${HELD_MS} ms: ${ms(result.held)}`,
      `the snapshot was durable after ${ms(result.taken)}`,
      `the longest write meanwhile, a first overwrite with its original: ${ms(result.longest)}`,
      `the longest write in as long a time before: ${ms(result.longestBefore)}`,
      `Saved as ${saved}`,
    ];
    return { result, text: text.join("\n") };
  } finally {
    await rm(folder, { recursive: true });
  }
}
