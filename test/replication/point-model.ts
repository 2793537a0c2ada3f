/** A volume of a few sectors, each with the number of the write that it shows: what a consistency point must reproduce. */
import { DirtyBlocks, dirtyBlocksBytes } from "../../src/targets/mirror/dirty-blocks.ts";
import { RUN_KIND, runSectors, type BlockGeometry, type PointRun } from "../../src/replication/point-items.ts";

export interface ModelWrite {
  readonly sector: number;
  readonly sectors: number;
  readonly zeroes: boolean;
}

export function newDirtyBlocks(geometry: BlockGeometry, capacity: number): DirtyBlocks {
  const dirty = new DirtyBlocks(new ArrayBuffer(dirtyBlocksBytes(capacity)), { capacity, ...geometry });
  dirty.clear();
  return dirty;
}

/** Source and remote, in transfers of a few writes each. */
export class PointModel {
  readonly geometry: BlockGeometry;
  dirty: DirtyBlocks;
  readonly source: number[];
  readonly remote: number[];
  /** Data of each transfer, by its number. */
  readonly transfers = new Map<number, number[]>();
  readonly #writesPerTransfer: number;
  #writes = 0;

  constructor(geometry: BlockGeometry, capacity: number, writesPerTransfer: number) {
    this.geometry = geometry;
    this.dirty = newDirtyBlocks(geometry, capacity);
    this.source = new Array<number>(geometry.volumeSectors).fill(0);
    this.remote = [...this.source];
    this.#writesPerTransfer = writesPerTransfer;
  }

  write({ sector, sectors, zeroes }: ModelWrite): void {
    const transfer = Math.floor(this.#writes / this.#writesPerTransfer);
    const value = zeroes ? 0 : ++this.#writes;
    this.source.fill(value, sector, sector + sectors);
    if (zeroes) {
      this.dirty.wroteZeroes(sector, sectors);
      return;
    }
    const data = this.transfers.get(transfer) ?? [];
    this.transfers.set(transfer, data);
    this.dirty.wroteData(sector, sectors, transfer, data.length);
    for (let index = 0; index < sectors; index++) data.push(value);
  }

  /** Has the remote do what a point consists of; data are those of the source. */
  apply(run: PointRun): void {
    const begin = run.block * this.geometry.blockSectors;
    for (let index = 0; index < runSectors(run, this.geometry); index++) {
      const sector = begin + index;
      if (run.kind === RUN_KIND.ZEROES) this.remote[sector] = 0;
      else if (run.kind === RUN_KIND.DATA) this.remote[sector] = this.source[sector] as number;
      else this.remote[sector] = this.transfers.get(run.transfer)?.[run.place + index] ?? NaN;
    }
  }
}
