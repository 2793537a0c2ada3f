/**
 * A model of a record of what may differ from the remote: how often it is updated, and how much would be copied after a
 * crash.
 *
 * Invariant. When `write` has returned, the place that was written is covered by the record.
 */
import type { Trace } from "../trace.ts";

export interface RecordModel {
  /** Updates of the durable record so far. A host write waits for each but those that only clear. */
  readonly updates: number;
  /**
   * Flushes of the backing store that the record asked for beside its updates, so that places could leave it. Absent where
   * an update is itself a flush of the store, as DRBD's are.
   */
  readonly flushes?: number;
  /** What would be copied if the host crashed now. */
  readonly sizeBytes: number;
  write(offsetBytes: number, lengthBytes: number, timeUs: number): void;
}

export interface Figures {
  readonly updates: number;
  /** Updates per 1,000 writes. */
  readonly perThousand: number;
  readonly flushes: number | null;
  /** To copy after a crash at the worst moment, and on average over the writes. */
  readonly maxBytes: number;
  readonly meanBytes: number;
}

/** Runs a model over a whole trace. */
export function measure(model: RecordModel, trace: Trace): Figures {
  const { offsets, lengths, timesUs } = trace;
  let maxBytes = 0;
  let sumBytes = 0;
  for (let index = 0; index < trace.length; index++) {
    model.write(offsets[index] as number, lengths[index] as number, timesUs[index] as number);
    const { sizeBytes } = model;
    if (sizeBytes > maxBytes) maxBytes = sizeBytes;
    sumBytes += sizeBytes;
  }
  const { updates, flushes } = model;
  return {
    updates,
    perThousand: (updates * 1000) / trace.length,
    flushes: flushes ?? null,
    maxBytes,
    meanBytes: sumBytes / trace.length,
  };
}
