/** What each record makes of a trace, as points: updates per 1,000 writes against the most there was to copy. */
import { activityLogOf, oursAt } from "./compare.ts";
import { AL_EXTENTS } from "./models/activity-log.ts";
import { LocklessBitmap } from "./models/lockless-bitmap.ts";
import { MdBitmap } from "./models/md-bitmap.ts";
import { measure, type Figures } from "./models/model.ts";
import type { Trace } from "./trace.ts";

const MIB = 2 ** 20;
const LIMITS = Array.from({ length: 11 }, (_, step) => 8 * MIB * 2 ** step);

export interface Frontier {
  readonly trace: string;
  /** Ours, and perfect knowledge, from the smallest limit to the largest. */
  readonly ours: readonly Figures[];
  readonly oracle: readonly Figures[];
  readonly activityLog: readonly Figures[];
  readonly mdBitmap: Figures;
  readonly locklessBitmap: Figures;
}

export function frontierOf(trace: Trace): Frontier {
  const points = LIMITS.map((limitBytes) => oursAt(trace, limitBytes));
  return {
    trace: trace.name,
    ours: points.map(({ figures }) => figures),
    oracle: points.map(({ oracle }) => oracle),
    activityLog: Object.values(AL_EXTENTS).map((extents) => activityLogOf(trace, extents)),
    mdBitmap: measure(new MdBitmap(), trace),
    locklessBitmap: measure(new LocklessBitmap(trace.volumeBytes), trace),
  };
}
