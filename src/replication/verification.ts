/**
 * Compares all of a mirrored volume with what the receiver has, while the host goes on.
 *
 * Invariants. A block counts as different only where nothing on its way could be the reason: it was not written since the last
 * point that the receiver has committed, and is not to be copied (MirrorTarget.look). A block that was left out for that gets to
 * the receiver anew with a point that comes, so nothing that differed stays. What was asked when the connection ended is asked
 * again. Bounded: one part is read at a time.
 */
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import type { Comparison } from "./comparison.ts";
import type { BlockGeometry } from "./point-items.ts";
import type { SourceVolume } from "./sender.ts";
import { hasBit, rangeSectors, sumsBlocksMax, type BlockRange } from "./sums.ts";

/** So many places that differ are told one by one. */
const PLACES_MAX = 16;

/** "repairing": all was compared, and what differs is being copied. */
export type VerificationState = "comparing" | "repairing" | "done";

export interface VerificationStatus {
  /** Counts them: who has begun one knows it by that. */
  readonly number: number;
  readonly state: VerificationState;
  readonly isRepairing: boolean;
  /** Of the volume, and how far it is; in bytes. */
  readonly sizeBytes: number;
  readonly doneBytes: number;
  /** Of what is done: blocks that differ; those that were on their way to the receiver; what could not be read here. */
  readonly differentBytes: number;
  readonly onTheirWayBytes: number;
  readonly unreadBytes: number;
  /** The first places that differ, in bytes. */
  readonly places: readonly { readonly offset: number; readonly length: number }[];
}

export interface VerificationParts {
  readonly number: number;
  readonly isRepairing: boolean;
  readonly volume: SourceVolume;
  readonly comparison: Comparison;
  readonly geometry: BlockGeometry;
  /** Whether a part may be read now. */
  readonly mayLook: () => boolean;
  /** The first point that can show what was ordered before now. */
  readonly nextPoint: () => number;
  /** Counts on. */
  readonly totals: { comparedBytes: number; differentBytes: number };
}

export class Verification {
  readonly #parts: VerificationParts;
  readonly #blocks: number;
  #state: VerificationState = "comparing";
  /** The next block to be read; all before #compared have been compared. */
  #next = 0;
  #compared = 0;
  #isLooking = false;
  #hasEnded = false;
  /** Grows with each connection that ends, so that what was begun in an earlier one is known. */
  #round = 0;
  #differentSectors = 0;
  #onTheirWaySectors = 0;
  #unreadSectors = 0;
  readonly #places: { offset: number; length: number }[] = [];
  /** A closed point from this one on has all that was repaired. */
  #repairedBy = 0;

  constructor(parts: VerificationParts) {
    this.#parts = parts;
    this.#blocks = Math.ceil(parts.geometry.volumeSectors / parts.geometry.blockSectors);
  }

  get status(): VerificationStatus {
    const { number, isRepairing, geometry } = this.#parts;
    const doneSectors = Math.min(this.#compared * geometry.blockSectors, geometry.volumeSectors);
    return {
      ...{ number, isRepairing, state: this.#state, places: [...this.#places] },
      sizeBytes: geometry.volumeSectors * SECTOR_BYTES,
      doneBytes: doneSectors * SECTOR_BYTES,
      differentBytes: this.#differentSectors * SECTOR_BYTES,
      onTheirWayBytes: this.#onTheirWaySectors * SECTOR_BYTES,
      unreadBytes: this.#unreadSectors * SECTOR_BYTES,
    };
  }

  /** Reads the next part, if it may. */
  pump(): void {
    const { volume, geometry, mayLook } = this.#parts;
    if (this.#isLooking || this.#hasEnded || this.#next >= this.#blocks || !mayLook()) return;
    const range = { block: this.#next, blocks: Math.min(sumsBlocksMax(geometry), this.#blocks - this.#next) };
    const round = this.#round;
    this.#isLooking = true;
    volume.look(range.block * geometry.blockSectors, rangeSectors(range, geometry), (result, bytes, onTheirWay) => {
      this.#isLooking = false;
      if (round === this.#round) this.#looked(range, result, bytes, onTheirWay);
      this.pump();
    });
  }

  #looked(range: BlockRange, result: number, bytes: Uint8Array, onTheirWay: Uint8Array): void {
    const { comparison, geometry } = this.#parts;
    if (result < 0) {
      // It has to wait for those before it: what is done is done up to one place.
      if (!comparison.isIdle) return;
      this.#unreadSectors += rangeSectors(range, geometry);
      this.#done(range);
      return;
    }
    this.#next = range.block + range.blocks;
    const round = this.#round;
    comparison.ask(range, bytes, (differs) => {
      if (round === this.#round) this.#answered(range, differs, onTheirWay);
    });
  }

  #answered(range: BlockRange, differs: Uint8Array, onTheirWay: Uint8Array): void {
    const { geometry, totals } = this.#parts;
    for (let index = 0; index < range.blocks; index++) {
      const block = range.block + index;
      if (hasBit(onTheirWay, index)) this.#onTheirWaySectors += rangeSectors({ block, blocks: 1 }, geometry);
      else if (hasBit(differs, index)) this.#differs(block);
    }
    totals.comparedBytes += rangeSectors(range, geometry) * SECTOR_BYTES;
    this.#done(range);
  }

  #differs(block: number): void {
    const { volume, geometry, isRepairing, totals } = this.#parts;
    const sector = block * geometry.blockSectors;
    const sectors = rangeSectors({ block, blocks: 1 }, geometry);
    const offset = sector * SECTOR_BYTES;
    const length = sectors * SECTOR_BYTES;
    this.#differentSectors += sectors;
    totals.differentBytes += length;
    const last = this.#places.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else if (this.#places.length < PLACES_MAX) this.#places.push({ offset, length });
    if (isRepairing) volume.lacks(sector, sectors);
  }

  #done({ block, blocks }: BlockRange): void {
    this.#compared = block + blocks;
    this.#next = Math.max(this.#next, this.#compared);
    if (this.#compared < this.#blocks) return;
    const { isRepairing, nextPoint } = this.#parts;
    this.#state = isRepairing && this.#differentSectors > 0 ? "repairing" : "done";
    this.#repairedBy = nextPoint();
  }

  /** The receiver has a closed point. */
  closed(point: number): void {
    if (this.#state === "repairing" && point >= this.#repairedBy) this.#state = "done";
  }

  /** Nobody wants to know any more. */
  end(): void {
    this.#hasEnded = true;
    this.interrupted();
  }

  /** The connection is gone: what was not answered is compared again on the next. */
  interrupted(): void {
    this.#round++;
    this.#next = this.#compared;
  }
}
