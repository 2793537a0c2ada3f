/**
 * What a receiver's log tells when it is opened: transfers, and the points that were committed.
 *
 * Invariant: a point counts by its end, which says how many of the lists before it are its own. Of those that are in the image
 * already the last one is kept in mind: it tells what the image is, or is being brought away from.
 */
import { dataSectorsIn, logOf } from "../targets/mirror/transfer.ts";
import { decodePointRecord } from "./committed-point.ts";
import type { Generation } from "./generations.ts";
import type { FoundRecord, LogFinder } from "./log-recovery.ts";
import type { LastPoints } from "./log-superblock.ts";
import type { CommittedPoint, ReceiverState } from "./receiver.ts";
import { isBefore, NO_TRANSFER, type TransferId } from "./transfer-id.ts";
import { TransferIndex, type Logged } from "./transfer-index.ts";

/** A closed point that an image was when its log was made. */
export interface BasePoint {
  readonly point: number;
  readonly createdMs: number;
  readonly generation: Generation;
}

/** What is the same of each base: nothing lies behind it that the log could tell of. */
const NO_END = {
  ...{ cut: NO_TRANSFER, lists: 0, isClosed: true, isReplay: false, lastClosed: 0, records: [] },
  ...{ tail: { position: 0, link: 0 }, log: 0, next: NO_TRANSFER },
};

export class FoundLog implements LogFinder {
  readonly index = new TransferIndex();
  #last: TransferId = NO_TRANSFER;
  /** Lists by the number of their point. */
  readonly #lists = new Map<number, Logged[]>();
  readonly #points: CommittedPoint[] = [];

  transfer(incarnation: number, counter: number, { place, length }: FoundRecord, payload: Uint8Array): void {
    this.#last = { incarnation, counter };
    const { position } = place;
    this.index.add(this.#last, {
      ...{ position, length, place },
      dataSectors: dataSectorsIn(payload),
      log: logOf(payload),
    });
  }

  pointItems(point: number, { place, length }: FoundRecord): void {
    const lists = this.#lists.get(point) ?? [];
    this.#lists.set(point, lists);
    lists.push({ position: place.position, length });
  }

  pointEnd(point: number, _record: FoundRecord, payload: Uint8Array): void {
    const record = decodePointRecord(payload);
    const lists = this.#lists.get(point) ?? [];
    // Its transfers may have been released.
    if (isBefore(this.#last, record.cut)) this.#last = record.cut;
    this.#points.push({ ...record, point, records: lists.slice(lists.length - record.lists) });
  }

  /** Whose ends the log has, in their order: those that are applied among them. */
  get points(): readonly CommittedPoint[] {
    return this.#points;
  }

  /**
   * `points`: the last ones that the log's superblock tells of. `base`: what the image was when the log was made, where that was
   * a closed point: no end in the log tells of it.
   */
  state({ committed, applied }: LastPoints, base: BasePoint | null = null): ReceiverState {
    if (base !== null && this.#points.length === 0 && committed === base.point) {
      const lastEnd = { ...NO_END, ...base };
      return { last: this.#last, committed: [], lastPoint: committed, lastClosed: base.point, lastEnd };
    }
    const last = this.#points.findLast(({ point }) => point <= applied);
    const before = last ?? this.#points[0];
    const isAt = last !== undefined && last.isClosed;
    return {
      last: this.#last,
      committed: this.#points.filter(({ point }) => point > applied),
      lastPoint: Math.max(committed, this.#points.at(-1)?.point ?? 0),
      lastClosed: isAt ? last.point : (before?.lastClosed ?? 0),
      lastEnd: this.#points.at(-1) ?? null,
    };
  }
}
