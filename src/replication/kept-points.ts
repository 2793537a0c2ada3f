/**
 * The closed points that a receiver keeps beside the image, in its copy-on-write.
 *
 * Invariants. The last closed point is kept, durably, before anything of the next one is written, and is not given up for want of
 * room until the next one is reached: writing waits instead. A point that was kept and is lost is never taken a second time,
 * since the image may be another one by then. What is dropped is older than the last closed point, and held by nobody.
 */
import type { Point } from "../targets/cow/catalog.ts";
import type { CowTarget } from "../targets/cow/cow-target.ts";
import { errnoText, UblkError } from "../ublk/errors.ts";
import type { ReceiverImage } from "./receiver.ts";

/** What it needs of the copy-on-write. */
export type PointKeeper = Pick<CowTarget, "points" | "takePoint" | "dropPoint" | "spare">;

export interface KeptPointsOptions {
  readonly cow: PointKeeper;
  /** How many closed points there are to be in all: the one that the image is, or is brought away from, and older ones. */
  readonly keep: number;
  /** The moment of a point at its source, in milliseconds since 1970; undefined where that is not known any more. */
  readonly momentOf: (point: number) => number | undefined;
  /** The last closed point was kept, and is lost: nothing is shown until the next one is reached. */
  readonly whenLost: (point: number) => void;
}

/** A point that is in the store, durably; or why it is not. */
type Held = (found: Point | UblkError) => void;

export class KeptPoints implements ReceiverImage {
  readonly #options: KeptPointsOptions;
  /** What the image is, and nothing else; 0 where it is none, or is on its way away from it. */
  #imageAt: number;
  /** The point of the image that is being taken, and who waits for that. */
  #taking: { readonly point: number; readonly waiting: ((result: Point | number) => void)[] } | undefined;
  /** Numbers of points that somebody uses. */
  readonly #held = new Set<number>();
  /** Who waits for the image to be a point, by its number. */
  readonly #awaiting = new Map<number, Held>();

  /** `lastClosed`: what the image is, or is being brought away from; 0 for none. `isThere`: it is that, and nothing else. */
  constructor(options: KeptPointsOptions, lastClosed: number, isThere: boolean) {
    this.#options = options;
    this.#imageAt = isThere ? lastClosed : 0;
    options.cow.spare(this.#find(lastClosed)?.epoch ?? 0);
  }

  /** In the order of their numbers, those that were given up among them. */
  get all(): readonly Point[] {
    return this.#options.cow.points.filter(({ kind }) => kind === "mirror");
  }

  #find(point: number): Point | undefined {
    return this.all.find(({ name }) => name === String(point));
  }

  /** One that is being taken is not there yet. */
  #findDurable(point: number): Point | undefined {
    return this.#taking?.point === point ? undefined : this.#find(point);
  }

  keep(point: number, done: (result: number) => void): void {
    const { whenLost } = this.#options;
    this.#imageAt = 0;
    const found = this.#findDurable(point);
    if (found === undefined) {
      this.#take(point, (result) => {
        done(typeof result === "number" ? result : 0);
      });
      return;
    }
    if (found.state !== "valid") whenLost(point);
    done(0);
  }

  /** Takes the point that the image is. Where it is being taken already, `done` is called when that has ended. */
  #take(point: number, done: (result: Point | number) => void): void {
    const { cow, momentOf } = this.#options;
    if (this.#taking !== undefined) {
      this.#taking.waiting.push(done);
      return;
    }
    const waiting = [done];
    this.#taking = { point, waiting };
    cow.takePoint("mirror", String(point), momentOf(point) ?? Date.now(), (result) => {
      if (typeof result !== "number") cow.spare(result.epoch);
      this.#taking = undefined;
      for (const each of waiting) each(result);
    });
  }

  reached(point: number): void {
    const { cow, keep } = this.#options;
    cow.spare(0);
    this.#imageAt = point;
    const older = this.all;
    const valid = older.filter(({ state }) => state === "valid");
    // The image itself is one.
    const kept = new Set(valid.slice(Math.max(0, valid.length - (keep - 1))));
    for (const each of older) {
      // Where it fails the store has failed, and the next point cannot be taken.
      if (!kept.has(each) && !this.#held.has(Number(each.name))) cow.dropPoint(each.epoch, () => undefined);
    }
    const awaiting = this.#awaiting.get(point);
    this.#awaiting.delete(point);
    if (awaiting !== undefined) this.#holdImage(point, awaiting);
  }

  /**
   * Holds a closed point: it is not dropped until `letGo`, and is given up only where its room is wanted. `isComing`: it is
   * committed, and the image may still have to be brought to it; then `done` is called when that is so. One that is held, or waited
   * for, is not held again.
   */
  hold(point: number, isComing: boolean, done: Held): void {
    const found = this.#findDurable(point);
    if (found !== undefined && found.state !== "valid") {
      done(new UblkError("EINVALID", `point ${point} was given up (${found.state})`));
    } else if (found !== undefined) {
      this.#held.add(point);
      done(found);
    } else if (this.#imageAt === point || this.#taking?.point === point) this.#holdImage(point, done);
    else if (isComing) {
      this.#held.add(point);
      this.#awaiting.set(point, done);
    } else done(new UblkError("ENOENT", `there is no point ${point}: it was dropped, or has never been`));
  }

  #holdImage(point: number, done: Held): void {
    this.#held.add(point);
    this.#take(point, (result) => {
      if (typeof result === "number") this.#held.delete(point);
      done(typeof result === "number" ? new UblkError("ESTORE", `the store: ${errnoText(-result)}`) : result);
    });
  }

  /** Nobody uses it any more: it goes when its time has come, with a point that is reached. */
  letGo(point: number): void {
    this.#held.delete(point);
  }

  /** Whether somebody waits for the image to be a point. */
  get isAwaited(): boolean {
    return this.#awaiting.size > 0;
  }

  /** Who waits for the image to be a point is told this instead. */
  endAwaiting(error: UblkError): void {
    for (const [point, done] of [...this.#awaiting]) {
      this.#awaiting.delete(point);
      this.#held.delete(point);
      done(error);
    }
  }
}
