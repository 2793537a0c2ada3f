/**
 * Says when the share of a store that is in use passes a level upwards: once, until it has been clearly below it again.
 */

/** In percent. */
const FILL_LEVELS = [75, 90, 95] as const;
/** So far below a level, in percent, its crossing counts as a new one. */
const HYSTERESIS = 5;

export class FillLevels {
  /** The highest level that was passed; 0 for none. */
  #passed = 0;

  /** The level that has been passed since the last look, the highest where there are several; undefined for none. */
  look(percent: number): number | undefined {
    const reached = FILL_LEVELS.findLast((level) => percent >= level) ?? 0;
    const before = this.#passed;
    if (reached > before) {
      this.#passed = reached;
      return reached;
    }
    this.#passed = FILL_LEVELS.findLast((level) => level <= before && percent >= level - HYSTERESIS) ?? 0;
    return undefined;
  }
}
