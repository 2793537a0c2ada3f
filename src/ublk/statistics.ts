/**
 * Counters and latencies of a queue, in memory that the worker writes and any thread reads.
 *
 * One writer, plain stores: a reader may be a few requests behind, never wrong by more. Latencies are kept in a
 * log-linear histogram (16 steps per power of two, so a percentile is exact to 6 %), in microseconds from the moment when
 * the worker was handed the request to the moment when it handed the answer to the kernel.
 */
import { OPERATION_NAMES, type OperationName } from "./request.ts";

const STEPS = 16;
const STEP_BITS = 4;
const BUCKETS = STEPS * 29;
const OPERATIONS = OPERATION_NAMES.length;

/** Offsets within the numbers of one operation. */
const COUNT = 0;
const BYTES = 1;
const ERRORS = 2;
const TOTAL_US = 3;
const HISTOGRAM = 4;
const NUMBERS = HISTOGRAM + BUCKETS;

const HEADER_BYTES = 64;

/** 32-bit words of the header. */
export const PULSE = {
  /** Grows with every turn of the worker's loop. */
  turns: 0,
  /** 1 while the worker is at work, 0 while it waits in the ring. */
  atWork: 1,
  /** Requests that are with the target. */
  inFlight: 2,
} as const;

export interface OperationStatistics {
  readonly count: number;
  readonly bytes: number;
  readonly errors: number;
  readonly totalUs: number;
  /** Upper bounds in microseconds, undefined where nothing was counted. */
  readonly latencyUs: {
    readonly p50: number;
    readonly p90: number;
    readonly p99: number;
    readonly p999: number;
  } | null;
}

export type DeviceStatistics = Readonly<Record<OperationName, OperationStatistics>> & { readonly inFlight: number };

/** Which bucket a latency falls into. */
export function bucketOf(us: number): number {
  const whole = us | 0;
  if (whole < STEPS) return whole < 0 ? 0 : whole;
  const exponent = 31 - Math.clz32(whole);
  return (exponent - STEP_BITS + 1) * STEPS + ((whole >>> (exponent - STEP_BITS)) & (STEPS - 1));
}

/** The largest whole latency that falls into a bucket, in microseconds. */
export function bucketTop(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const exponent = Math.floor(bucket / STEPS) - 1 + STEP_BITS;
  const step = 2 ** (exponent - STEP_BITS);
  return 2 ** exponent + ((bucket % STEPS) + 1) * step - 1;
}

export class QueueStatistics {
  readonly shared: SharedArrayBuffer;
  readonly pulse: Int32Array;
  readonly #numbers: Float64Array;

  /** Makes new statistics, or looks at those that another thread made. */
  constructor(shared = new SharedArrayBuffer(HEADER_BYTES + OPERATIONS * NUMBERS * 8)) {
    this.shared = shared;
    this.pulse = new Int32Array(shared, 0, HEADER_BYTES / 4);
    this.#numbers = new Float64Array(shared, HEADER_BYTES);
  }

  /** Counts an answered request. `result` as it went to the kernel. */
  count(operation: number, lengthBytes: number, result: number, us: number): void {
    const numbers = this.#numbers;
    const at = operation * NUMBERS;
    (numbers[at + COUNT] as number)++;
    if (result < 0) (numbers[at + ERRORS] as number)++;
    else numbers[at + BYTES] = (numbers[at + BYTES] as number) + lengthBytes;
    numbers[at + TOTAL_US] = (numbers[at + TOTAL_US] as number) + us;
    (numbers[at + HISTOGRAM + bucketOf(us)] as number)++;
  }

  get numbers(): Float64Array {
    return this.#numbers;
  }
}

/** The sum over the queues of a device. */
export function summarise(queues: readonly QueueStatistics[]): DeviceStatistics {
  const total = new Float64Array(OPERATIONS * NUMBERS);
  let inFlight = 0;
  for (const queue of queues) {
    inFlight += Atomics.load(queue.pulse, PULSE.inFlight);
    for (let index = 0; index < total.length; index++) {
      total[index] = (total[index] as number) + (queue.numbers[index] as number);
    }
  }
  const named: [string, OperationStatistics][] = [];
  OPERATION_NAMES.forEach((name, operation) => {
    if (name !== undefined) named.push([name, operationStatistics(total, operation * NUMBERS)]);
  });
  return { ...(Object.fromEntries(named) as Record<OperationName, OperationStatistics>), inFlight };
}

function operationStatistics(numbers: Float64Array, at: number): OperationStatistics {
  const histogram = numbers.subarray(at + HISTOGRAM, at + HISTOGRAM + BUCKETS);
  const counted = histogram.reduce((sum, value) => sum + value, 0);
  const percentile = (share: number): number => {
    let left = Math.ceil(counted * share);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= histogram[bucket] as number;
      if (left <= 0) return bucketTop(bucket);
    }
    return bucketTop(BUCKETS - 1);
  };
  return {
    count: numbers[at + COUNT] as number,
    bytes: numbers[at + BYTES] as number,
    errors: numbers[at + ERRORS] as number,
    totalUs: numbers[at + TOTAL_US] as number,
    latencyUs:
      counted === 0
        ? null
        : { p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99), p999: percentile(0.999) },
  };
}
