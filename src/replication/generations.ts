/**
 * Which of two sides of a mirror has what the other lacks: told by names of what they have had, as DRBD does it.
 *
 * What a side has is a state of one generation. A side that goes on alone begins a new one, with a name that was never used, and
 * keeps the name of the one that it left. So two sides that meet see by a few names whether one of them holds all that the
 * other has, or each was written alone.
 *
 * Invariant: who writes alone does so in a generation that the other side cannot have. Each of the functions here gives what
 * must be durable before what it is for happens.
 *
 * What an old source had acknowledged and not sent when it died is not known to the generations: where its other side was
 * promoted meanwhile and it follows, that is overwritten. docs/protocol.md has the table of all relations.
 */

/** 64 bits by chance, as 16 hexadecimal digits in small letters. */
export type Generation = string;

/** Where there is none. */
export const NO_GENERATION: Generation = "0000000000000000";

export interface Generations {
  /** What this side has is a state of this one. */
  readonly current: Generation;
  /** What the other side had when this side went on alone. All that may differ from it is in this side's record. */
  readonly bitmap: Generation;
  /** What the other side was offered, and may have become without this side knowing. The record holds for this one too. */
  readonly offered: Generation;
  /** All of these have become this side's current one. The newer one first. */
  readonly history: readonly [Generation, Generation];
}

/** Of a side that has nothing. */
export const NO_GENERATIONS: Generations = {
  current: NO_GENERATION,
  bitmap: NO_GENERATION,
  offered: NO_GENERATION,
  history: [NO_GENERATION, NO_GENERATION],
};

/** Of one side to the other. "unrelated": nothing is known of what they have in common. */
export type RelationKind = "same" | "i-am-ahead" | "they-are-ahead" | "split-brain" | "unrelated";

/**
 * What has to be copied to the side that follows: "nothing" but what was under way, what the *records* of both sides hold, or
 * all. Where nobody follows by itself: what would have to, once a person has said who does.
 */
export interface Relation {
  readonly kind: RelationKind;
  readonly copy: "nothing" | "recorded" | "full";
}

/** A volume that becomes the source of a mirror. `fresh` was never used. */
export function created(fresh: Generation): Generations {
  return { ...NO_GENERATIONS, current: fresh };
}

/**
 * This side goes on without the other: before it is promoted while the other is away, and when it is no longer sure that the
 * other gets what it writes, or had acknowledged. `fresh` was never used; it is taken where the other side may have the current
 * one.
 */
export function wentAlone(mine: Generations, fresh: Generation): Generations {
  if (mine.bitmap === NO_GENERATION) {
    return { ...mine, current: fresh, bitmap: mine.current, offered: NO_GENERATION };
  }
  return mine.offered === mine.current ? { ...mine, current: fresh } : mine;
}

/**
 * This side was written to, and no record tells where: whatever the other side has, all of it has to be copied there. `fresh` was
 * never used.
 */
export function wentUnrecorded(mine: Generations, fresh: Generation): Generations {
  const history = [mine.offered, mine.bitmap].reduce(pushed, mine.history);
  return { ...NO_GENERATIONS, current: fresh, history: pushed(history, mine.current) };
}

/** What the source has when the other side, which was away, has answered: what it did not know of it, it knows now. */
export function met(mine: Generations, theirs: Generations): Generations {
  if (theirs.current === mine.current) return inStep(mine);
  // It may have been written alone since it took it.
  const isTaken = mine.offered !== NO_GENERATION && [theirs.current, ...earlier(theirs)].includes(mine.offered);
  if (!isTaken) return { ...mine, offered: NO_GENERATION };
  return { ...mine, bitmap: mine.offered, offered: NO_GENERATION, history: pushed(mine.history, mine.bitmap) };
}

/** Before the source sends the end of a point, or gives away a first copy: whoever gets it has the current generation then. */
export function offered(mine: Generations): Generations {
  if (mine.offered === mine.current) return mine;
  return { ...mine, offered: mine.current, history: pushed(mine.history, mine.offered) };
}

/**
 * What both sides have when the other one has a state of the source's current generation. For the source: when it is told of
 * the first point that is committed there. For the receiver: with each point that it commits; `source` is then what the source
 * has made of the receiver's answer, which the receiver knows as well: `met` of what they said to each other.
 */
export function inStep(source: Generations): Generations {
  return {
    current: source.current,
    bitmap: NO_GENERATION,
    offered: NO_GENERATION,
    history: pushed(source.history, source.bitmap),
  };
}

function pushed(history: Generations["history"], generation: Generation): Generations["history"] {
  return generation === NO_GENERATION ? history : [generation, history[0]];
}

export function relationOf(mine: Generations, theirs: Generations): Relation {
  const unrelated: Relation = { kind: "unrelated", copy: "full" };
  if (mine.current === NO_GENERATION && theirs.current === NO_GENERATION) return unrelated;
  if (theirs.current === NO_GENERATION) return { kind: "i-am-ahead", copy: "full" };
  if (mine.current === NO_GENERATION) return { kind: "they-are-ahead", copy: "full" };
  if (mine.current === theirs.current) return { kind: "same", copy: "nothing" };
  const isAhead = earlier(mine).includes(theirs.current);
  const isBehind = earlier(theirs).includes(mine.current);
  // Each before the other: no history does this, only damage or a side that was put back from a backup.
  if (isAhead && isBehind) return { kind: "split-brain", copy: "full" };
  if (isAhead) return { kind: "i-am-ahead", copy: recorded(mine).includes(theirs.current) ? "recorded" : "full" };
  if (isBehind) return { kind: "they-are-ahead", copy: recorded(theirs).includes(mine.current) ? "recorded" : "full" };
  if (share(recorded(mine), recorded(theirs))) return { kind: "split-brain", copy: "recorded" };
  return share(earlier(mine), earlier(theirs)) ? { kind: "split-brain", copy: "full" } : unrelated;
}

/** Those that the record of a side holds for: what differs from any of them is in it. */
function recorded({ bitmap, offered: given }: Generations): Generation[] {
  return [bitmap, given].filter((generation) => generation !== NO_GENERATION);
}

/** Those that a side had before its current one. */
function earlier(side: Generations): Generation[] {
  return [...recorded(side), ...side.history.filter((generation) => generation !== NO_GENERATION)];
}

function share(one: readonly Generation[], other: readonly Generation[]): boolean {
  return one.some((generation) => other.includes(generation));
}
