/**
 * The simulated disk under a volume: it has a volatile cache, and keeps a stamp for each sector.
 *
 * A power cut leaves of each sector what was durable or what was cached, whichever chance decides; a write that was under
 * way may have reached any subset of its sectors.
 */
import type { Random } from "./random.ts";

/** A version of a sector: which write, and the how-manieth change of the disk it was. */
interface Version {
  readonly sequence: number;
  readonly change: number;
}

export class SimDisk {
  readonly sectors: number;
  /** Sequence of the write that each sector shows: now, and after the worst power cut. */
  readonly current: Int32Array;
  readonly durable: Int32Array;
  /** The change that made it so. */
  readonly #currentChange: Int32Array;
  readonly #durableChange: Int32Array;
  readonly #volatile = new Set<number>();
  #changes = 0;

  constructor(sectors: number) {
    this.sectors = sectors;
    this.current = new Int32Array(sectors);
    this.durable = new Int32Array(sectors);
    this.#currentChange = new Int32Array(sectors);
    this.#durableChange = new Int32Array(sectors);
  }

  write(sector: number, sequence: number): void {
    this.current[sector] = sequence;
    this.#currentChange[sector] = ++this.#changes;
    this.#volatile.add(sector);
  }

  /** What a flush that begins now must make durable, and no more than that: what is written later may miss it. */
  beginFlush(): ReadonlyMap<number, Version> {
    return new Map([...this.#volatile].map((sector) => [sector, this.#version(sector)]));
  }

  #version(sector: number): Version {
    return { sequence: this.current[sector] as number, change: this.#currentChange[sector] as number };
  }

  endFlush(begun: ReadonlyMap<number, Version>): void {
    for (const [sector, version] of begun) this.#harden(sector, version);
  }

  /** These sectors are durable, whatever becomes of the others. */
  harden(sector: number, count: number): void {
    for (let index = sector; index < sector + count; index++) this.#harden(index, this.#version(index));
  }

  #harden(sector: number, { sequence, change }: Version): void {
    if (change <= (this.#durableChange[sector] as number)) return;
    this.durable[sector] = sequence;
    this.#durableChange[sector] = change;
    if (change === this.#currentChange[sector]) this.#volatile.delete(sector);
  }

  cutPower(random: Random): void {
    for (const sector of this.#volatile) {
      if (random.chance(0.5)) this.durable[sector] = this.current[sector] as number;
      else this.current[sector] = this.durable[sector] as number;
    }
    this.#volatile.clear();
  }
}
