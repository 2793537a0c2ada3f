/** What the record must reach beside its peers, and whether it does. A target that is not reached says by how much. */
import { besideDefault, LIMIT_BYTES, SMALL_LIMIT_BYTES, type Comparison } from "./compare.ts";
import { SKEWED_TRACES, STREAM_TRACES } from "./synthetic-traces.ts";

const MIB = 2 ** 20;
const STREAM_UPDATES_PER_THOUSAND = 0.5;
const FEWER_UPDATES = 3;
const SMALLER = 8;
const BETTER_TRACES = 8;
/** Where nobody can predict anything, chance decides who misses a little more often. */
const CHANCE = 0.001;

export interface Verdict {
  readonly target: string;
  readonly reached: boolean;
  readonly detail: string;
}

function only(comparisons: readonly Comparison[], names: readonly string[]): Comparison[] {
  return comparisons.filter(({ trace }) => names.includes(trace));
}

function streamVerdict({ trace, small }: Comparison): Verdict {
  const { perThousand, maxBytes } = small.figures;
  const bound = small.oracle.perThousand;
  const beyond = bound > STREAM_UPDATES_PER_THOUSAND ? ", which no record of this size and chunk can" : "";
  return {
    target: `${trace}: at most ${STREAM_UPDATES_PER_THOUSAND} updates per 1,000 with ${SMALL_LIMIT_BYTES / MIB} MiB to copy`,
    reached: perThousand <= STREAM_UPDATES_PER_THOUSAND && maxBytes <= SMALL_LIMIT_BYTES,
    detail: `${perThousand.toFixed(2)}; perfect knowledge ${bound.toFixed(2)}${beyond}`,
  };
}

function skewedVerdicts(comparison: Comparison): Verdict[] {
  const { trace, smallestBytes, bound } = comparison;
  const { figures, ours } = besideDefault(comparison);
  const fewer = figures.updates / ours.figures.updates;
  const smaller = smallestBytes === null ? 0 : figures.maxBytes / smallestBytes;
  return [
    {
      target: `${trace}: at DRBD's size, at most 1/${FEWER_UPDATES} of its updates`,
      reached: fewer >= FEWER_UPDATES,
      detail:
        `${ours.figures.updates} beside ${figures.updates}: 1/${fewer.toFixed(2)}` +
        (bound === null ? "" : `; without order, no record has fewer than ${bound.updatesAtItsSize}`),
    },
    {
      target: `${trace}: at DRBD's updates, at most 1/${SMALLER} of its size`,
      reached: smaller >= SMALLER,
      detail:
        smallestBytes === null
          ? "not as few updates at any size"
          : `${mib(smallestBytes)} beside ${mib(figures.maxBytes)} MiB: 1/${smaller.toFixed(2)}` +
            (bound === null ? "" : `; without order, none needs less than ${mib(bound.bytesAtItsUpdates)}`),
    },
  ];
}

function isBetter(comparison: Comparison): boolean {
  const { figures } = besideDefault(comparison);
  const ours = comparison.ours.figures;
  return ours.updates < figures.updates && ours.maxBytes < figures.maxBytes;
}

function betterVerdict(comparisons: readonly Comparison[], real: readonly string[]): Verdict {
  const better = comparisons.filter(isBetter).map(({ trace }) => trace);
  const missing = real.filter((trace) => !better.includes(trace));
  return {
    target: `better than DRBD by default in updates and in size, with ${LIMIT_BYTES / MIB} MiB: ${BETTER_TRACES} traces, all real ones among them`,
    reached: better.length >= BETTER_TRACES && missing.length === 0,
    detail: `${better.length} of ${comparisons.length}: ${better.join(", ")}${missing.length > 0 ? `; not ${missing.join(", ")}` : ""}`,
  };
}

function neverWorseVerdict(comparisons: readonly Comparison[]): Verdict {
  const pairs = comparisons.flatMap(({ trace, activityLogs }) => activityLogs.map((each) => ({ trace, ...each })));
  const worse = pairs.filter(({ figures, ours }) => ours.figures.updates > figures.updates * (1 + CHANCE));
  return {
    target: `never more updates than DRBD at equal size, but for chance (${CHANCE * 1000} in 1,000)`,
    reached: worse.length === 0,
    detail:
      worse.length === 0
        ? `${pairs.length} pairs`
        : worse
            .map(({ trace, extents, figures, ours }) =>
              [`${trace}, ${extents} extents:`, ours.figures.updates, "beside", figures.updates].join(" "),
            )
            .join("; "),
  };
}

function mib(bytes: number): string {
  return (bytes / MIB).toFixed(0);
}

/** `real` are the names of the traces of real programs. */
export function verdictsOf(comparisons: readonly Comparison[], real: readonly string[]): Verdict[] {
  return [
    ...only(comparisons, STREAM_TRACES).map(streamVerdict),
    ...only(comparisons, SKEWED_TRACES).flatMap(skewedVerdicts),
    betterVerdict(comparisons, real),
    neverWorseVerdict(comparisons),
  ];
}
