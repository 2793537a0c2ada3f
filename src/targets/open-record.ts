/** Puts a record over a target: what was durable is loaded, and counts as owed to the remote. */
import type { Drain } from "../nvram/drain.ts";
import type { RecordPlace } from "../nvram/nvram-file.ts";
import type { Persistence } from "../nvram/persistence.ts";
import { PersistentRecordStore } from "../nvram/record-store.ts";
import { RecordCounts } from "../nvram/record-counts.ts";
import { PredictiveRecord } from "../nvram/record.ts";
import type { Target, TargetContext } from "../ublk/target.ts";
import { RecordTarget } from "./record.ts";

export interface RecordSetup {
  readonly place: RecordPlace;
  readonly limitChunks: number;
  /** RecordOptions.growsWithOwed. */
  readonly growsWithOwed?: boolean | undefined;
  /** Where the states of chunks are kept; private unless given. */
  readonly states?: SharedArrayBuffer | undefined;
  /** Where to count (RecordCounts); private unless given. */
  readonly counts?: SharedArrayBuffer | undefined;
}

export interface OpenRecord {
  readonly target: RecordTarget;
  readonly record: PredictiveRecord;
  /** Lines that were damaged, and read as members all through. */
  readonly damagedLines: number;
}

/** What a target below a record is opened with: room for one request more, the record's own flush. */
export function belowRecord<T extends TargetContext>(context: T): T {
  return { ...context, depth: context.depth + 1 };
}

/** What is below a record, and who copies what it owes to the remote. */
export interface BelowRecord {
  readonly drain: Drain;
  readonly next: Target;
}

/** What `openBelow` gives has been opened with `belowRecord(context)`. */
export function openRecord(
  setup: RecordSetup,
  persistence: Persistence,
  openBelow: (record: PredictiveRecord) => BelowRecord,
  context: TargetContext,
): OpenRecord {
  const { place, limitChunks, growsWithOwed, states, counts } = setup;
  const store = new PersistentRecordStore(persistence, place.chunks, place.salt);
  const { chunks, chunkBytes } = place;
  const record = new PredictiveRecord({
    chunks,
    chunkBytes,
    limitChunks,
    growsWithOwed,
    states,
    counts: new RecordCounts(counts),
    store,
  });
  const damagedLines = store.load((chunk) => {
    record.restore(chunk);
  });
  if (damagedLines > 0) record.repair();
  const { drain, next } = openBelow(record);
  drain.begin();
  const target = new RecordTarget(record, drain, chunkBytes, next, context);
  return { target, record, damagedLines };
}
