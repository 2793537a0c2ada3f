/**
 * What a consistency point consists of, in the order in which it is sent: what was written, then what is copied. What travels is
 * read from the volume first, several parts at once; what is copied is then compared with what the receiver has, and goes on as far
 * as it differs, if that is wanted.
 *
 * Invariants. Parts come in their order, however their reads end. So many of them at most are read ahead, or compared, as there is
 * memory for (POINT_READS of POINT_READ_BYTES). What comes of a read when the point is over goes nowhere.
 */
import { POINT_READ_BYTES, POINT_READS } from "../targets/mirror/mirror-target.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import type { Comparison } from "./comparison.ts";
import type { CopyPace } from "./copy-pace.ts";
import { RUN_KIND, runSectors, type BlockGeometry, type PointRun } from "./point-items.ts";
import { planPoint } from "./point-plan.ts";
import type { SourceCut, SourceVolume } from "./sender.ts";
import { hasBit } from "./sums.ts";

export interface PointPart {
  readonly run: PointRun;
  /** What travels with it. */
  readonly data: Uint8Array | undefined;
}

export interface PointPartsOptions {
  readonly volume: Pick<SourceVolume, "read" | "hasRead">;
  readonly geometry: BlockGeometry;
  readonly chunkSectors: number;
  readonly pace: CopyPace;
  /** By which what is copied is compared first; null where it is sent as it is. */
  readonly comparison: Comparison | null;
  /** Counts on: what was compared, and what was equal. */
  readonly compared: { comparedBytes: number; equalBytes: number };
  /** A part has been read, or there is room for another read. */
  readonly whenRead: () => void;
}

interface Planned {
  readonly run: PointRun;
  readonly isCopy: boolean;
}

interface Begun extends Planned {
  data: Uint8Array | undefined;
  state: "to be read" | "being read" | "to be compared" | "being compared" | "ready";
  /** A bit for each block that the receiver has otherwise; undefined where it was not asked. */
  differs: Uint8Array | undefined;
}

export class PointParts {
  readonly #options: PointPartsOptions;
  readonly #dataBlocks: number;
  readonly #plan: Generator<Planned, void, undefined>;
  /** The next one of the plan, which has not begun; undefined behind the last one. */
  #next: Planned | undefined;
  readonly #begun: Begun[] = [];
  /** Of a part that was compared, what differs. */
  #differing: PointPart[] = [];
  #isOver = false;

  /** `firstTransfer`: none that the point refers to has a smaller number. */
  constructor(options: PointPartsOptions, cut: SourceCut, firstTransfer: number) {
    this.#options = options;
    this.#dataBlocks = Math.max(1, Math.floor(POINT_READ_BYTES / (options.geometry.blockSectors * SECTOR_BYTES)));
    this.#plan = this.#planned(cut, firstTransfer);
    this.#advance();
  }

  *#planned({ half, copies }: SourceCut, firstTransfer: number): Generator<Planned, void, undefined> {
    const { geometry, chunkSectors } = this.#options;
    for (const run of planPoint(half, firstTransfer, this.#dataBlocks)) yield { run, isCopy: false };
    for (const { first, count } of copies) {
      const end = Math.min((first + count) * chunkSectors, geometry.volumeSectors);
      const endBlock = Math.ceil(end / geometry.blockSectors);
      for (let block = Math.floor((first * chunkSectors) / geometry.blockSectors); block < endBlock;) {
        const blocks = Math.min(this.#dataBlocks, endBlock - block);
        yield { run: { kind: RUN_KIND.DATA, block, blocks, transfer: 0, place: 0 }, isCopy: true };
        block += blocks;
      }
    }
  }

  #advance(): void {
    const { value } = this.#plan.next();
    this.#next = value ?? undefined;
  }

  /** All were taken. */
  get isEmpty(): boolean {
    return this.#begun.length === 0 && this.#next === undefined && this.#differing.length === 0;
  }

  /** The next part; undefined where it is not read or compared yet, or there is none. */
  take(): PointPart | undefined {
    for (;;) {
      const differing = this.#differing.shift();
      if (differing !== undefined) return differing;
      this.#begin();
      const [head] = this.#begun;
      if (head?.state !== "ready") return undefined;
      this.#begun.shift();
      if (head.differs === undefined || head.data === undefined) return head;
      this.#differing = this.#differingOf(head.run, head.data, head.differs);
    }
  }

  #differingOf(run: PointRun, bytes: Uint8Array, differs: Uint8Array): PointPart[] {
    const { compared, geometry } = this.#options;
    const blockBytes = geometry.blockSectors * SECTOR_BYTES;
    const parts: PointPart[] = [];
    compared.comparedBytes += bytes.length;
    compared.equalBytes += bytes.length;
    for (let index = 0; index < run.blocks; index++) {
      if (!hasBit(differs, index)) continue;
      const first = index;
      while (index + 1 < run.blocks && hasBit(differs, index + 1)) index++;
      const data = bytes.subarray(first * blockBytes, (index + 1) * blockBytes);
      parts.push({ run: { ...run, block: run.block + first, blocks: index + 1 - first }, data });
      compared.equalBytes -= data.length;
    }
    return parts;
  }

  /** The point has been given up, or is committed. */
  close(): void {
    this.#isOver = true;
  }

  #begin(): void {
    for (const begun of this.#begun) if (begun.state === "to be compared") this.#compare(begun);
    // A read that has failed is begun again.
    for (const begun of this.#begun) if (begun.state === "to be read" && !this.#read(begun)) return;
    while (this.#next !== undefined && this.#begun.length < POINT_READS) {
      const isData = this.#next.run.kind === RUN_KIND.DATA;
      const begun: Begun = {
        ...this.#next,
        data: undefined,
        state: isData ? "to be read" : "ready",
        differs: undefined,
      };
      this.#begun.push(begun);
      this.#advance();
      if (isData && !this.#read(begun)) return;
    }
  }

  /** False where it has to wait for others. */
  #read(begun: Begun): boolean {
    const { geometry, volume, pace, whenRead } = this.#options;
    const { run, isCopy } = begun;
    const paced = pace.begin(isCopy);
    if (paced === undefined) return false;
    begun.state = "being read";
    volume.read(run.block * geometry.blockSectors, runSectors(run, geometry), (result, bytes) => {
      pace.end(paced);
      if (!this.#isOver) {
        const isCompared = isCopy && this.#options.comparison !== null;
        begun.state = result < 0 ? "to be read" : isCompared ? "to be compared" : "ready";
        if (result >= 0) {
          begun.data = bytes.slice();
          volume.hasRead(run.block, run.blocks);
        }
      }
      // There is room for another read, be it of the next point.
      whenRead();
    });
    return true;
  }

  /** Asks the receiver, when it may. */
  #compare(begun: Begun): void {
    const { comparison, whenRead } = this.#options;
    if (comparison?.hasRoom !== true) return;
    begun.state = "being compared";
    comparison.ask(begun.run, begun.data as Uint8Array, (differs) => {
      begun.differs = differs;
      begun.state = "ready";
      whenRead();
    });
  }
}
