/**
 * All that keeps a mirrored volume, in the thread of its ring: the image below copy-on-write, the log, and the receiver over both.
 *
 * Invariant: what it begins with is what the log tells. Nothing of the ring is submitted before its files are registered.
 */
import { ByteFile } from "../targets/byte-file.ts";
import type { Point } from "../targets/cow/catalog.ts";
import { FREE_RESERVED, roomBytes } from "../targets/cow/cleaner.ts";
import { CowCounts } from "../targets/cow/cow-counts.ts";
import { belowCow, type CowTarget } from "../targets/cow/cow-target.ts";
import { FileLossNote } from "../targets/cow/loss-note.ts";
import { openCow } from "../targets/cow/open-cow.ts";
import { openStore } from "../targets/cow/store-file.ts";
import { tuningFor } from "../targets/cow/tuning.ts";
import type { ViewBridge } from "../targets/cow/cow-orders.ts";
import { ViewServers } from "../targets/cow/view-server.ts";
import { FileTarget } from "../targets/file.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { UblkError } from "../ublk/errors.ts";
import type { Ring } from "../ublk/ring.ts";
import type { Limits, TargetContext } from "../ublk/target.ts";
import { ApplyGate } from "./apply-gate.ts";
import { FoundLog } from "./found-log.ts";
import { PAYLOAD_MAX } from "./frame.ts";
import type { Generation } from "./generations.ts";
import { COMPARE_READS, ImageComparer } from "./image-comparer.ts";
import { KeptPoints } from "./kept-points.ts";
import { recordBytes } from "./log-record.ts";
import { LogReplay } from "./log-replay.ts";
import { recoverLog } from "./log-recovery.ts";
import { APPLY_WRITES, PointApplier } from "./point-applier.ts";
import { ReceiverLog } from "./receiver-log.ts";
import { Receiver, type CommittedPoint } from "./receiver.ts";
import type { Finished, Kept, KeptPoint, ReceiveWorkerData, Settled } from "./receive-orders.ts";

/** What of it others do with. */
export interface OpenReceiver {
  readonly receiver: Receiver;
  readonly gate: ApplyGate;
  readonly applier: PointApplier;
  readonly replay: LogReplay;
  readonly log: ReceiverLog;
  readonly cow: CowTarget;
  readonly settled: () => Settled;
  readonly status: () => Kept;
  /**
   * Holds a closed point, null for the last one, when the image has been brought to it: KeptPoints.hold. `done` is called with the
   * point, or with why it cannot be: ENOPOINT, ENOENT, EINVALID, ENOSPC where the image waits for room, ECANCELED.
   */
  readonly hold: (point: number | null, done: (held: KeptPoint | UblkError) => void) => void;
  /** Serves a point that is held to the thread of a device. */
  readonly show: (point: number, view: ViewBridge) => void;
  /** A point is not held any more, and no thread of a device asks for it. */
  readonly letGo: (point: number) => void;
  /** Whoever waits for the image to be brought to a point is told ECANCELED. */
  readonly endAwaiting: () => void;
  /** When the receiver has finished. Throws ENOPOINT where there is nothing that the image could be. */
  readonly finished: () => Finished;
  /** To be called after each batch of completions. */
  readonly afterBatch: () => void;
}

/** What is told of the volume while it is opened, and afterwards. */
export type Warn = (message: string) => void;

/** Throws what opening the log and the store throws. */
export function openReceiver(data: ReceiveWorkerData, ring: Ring, warn: Warn): OpenReceiver {
  const { volume, mark, volumeBytes, blockBytes } = data;
  const owner = { volume, mark };
  const files: number[] = [];
  const callbacks: (() => void)[] = [];
  const context: TargetContext = {
    limits: limitsOf(volumeBytes),
    depth: APPLY_WRITES + COMPARE_READS,
    ring,
    useFile: (fd) => files.push(fd) - 1,
    afterBatch: (callback) => void callbacks.push(callback),
  };
  const storeFile = new ByteFile(data.store.plainFd);
  const { layout, salt } = openStore(storeFile, owner);
  const storeGeometry = layout.geometry;
  const tuning = tuningFor(storeGeometry.blockBytes);
  const image = new FileTarget(data.image, belowCow(context, tuning));
  const counts = new CowCounts();
  const lossNote = new FileLossNote(data.lossNotePath, salt);
  const file = context.useFile(data.store.fd);
  const setup = { file, volumeBytes, tuning, fullPolicy: "invalidate", lossNote, counts } as const;
  const cow = openCow(storeFile, owner, setup, image, context);

  const found = new FoundLog();
  const recovered = recoverLog(new ByteFile(data.log.plainFd), owner, found);
  const logGeometry = recovered.superblock.geometry;
  const log = new ReceiverLog(recovered, ring, context.useFile(data.log.fd));
  const state = found.state(log.points, data.base);
  if (log.lostFrom !== 0) warn("its log has lost something that had been durable: the source is asked for it");
  const gate = new ApplyGate(cow);
  const geometry = { volumeSectors: volumeBytes / SECTOR_BYTES, blockSectors: blockBytes / SECTOR_BYTES };
  const { index } = found;
  const recordBytesMax = Math.min(logGeometry.windowBytes, recordBytes(PAYLOAD_MAX, logGeometry.sectorBytes));
  const writing = { log, recordBytesMax, index, image: gate, firstSlot: 0, geometry };
  const applier = new PointApplier(writing, ring);
  const replay = new LogReplay(writing, ring);
  const comparer = new ImageComparer(gate, APPLY_WRITES, geometry, ring);

  const { lastEnd } = state;
  const shown = new Shown(lastEnd === null ? [] : [...found.points, lastEnd], state.lastClosed);
  const kept = new KeptPoints(
    {
      cow,
      keep: data.keep,
      momentOf: (point) => shown.momentOf(point),
      whenLost: (point) => {
        if (shown.isLost) return;
        shown.isLost = true;
        warn(`closed point ${point} is lost, as the store has given it up: there is none to show until the next one`);
      },
    },
    state.lastClosed,
    state.committed.length === 0 && state.lastPoint === state.lastClosed,
  );
  const views = new ViewServers(cow.reader, { ring, afterBatch: (callback) => void callbacks.push(callback) });
  /** Of the points that are held. */
  const epochs = new Map<number, number>();
  const slotsReserved = FREE_RESERVED * storeGeometry.slotsPerSegment;
  ring.registerFiles(files);
  const receiver = new Receiver(
    {
      log,
      logGeometry,
      index,
      ...{ applier, replay, comparer, geometry, nowMs: Date.now },
      image: {
        keep: (point, done) => {
          kept.keep(point, done);
        },
        reached: (point) => {
          shown.reached(point);
          kept.reached(point);
        },
      },
    },
    state,
  );
  // A point that was committed, and whose end is not there: what the image will be is not known.
  let lastGeneration: Generation | null = lastEnd?.point === state.lastPoint ? lastEnd.generation : null;
  const closedPoint = (): KeptPoint | null => shown.point(rowsOf(kept));
  receiver.whenCommitted = (point) => {
    lastGeneration = point.generation;
    shown.committed(point);
  };
  const isStoreFull = (points: readonly KeptPoint[]): boolean => {
    const { holding, freeSlots } = counts.read();
    // Older points would be given up first.
    return holding > 0 && freeSlots <= slotsReserved && points.filter((each) => each.state === "valid").length < 2;
  };
  const hold: OpenReceiver["hold"] = (wanted, done) => {
    const point = wanted ?? closedPoint()?.point;
    if (point === undefined) {
      done(new UblkError("ENOPOINT", "there is no closed point"));
      return;
    }
    kept.hold(point, shown.momentOf(point) !== undefined, (found) => {
      if (found instanceof UblkError) {
        done(found);
        return;
      }
      epochs.set(point, found.epoch);
      done(keptPoint(found));
    });
  };
  return {
    receiver,
    gate,
    ...{ applier, replay },
    log,
    cow,
    settled: () => ({
      lastTransfer: receiver.last,
      lastPoint: receiver.lastPoint,
      lastGeneration,
      isWhole: receiver.lastEnd?.isClosed === true,
      lastClosed: closedPoint(),
      logBytes: logGeometry.ringBytes,
    }),
    finished: () => {
      const lastClosed = closedPoint();
      if (lastClosed === null) throw new UblkError("ENOPOINT", "there is no closed point");
      if (receiver.lastEnd?.isClosed === true) return { lastClosed, rollBackTo: null };
      const epoch = kept.all.find(({ name, state }) => name === String(lastClosed.point) && state === "valid")?.epoch;
      if (epoch === undefined) throw new UblkError("ENOPOINT", `point ${lastClosed.point} is not in the store`);
      return { lastClosed, rollBackTo: epoch };
    },
    hold,
    show: (point, view) => {
      const epoch = epochs.get(point);
      if (epoch !== undefined) views.attach(epoch, view);
    },
    letGo: (point) => {
      const epoch = epochs.get(point);
      if (epoch !== undefined) views.detach(epoch);
      epochs.delete(point);
      kept.letGo(point);
    },
    endAwaiting: () => {
      kept.endAwaiting(new UblkError("ECANCELED", "points are shown no more here"));
    },
    status: () => {
      const points = rowsOf(kept);
      return {
        lastTransfer: receiver.last,
        lastPoint: receiver.lastPoint,
        lastClosed: shown.point(points),
        points,
        log: { used: log.head.position - log.tail.position, size: logGeometry.ringBytes },
        store: { used: cow.versions * storeGeometry.blockBytes, size: roomBytes(storeGeometry) },
        isStoreFull: isStoreFull(points),
      };
    },
    afterBatch: () => {
      for (const callback of callbacks) callback();
      if (kept.isAwaited && isStoreFull(rowsOf(kept))) {
        kept.endAwaiting(new UblkError("ENOSPC", "the store is full: the image waits, and is not at the point yet"));
      }
    },
  };
}

/** Points beside the image, the oldest first. */
function rowsOf(kept: KeptPoints): KeptPoint[] {
  return kept.all.map(keptPoint);
}

function keptPoint({ name, createdMs, state }: Point): KeptPoint {
  return { point: Number(name), createdMs, state };
}

/** The last closed point, and the moments of those that may become it. */
class Shown {
  #last: number;
  /** By point: of the last closed one, and of later ones. */
  readonly #moments = new Map<number, number>();
  /** It was kept, and is not there any more. */
  isLost = false;

  constructor(points: readonly CommittedPoint[], lastClosed: number) {
    this.#last = lastClosed;
    for (const point of points) if (point.point >= lastClosed) this.committed(point);
  }

  momentOf(point: number): number | undefined {
    return this.#moments.get(point);
  }

  committed({ point, isClosed, createdMs }: CommittedPoint): void {
    if (!isClosed) return;
    this.#last = point;
    this.#moments.set(point, createdMs);
  }

  reached(point: number): void {
    this.isLost = false;
    for (const each of this.#moments.keys()) if (each < point) this.#moments.delete(each);
  }

  /** `kept`: beside the image. */
  point(kept: readonly KeptPoint[]): KeptPoint | null {
    const point = this.#last;
    if (point === 0 || this.isLost) return null;
    const createdMs = this.momentOf(point) ?? kept.find((each) => each.point === point)?.createdMs ?? null;
    return { point, createdMs, state: "valid" };
  }
}

function limitsOf(sizeBytes: number): Limits {
  return {
    sizeBytes,
    logicalBlockBytes: SECTOR_BYTES,
    physicalBlockBytes: SECTOR_BYTES,
    readOnly: false,
    rotational: false,
    volatileCache: true,
    fua: true,
    discard: null,
    writeZeroesMaxBytes: null,
  };
}
