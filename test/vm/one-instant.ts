/** What tests of several volumes at one instant have in common: a writer that alternates, and what is seen of it. */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { messageOf } from "../../src/ublk/errors.ts";
import { until } from "./support.ts";

const BLOCK = 4096;

/** Writes numbers one after the other, each to the one volume, and when that has been answered, to the other. */
export class Counter {
  #isWanted = true;
  /** The last that both have answered. */
  last: number;
  readonly #ended: Promise<void>;

  /** `last`: what both have already. */
  constructor(one: string, other: string, last = 0) {
    this.last = last;
    this.#ended = this.#write(one, other);
  }

  async #write(one: string, other: string): Promise<void> {
    await using first = await open(one, constants.O_WRONLY | constants.O_DSYNC);
    await using second = await open(other, constants.O_WRONLY | constants.O_DSYNC);
    const block = Buffer.alloc(BLOCK);
    while (this.#isWanted) {
      block.writeDoubleLE(this.last + 1);
      await first.write(block, 0, BLOCK, 0);
      await second.write(block, 0, BLOCK, 0);
      this.last++;
    }
  }

  /** Throws where a write failed. A second time nothing happens. */
  async stop(): Promise<void> {
    this.#isWanted = false;
    await this.#ended;
  }

  /** It has written more than until now. */
  async goesOn(): Promise<void> {
    const before = this.last + 1;
    await until(() => this.last > before);
  }
}

/** What it has written last, as a volume or an image shows it. */
export async function numberIn(path: string): Promise<number> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  return buffer.readDoubleLE();
}

/** Where a guest is too slow for the deadline, that is no fault: tries again. */
export async function inTime<Row>(take: () => Promise<readonly Row[]>): Promise<readonly Row[]> {
  for (;;) {
    try {
      return await take();
    } catch (error) {
      // What came of it may still be being undone.
      if (
        !/was not asked to go on in time|was not held back any more|try again when that is done/.test(messageOf(error))
      )
        throw error;
    }
  }
}
