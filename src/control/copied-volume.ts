/** A running volume as its copy jobs know it: points are taken, read, passed and dropped by orders to the volume's own thread. */
import { stat } from "node:fs/promises";
import type { CopySource } from "../copy/copy-job.ts";
import type { Point } from "../targets/cow/catalog.ts";
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { CowOrder } from "../targets/cow/cow-orders.ts";
import type { BlockRun } from "../targets/cow/points.ts";
import type { CowView } from "../targets/volume.ts";
import type { Device } from "../ublk/device.ts";
import { UblkError } from "../ublk/errors.ts";
import { askCow } from "./cow-order.ts";

export interface CopiedVolume {
  readonly name: string;
  readonly sizeBytes: number;
  /** What is moved aside as a whole. */
  readonly blockBytes: number;
  /** Throws EINVAL where a copy is to go to the volume itself. */
  refuseAsDestination(paths: readonly string[]): Promise<void>;
  /** Those of copy jobs. */
  points(): Promise<readonly Point[]>;
  /** Takes a job's point, of the moment when this is called; it is durable when this resolves. Throws ECOPY, ESNAPSHOT. */
  take(name: string, createdMs: number): Promise<Point>;
  drop(epoch: number): Promise<void>;
  /** What the job of a point reads. */
  source(epoch: number): CopySource;
}

export class ServedVolume implements CopiedVolume {
  readonly name: string;
  readonly #view: CowView;
  readonly #device: Device;

  constructor(name: string, view: CowView, device: Device) {
    this.name = name;
    this.#view = view;
    this.#device = device;
  }

  get sizeBytes(): number {
    return this.#device.limits.sizeBytes;
  }

  get blockBytes(): number {
    return this.#view.geometry.blockBytes;
  }

  #ask(order: CowOrder): ReturnType<typeof askCow> {
    return askCow(this.name, this.#device, order);
  }

  async refuseAsDestination(paths: readonly string[]): Promise<void> {
    const own = (await stat(this.#device.path)).rdev;
    for (const path of paths) {
      const found = await stat(path).catch(() => undefined);
      if (found?.isBlockDevice() === true && found.rdev === own) {
        throw new UblkError("EINVAL", `Destination ${path} is the volume itself`);
      }
    }
  }

  async points(): Promise<readonly Point[]> {
    const answer = await this.#ask({ kind: "list" });
    return "points" in answer ? answer.points.filter(({ kind }) => kind === "copy") : [];
  }

  async take(name: string, createdMs: number): Promise<Point> {
    const answer = await this.#ask({ kind: "take", point: "copy", name, createdMs });
    const point = "points" in answer ? answer.points[0] : undefined;
    if (point === undefined) throw new UblkError("ECOPY", "The copy's point was not taken");
    return point;
  }

  async drop(epoch: number): Promise<void> {
    await this.#ask({ kind: "drop", epoch });
  }

  source(epoch: number): CopySource {
    const { blockBytes } = this;
    // Units are whole blocks, but for the end of the volume.
    const blocksOf = ({ offset, length }: ByteRange): BlockRun => ({
      first: offset / blockBytes,
      end: Math.ceil((offset + length) / blockBytes),
    });
    return {
      read: (ranges, into, ended) => {
        this.#ask({ kind: "read", epoch, ranges, shared: into }).then(() => ended(undefined), ended);
      },
      pass: (ranges) => {
        // A queue that ends does not need to know.
        this.#ask({ kind: "pass", epoch, runs: ranges.map(blocksOf) }).catch(() => undefined);
      },
      heat: (found) => {
        this.#ask({ kind: "heat" }).then(
          (answer) => "heat" in answer && found(answer.heat),
          () => undefined,
        );
      },
    };
  }
}
