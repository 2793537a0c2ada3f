/** What copy-on-write counts, in memory that another thread may read. */
import { indexOf, SharedCounts } from "../../nvram/shared-counts.ts";

const NAMES = [
  /** Writes, discards and zeroes that had to wait. */
  "held",
  /** Of those, held at this moment. */
  "holding",
  /** Originals moved to the store. */
  "moved",
  /** Bytes of the volume that were read for it. */
  "readBytes",
  /** Bytes written to the store, tables included. */
  "writtenBytes",
  /** Blocks copied within the store to make room. */
  "relocated",
  /** Originals that could not be read, and are lost to the points that want them. */
  "lost",
  /** Points given up, for want of room or because the store failed. */
  "givenUp",
  /** Slots that hold what is wanted, and slots that can be filled without making room. */
  "usedSlots",
  "freeSlots",
] as const;

export type CowCount = (typeof NAMES)[number];
export type CowNumbers = Readonly<Record<CowCount, number>>;

export const COW_COUNT = indexOf(NAMES);

export class CowCounts extends SharedCounts<CowCount> {
  constructor(shared?: SharedArrayBuffer) {
    super(NAMES, shared);
  }
}
