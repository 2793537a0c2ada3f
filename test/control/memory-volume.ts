/** A volume in memory, for copy jobs: a point shows what the volume held when it was taken. */
import type { CopiedVolume } from "../../src/control/copied-volume.ts";
import type { CopySource } from "../../src/copy/copy-job.ts";
import type { Point } from "../../src/targets/cow/catalog.ts";
import { UblkError } from "../../src/ublk/errors.ts";

export class MemoryVolume implements CopiedVolume {
  readonly name = "data";
  readonly blockBytes = 4096;
  readonly content: Uint8Array;
  /** What each point shows, by epoch. */
  readonly shown = new Map<number, { point: Point; content: Uint8Array }>();
  /** No point can be taken. */
  isBroken = false;
  /** What is read is answered when this is over. */
  gate: Promise<void> = Promise.resolve();
  #epoch = 0;

  constructor(bytes: number) {
    this.content = Uint8Array.from({ length: bytes }, (_, index) => 1 + (index % 250));
  }

  get sizeBytes(): number {
    return this.content.length;
  }

  refuseAsDestination(): Promise<void> {
    return Promise.resolve();
  }

  points(): Promise<readonly Point[]> {
    return Promise.resolve([...this.shown.values()].map(({ point }) => point));
  }

  take(name: string, createdMs: number): Promise<Point> {
    if (this.isBroken) return Promise.reject(new UblkError("ESNAPSHOT", "Volume data: it cannot"));
    const epoch = ++this.#epoch;
    const point = {
      epoch,
      kind: "copy",
      name,
      createdMs,
      volumeBytes: this.sizeBytes,
      state: "valid",
      mark: 0,
    } as const;
    this.shown.set(epoch, { point, content: this.content.slice() });
    return Promise.resolve(point);
  }

  drop(epoch: number): Promise<void> {
    this.shown.delete(epoch);
    return Promise.resolve();
  }

  source(epoch: number): CopySource {
    return {
      read: (ranges, into, ended) => {
        void this.gate.then(() => {
          const shown = this.shown.get(epoch);
          const parts = ranges.map(({ offset, length }) => shown?.content.subarray(offset, offset + length) ?? []);
          new Uint8Array(into).set(parts.flatMap((part) => [...part]));
          ended(shown === undefined ? new Error("its point is gone") : undefined);
        });
      },
      pass: () => undefined,
      heat: () => undefined,
    };
  }
}
