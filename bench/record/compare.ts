/**
 * All records over one trace.
 *
 * Invariant. Where two records are compared at equal size, ours has as its limit the most that the other held, so that it
 * never has more to copy after a crash.
 */
import { ActivityLog, AL_EXTENTS } from "./models/activity-log.ts";
import { LocklessBitmap } from "./models/lockless-bitmap.ts";
import { MdBitmap } from "./models/md-bitmap.ts";
import { measure, type Figures } from "./models/model.ts";
import { Oracle } from "./models/oracle.ts";
import { CHUNK_BYTES, Predictive } from "./models/predictive.ts";
import { UNORDERED_TRACE, unorderedLaw } from "./synthetic-traces.ts";
import type { Trace } from "./trace.ts";
import { UnorderedBound } from "./unordered-bound.ts";

const MIB = 2 ** 20;
/** The limit that every trace is run with. */
export const LIMIT_BYTES = 256 * MIB;
/** The limit under which streams must cost next to nothing. */
export const SMALL_LIMIT_BYTES = 32 * MIB;
/** The search for the smallest limit goes in so many steps for each doubling. */
const STEPS_PER_DOUBLING = 8;
const LEAST_LIMIT_BYTES = 8 * MIB;

/** Ours with a limit, and what perfect knowledge would make of that limit. */
export interface Ours {
  readonly limitBytes: number;
  readonly figures: Figures;
  readonly oracle: Figures;
}

/** DRBD with some extents, and ours with as much to copy. */
export interface BesideActivityLog {
  readonly extents: number;
  readonly figures: Figures;
  readonly ours: Ours;
}

export interface Comparison {
  readonly trace: string;
  readonly writes: number;
  readonly activityLogs: readonly BesideActivityLog[];
  readonly mdBitmap: Figures;
  readonly locklessBitmap: Figures;
  readonly ours: Ours;
  readonly small: Ours;
  /** Ours at LIMIT_BYTES without any prediction. */
  readonly unpredicted: Figures;
  /** The smallest limit under which ours needs no more updates than DRBD by default; null where none was found. */
  readonly smallestBytes: number | null;
  /** Where writes have no order: what no record can do better beside DRBD by default. Null elsewhere. */
  readonly bound: { readonly updatesAtItsSize: number; readonly bytesAtItsUpdates: number } | null;
}

export function oursAt(trace: Trace, limitBytes: number): Ours {
  return {
    limitBytes,
    figures: measure(new Predictive(trace, limitBytes), trace),
    oracle: measure(new Oracle(trace, CHUNK_BYTES, limitBytes), trace),
  };
}

export function activityLogOf(trace: Trace, extents: number): Figures {
  return measure(new ActivityLog(trace.volumeBytes, extents), trace);
}

/** By bisection: as if more room never meant more updates, which is true but for a few. */
function smallestLimit(trace: Trace, updates: number, mostBytes: number): number | null {
  const limitAt = (step: number): number =>
    Math.min(mostBytes, Math.ceil((LEAST_LIMIT_BYTES * 2 ** (step / STEPS_PER_DOUBLING)) / CHUNK_BYTES) * CHUNK_BYTES);
  const suffices = (limitBytes: number): boolean =>
    measure(new Predictive(trace, limitBytes), trace).updates <= updates;
  let high = Math.ceil(Math.log2(mostBytes / LEAST_LIMIT_BYTES) * STEPS_PER_DOUBLING);
  if (!suffices(limitAt(high))) return null;
  for (let low = 0; low < high;) {
    const middle = (low + high) >> 1;
    if (suffices(limitAt(middle))) high = middle;
    else low = middle + 1;
  }
  return limitAt(high);
}

function boundBeside(trace: Trace, { maxBytes, updates }: Figures): Comparison["bound"] {
  if (trace.name !== UNORDERED_TRACE) return null;
  const bound = new UnorderedBound(trace, unorderedLaw(CHUNK_BYTES), CHUNK_BYTES);
  return {
    updatesAtItsSize: Math.floor(bound.updatesWith(maxBytes / CHUNK_BYTES)),
    bytesAtItsUpdates: bound.chunksFor(updates) * CHUNK_BYTES,
  };
}

export function compare(trace: Trace): Comparison {
  const activityLogs = Object.values(AL_EXTENTS).map((extents) => {
    const figures = activityLogOf(trace, extents);
    return { extents, figures, ours: oursAt(trace, figures.maxBytes) };
  });
  const byDefault = activityLogOf(trace, AL_EXTENTS.default);
  return {
    trace: trace.name,
    writes: trace.length,
    activityLogs,
    mdBitmap: measure(new MdBitmap(), trace),
    locklessBitmap: measure(new LocklessBitmap(trace.volumeBytes), trace),
    ours: oursAt(trace, LIMIT_BYTES),
    small: oursAt(trace, SMALL_LIMIT_BYTES),
    unpredicted: measure(new Predictive(trace, LIMIT_BYTES, null), trace),
    smallestBytes: smallestLimit(trace, byDefault.updates, byDefault.maxBytes),
    bound: boundBeside(trace, byDefault),
  };
}

/** DRBD as it is installed. */
export function besideDefault({ activityLogs }: Comparison): BesideActivityLog {
  const found = activityLogs.find(({ extents }) => extents === AL_EXTENTS.default);
  if (found === undefined) throw new RangeError("the default activity log was not measured");
  return found;
}
