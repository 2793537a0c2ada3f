/**
 * The bulk copy of a running volume: an outside program copies the live device, and what was overwritten meanwhile makes its
 * copy what the volume was when the bulk copy was begun.
 *
 * Invariant: a volume has one at most. Its originals are given away only when it is marked: from then on they stay as they are.
 * Of a copy of parts of a volume, blocks outside of them are no originals, even where the store has versions of them: what was
 * overwritten before they were kept, for a snapshot or by a daemon that did not know yet, is lost.
 */
import { createHash } from "node:crypto";
import { originalsStream, streamIdOf, type OriginalsSource } from "../copy/originals-stream.ts";
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { Point } from "../targets/cow/catalog.ts";
import type { BlockRun } from "../targets/cow/points.ts";
import type { CowView } from "../targets/volume.ts";
import type { Device } from "../ublk/device.ts";
import { syncBlockDevice } from "../ublk/devices.ts";
import { errnoText, messageOf, UblkError } from "../ublk/errors.ts";
import { loadNote, removeNote, saveNote } from "./bulk-note.ts";
import { blocksOutside, blocksWithin, mergeRanges } from "./bulk-ranges.ts";
import type { BulkStatus } from "./bulk-status.ts";
import { rangesOf } from "./changed-ranges.ts";
import { askCow } from "./cow-order.ts";
import { atRest, type FreezeHook } from "./freeze-hook.ts";
import { log } from "./log.ts";
import { bulkNotePath } from "./paths.ts";

const POINT_NAME = "bulk";
/** The point of a copy of parts of a volume: which ones is in its note. */
const PART_POINT_NAME = "bulk-part";

export class BulkCopy {
  readonly #volume: string;
  readonly #view: CowView;
  readonly #device: Device;
  readonly #freezeHook: FreezeHook | null;
  /** One thing at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(volume: string, view: CowView, device: Device, freezeHook: FreezeHook | null) {
    this.#volume = volume;
    this.#view = view;
    this.#device = device;
    this.#freezeHook = freezeHook;
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #find(): Promise<Point | undefined> {
    const answer = await askCow(this.#volume, this.#device, { kind: "list" });
    return "points" in answer ? answer.points.find(({ kind }) => kind === "bulk") : undefined;
  }

  async #wanted(): Promise<Point> {
    const point = await this.#find();
    if (point !== undefined) return point;
    throw new UblkError("ENOENT", `Volume ${this.#volume} has no bulk copy: begin one (sluice bulk begin)`);
  }

  async #valid(): Promise<Point> {
    const point = await this.#wanted();
    if (point.state === "valid") return point;
    throw new UblkError(
      "EINVALID",
      `The bulk copy of ${this.#volume} was given up (${point.state}), and what has been copied is worth nothing: ` +
        `cancel it (sluice bulk cancel ${this.#volume}), and begin anew`,
    );
  }

  /** What the copy is of. Throws EBULK where that is not known any more. */
  async #partsOf({ name, createdMs, volumeBytes }: Point): Promise<readonly ByteRange[]> {
    if (name !== PART_POINT_NAME) return [{ offset: 0, length: volumeBytes }];
    return (await loadNote(bulkNotePath(this.#volume), createdMs)).ranges;
  }

  async #originalsOf(point: Point, parts: readonly ByteRange[]): Promise<ByteRange[]> {
    if (point.state !== "valid") return [];
    const { epoch, mark, volumeBytes } = point;
    const order = { kind: "diff", from: epoch, to: mark === 0 ? Infinity : mark } as const;
    const answer = await askCow(this.#volume, this.#device, order);
    const blocks = "blocks" in answer ? answer.blocks.sort() : new Float64Array(0);
    const { blockBytes } = this.#view.geometry;
    return rangesOf(blocksWithin(blocks, parts, blockBytes), blockBytes, volumeBytes, volumeBytes);
  }

  async #describe(point: Point): Promise<BulkStatus> {
    const parts = await this.#partsOf(point);
    const originals = await this.#originalsOf(point, parts);
    return {
      state: point.state !== "valid" ? point.state : point.mark === 0 ? "copying" : "marked",
      begun: new Date(point.createdMs).toISOString(),
      sizeBytes: point.volumeBytes,
      ranges: parts,
      originalBytes: originals.reduce((sum, { length }) => sum + length, 0),
      blockBytes: this.#view.geometry.blockBytes,
      stream: Buffer.from(this.#streamOf(point)).toString("hex"),
    };
  }

  /** The same for the same bulk copy, so that what was sent in part is known again. */
  #streamOf({ epoch, createdMs }: Point): Uint8Array {
    return streamIdOf(createHash("sha256").update(`${this.#volume}\n${epoch}\n${createdMs}`).digest());
  }

  /** Throws ENOENT where there is none. */
  status(): Promise<BulkStatus> {
    return this.#inTurn(async () => this.#describe(await this.#wanted()));
  }

  /**
   * From now on originals are kept, of some parts of the volume or of all of it (null); that is durable when this resolves. Throws
   * EEXIST, ERANGE, ENOSPC, ESNAPSHOT, EBUSY, and EFREEZE: then none is begun, unless the program could not thaw.
   */
  begin(wanted: readonly ByteRange[] | null): Promise<BulkStatus> {
    return this.#inTurn(async () => {
      if ((await this.#find()) !== undefined) {
        throw new UblkError(
          "EEXIST",
          `Volume ${this.#volume} has a bulk copy already: see "sluice bulk status ${this.#volume}"`,
        );
      }
      const ranges = wanted === null ? null : mergeRanges(wanted, this.#device.limits.sizeBytes);
      await atRest(this.#freezeHook, () => this.#take(ranges));
      return this.#describe(await this.#valid());
    });
  }

  async #take(ranges: readonly ByteRange[] | null): Promise<void> {
    const createdMs = Date.now();
    if (ranges !== null) await saveNote(bulkNotePath(this.#volume), { createdMs, ranges });
    await askCow(this.#volume, this.#device, {
      ...{ kind: "take", point: "bulk", createdMs },
      name: ranges === null ? POINT_NAME : PART_POINT_NAME,
      passed: ranges === null ? [] : this.#outside(ranges, this.#device.limits.sizeBytes),
    });
    log("info", "A bulk copy is begun");
  }

  #outside(ranges: readonly ByteRange[], volumeBytes: number): BlockRun[] {
    return blocksOutside(ranges, this.#view.geometry.blockBytes, volumeBytes);
  }

  /** After a start: tells the volume's thread again what no originals are to be kept of. What was moved meanwhile is given up. */
  recover(): Promise<void> {
    return this.#inTurn(async () => {
      const point = await this.#find();
      if (point?.state !== "valid" || point.name !== PART_POINT_NAME) return;
      const { epoch, volumeBytes } = point;
      try {
        const runs = this.#outside(await this.#partsOf(point), volumeBytes);
        await askCow(this.#volume, this.#device, { kind: "pass", epoch, runs });
      } catch (error) {
        log("warning", messageOf(error));
      }
    });
  }

  /**
   * The outside program has ended: nothing is moved for the copy any more; that is durable when this resolves. Throws ENOENT,
   * EINVALID where it was given up, EEXIST where it is marked already.
   */
  mark(): Promise<BulkStatus> {
    return this.#inTurn(async () => {
      const point = await this.#valid();
      if (point.mark !== 0) throw new UblkError("EEXIST", `The bulk copy of ${this.#volume} is marked already`);
      return this.#setMark(point);
    });
  }

  /** As `mark`, and does nothing where that has been done. */
  endCow(): Promise<BulkStatus> {
    return this.#inTurn(async () => {
      const point = await this.#valid();
      return point.mark === 0 ? this.#setMark(point) : this.#describe(point);
    });
  }

  async #setMark({ epoch }: Point): Promise<BulkStatus> {
    // A program that reads through the page cache may have read what was not on the device yet: it is written before the mark.
    await syncBlockDevice(this.#device.id);
    await askCow(this.#volume, this.#device, { kind: "mark", epoch });
    log("info", "The bulk copy is marked: nothing is moved for it any more");
    return this.#describe(await this.#valid());
  }

  /** The originals as a stream, from a record on. Throws ENOENT, EINVALID, EORDER where it is not marked, ESIZE. */
  async originals(recordBytes: number, from: number): Promise<AsyncIterable<Uint8Array>> {
    const point = await this.#valid();
    if (point.mark === 0) {
      throw new UblkError(
        "EORDER",
        `The bulk copy of ${this.#volume} is not marked yet: wait until the copy has ended`,
      );
    }
    const start = {
      stream: this.#streamOf(point),
      volume: this.#volume,
      volumeBytes: point.volumeBytes,
      createdMs: point.createdMs,
      content: "originals",
    } as const;
    const read: OriginalsSource["read"] = (each, into) => this.#read(point.epoch, each, into);
    const ranges = await this.#originalsOf(point, await this.#partsOf(point));
    return originalsStream({ start, ranges, read }, recordBytes, from);
  }

  async #read(epoch: number, ranges: readonly ByteRange[], into: Uint8Array): Promise<void> {
    const shared = new SharedArrayBuffer(ranges.reduce((sum, { length }) => sum + length, 0));
    try {
      await askCow(this.#volume, this.#device, { kind: "read", epoch, ranges, shared });
    } catch (cause) {
      const errno = cause instanceof UblkError ? cause.errno : undefined;
      if (errno === undefined) throw cause;
      throw new UblkError(
        "EIO",
        `The originals from byte ${ranges[0]?.offset} of ${this.#volume} on cannot be read: ${errnoText(errno)}`,
        { errno, cause },
      );
    }
    into.set(new Uint8Array(shared));
  }

  /** Drops the originals, whether they were used or not. `stream` must be that of the bulk copy. Throws ENOENT. */
  drop(stream: string | undefined): Promise<void> {
    return this.#inTurn(async () => {
      const point = await this.#wanted();
      if (stream !== undefined && stream !== Buffer.from(this.#streamOf(point)).toString("hex")) {
        throw new UblkError("ENOENT", `Volume ${this.#volume} has another bulk copy by now`);
      }
      await askCow(this.#volume, this.#device, { kind: "drop", epoch: point.epoch });
      await removeNote(bulkNotePath(this.#volume));
      log("info", stream === undefined ? "The bulk copy is cancelled" : "The bulk copy is finished");
    });
  }
}
