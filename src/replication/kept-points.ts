/**
 * The closed points that a receiver keeps beside the image, in its copy-on-write.
 *
 * Invariants. The last closed point is kept, durably, before anything of the next one is written, and is not given up for want of
 * room until the next one is reached: writing waits instead. A point that was kept and is lost is never taken a second time,
 * since the image may be another one by then. What is dropped is older than the last closed point.
 */
import type { Point } from "../targets/cow/catalog.ts";
import type { CowTarget } from "../targets/cow/cow-target.ts";
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

export class KeptPoints implements ReceiverImage {
  readonly #options: KeptPointsOptions;

  /** `lastClosed`: what the image is, or is being brought away from; 0 for none. */
  constructor(options: KeptPointsOptions, lastClosed: number) {
    this.#options = options;
    options.cow.spare(this.#find(lastClosed)?.epoch ?? 0);
  }

  /** In the order of their numbers, those that were given up among them. */
  get all(): readonly Point[] {
    return this.#options.cow.points.filter(({ kind }) => kind === "mirror");
  }

  #find(point: number): Point | undefined {
    return this.all.find(({ name }) => name === String(point));
  }

  keep(point: number, done: (result: number) => void): void {
    const { cow, momentOf, whenLost } = this.#options;
    const found = this.#find(point);
    if (found !== undefined) {
      if (found.state !== "valid") whenLost(point);
      done(0);
      return;
    }
    cow.takePoint("mirror", String(point), momentOf(point) ?? Date.now(), (result) => {
      if (typeof result === "number") {
        done(result);
        return;
      }
      cow.spare(result.epoch);
      done(0);
    });
  }

  reached(): void {
    const { cow, keep } = this.#options;
    cow.spare(0);
    const older = this.all;
    const valid = older.filter(({ state }) => state === "valid");
    // The image itself is one.
    const kept = new Set(valid.slice(Math.max(0, valid.length - (keep - 1))));
    for (const point of older) {
      // Where it fails the store has failed, and the next point cannot be taken.
      if (!kept.has(point)) cow.dropPoint(point.epoch, () => undefined);
    }
  }
}
