/**
 * Where things lie in a store of originals. All positions are in bytes from the start of the file or device.
 *
 *     0      superblock, slot A          8192   catalogue, area A, then area B
 *     4096   superblock, slot B          then   segments, one after another
 *
 * A segment is `slotsPerSegment` slots of one block each, and its table behind them: two places for a table sector that is
 * not full yet (they take turns), then a place for each full one.
 */
import { UblkError } from "../../ublk/errors.ts";

export const SUPERBLOCK_OFFSETS = [0, 4096] as const;
/** Bytes of a table sector before its entries, and of each entry. */
export const TABLE_HEADER_BYTES = 32;
export const ENTRY_BYTES = 16;
/** Places of table sectors that are not full. */
export const PARTIAL_PLACES = 2;
const CATALOG_OFFSET = 8192;
const ALIGNMENT_BYTES = 4096;
/** Slots are numbered in 31 bits. */
const SLOTS_MAX = 2 ** 31 - 1;

export interface Geometry {
  /** What is moved as a whole: a multiple of the sector. */
  readonly blockBytes: number;
  /** What is written at once without tearing: 512, or 4096 where the store has no smaller blocks. */
  readonly sectorBytes: number;
  readonly slotsPerSegment: number;
  readonly segments: number;
  /** Of one of the two areas of the catalogue. */
  readonly catalogBytes: number;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

export class Layout {
  readonly geometry: Geometry;
  readonly entriesPerSector: number;
  /** Table sectors of a full segment. */
  readonly fullSectors: number;
  readonly tableBytes: number;
  readonly segmentBytes: number;
  readonly slots: number;
  /** Of the whole store. */
  readonly sizeBytes: number;
  readonly #segmentsOffset: number;

  /** Throws ELAYOUT for a geometry that cannot be. */
  constructor(geometry: Geometry) {
    const { blockBytes, sectorBytes, slotsPerSegment, segments, catalogBytes } = geometry;
    this.geometry = geometry;
    this.entriesPerSector = Math.floor((sectorBytes - TABLE_HEADER_BYTES) / ENTRY_BYTES);
    this.fullSectors = Math.ceil(slotsPerSegment / this.entriesPerSector);
    this.tableBytes = roundUp((PARTIAL_PLACES + this.fullSectors) * sectorBytes);
    this.segmentBytes = roundUp(slotsPerSegment * blockBytes) + this.tableBytes;
    this.slots = slotsPerSegment * segments;
    this.#segmentsOffset = CATALOG_OFFSET + 2 * roundUp(catalogBytes);
    this.sizeBytes = this.#segmentsOffset + segments * this.segmentBytes;
    const numbers = [blockBytes / sectorBytes, slotsPerSegment, segments, catalogBytes / sectorBytes];
    const isWhole = numbers.every((number) => Number.isInteger(number) && number > 0);
    if (isWhole && this.slots <= SLOTS_MAX && (sectorBytes === 512 || sectorBytes === 4096)) return;
    throw new UblkError("ELAYOUT", `A store cannot be laid out as ${JSON.stringify(geometry)}`);
  }

  catalogOffset(area: number): number {
    return CATALOG_OFFSET + area * roundUp(this.geometry.catalogBytes);
  }

  segmentOf(slot: number): number {
    return Math.floor(slot / this.geometry.slotsPerSegment);
  }

  slotOffset(slot: number): number {
    const { slotsPerSegment, blockBytes } = this.geometry;
    const segment = this.segmentOf(slot);
    return this.#segmentsOffset + segment * this.segmentBytes + (slot - segment * slotsPerSegment) * blockBytes;
  }

  tableOffset(segment: number): number {
    return this.#segmentsOffset + (segment + 1) * this.segmentBytes - this.tableBytes;
  }

  /** Of a full table sector, by its index in the segment. */
  fullSectorOffset(segment: number, index: number): number {
    return this.tableOffset(segment) + (PARTIAL_PLACES + index) * this.geometry.sectorBytes;
  }

  /** How many entries a full table sector has: the last one of a segment may have fewer than the others. */
  entriesOf(index: number): number {
    return Math.min(this.entriesPerSector, this.geometry.slotsPerSegment - index * this.entriesPerSector);
  }

  /** How many segments fit a file or device of so many bytes. */
  static segmentsWithin(sizeBytes: number, geometry: Omit<Geometry, "segments">): number {
    const one = new Layout({ ...geometry, segments: 1 });
    return Math.max(0, Math.floor((sizeBytes - (one.sizeBytes - one.segmentBytes)) / one.segmentBytes));
  }
}
