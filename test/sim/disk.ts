/**
 * The simulated disk under a volume: it has a volatile cache, and keeps a stamp for each sector.
 *
 * A power cut leaves of each sector what was durable or what was cached, whichever chance decides; a write that was under
 * way may have reached any subset of its sectors.
 */
import type { Random } from "./random.ts";

export class SimDisk {
  readonly sectors: number;
  /** Sequence of the write that each sector shows: now, and after the worst power cut. */
  readonly current: Int32Array;
  readonly durable: Int32Array;
  readonly #volatile = new Set<number>();

  constructor(sectors: number) {
    this.sectors = sectors;
    this.current = new Int32Array(sectors);
    this.durable = new Int32Array(sectors);
  }

  write(sector: number, sequence: number): void {
    this.current[sector] = sequence;
    this.#volatile.add(sector);
  }

  /** What a flush that begins now must make durable, and no more than that: what is written later may miss it. */
  beginFlush(): ReadonlyMap<number, number> {
    return new Map([...this.#volatile].map((sector) => [sector, this.current[sector] as number]));
  }

  endFlush(begun: ReadonlyMap<number, number>): void {
    for (const [sector, sequence] of begun) {
      this.durable[sector] = sequence;
      if (this.current[sector] === sequence) this.#volatile.delete(sector);
    }
  }

  /** These sectors are durable, whatever becomes of the others. */
  harden(sector: number, count: number): void {
    for (let index = sector; index < sector + count; index++) {
      this.durable[index] = this.current[index] as number;
      this.#volatile.delete(index);
    }
  }

  cutPower(random: Random): void {
    for (const sector of this.#volatile) {
      if (random.chance(0.5)) this.durable[sector] = this.current[sector] as number;
      else this.current[sector] = this.durable[sector] as number;
    }
    this.#volatile.clear();
  }
}
