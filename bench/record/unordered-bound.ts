/**
 * The bound for writes without an order: each goes to a place by a fixed law, whatever came before it.
 *
 * No record can then know more than this: of a chunk that was written, how likely the next write goes there, exactly; of
 * those that were not written yet, only how likely they are together, since which of them is the likely one is chance. The
 * best that it can hold are the likeliest of the first, and any of the others for what is left. A write to what it does not
 * hold is an update. Perfect knowledge of the future (oracle.ts) is far below this, and says nothing here.
 *
 * The law is looked at `STEPS` times, each time with what is known at the end of the step: the bound is too low by that,
 * and never too high.
 */
import type { Trace } from "./trace.ts";

const STEPS = 50;

/** What is known at one time. */
interface Knowledge {
  /** At index k: how likely one of the k likeliest known chunks is. */
  readonly cumulated: Float64Array;
  readonly unknown: number;
  /** How likely a chunk is that is not known. */
  readonly likelihood: number;
  readonly writes: number;
}

export class UnorderedBound {
  readonly #steps: Knowledge[] = [];

  /** `law`: for each chunk, how likely a write goes there; together 1. Every write lies within one chunk. */
  constructor(trace: Trace, law: Float64Array, chunkBytes: number) {
    const known = new Uint8Array(law.length);
    const likelihoods: number[] = [];
    let rest = 1;
    for (let step = 1, index = 0; step <= STEPS; step++) {
      const from = index;
      for (const end = Math.floor((trace.length * step) / STEPS); index < end; index++) {
        const chunk = Math.floor((trace.offsets[index] as number) / chunkBytes);
        if (known[chunk] === 1) continue;
        known[chunk] = 1;
        likelihoods.push(law[chunk] as number);
        rest -= law[chunk] as number;
      }
      const sorted = Float64Array.from(likelihoods).sort().reverse();
      const cumulated = new Float64Array(sorted.length + 1);
      sorted.forEach((likelihood, rank) => (cumulated[rank + 1] = (cumulated[rank] as number) + likelihood));
      const unknown = law.length - sorted.length;
      this.#steps.push({
        cumulated,
        unknown,
        likelihood: unknown === 0 ? 0 : Math.max(0, rest) / unknown,
        writes: index - from,
      });
    }
  }

  /** Updates over the whole trace that a record of so many chunks cannot be expected to avoid. */
  updatesWith(chunks: number): number {
    return this.#steps.reduce((sum, step) => sum + step.writes * (1 - likeliest(step, chunks)), 0);
  }

  /** The fewest chunks with which so few updates can be expected. */
  chunksFor(updates: number): number {
    let low = 0;
    const last = this.#steps.at(-1) as Knowledge;
    for (let high = last.cumulated.length + last.unknown; low < high;) {
      const middle = (low + high) >> 1;
      if (this.updatesWith(middle) <= updates) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** How likely a write goes to one of the likeliest `chunks`. */
function likeliest({ cumulated, unknown, likelihood }: Knowledge, chunks: number): number {
  const known = cumulated.length - 1;
  let above = 0;
  for (let high = Math.min(chunks, known); above < high;) {
    const middle = (above + high + 1) >> 1;
    const least = (cumulated[middle] as number) - (cumulated[middle - 1] as number);
    if (least > likelihood) above = middle;
    else high = middle - 1;
  }
  const guessed = Math.min(chunks - above, unknown);
  const rest = Math.min(chunks - guessed, known);
  return (cumulated[rest] as number) + guessed * likelihood;
}
