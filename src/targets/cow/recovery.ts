/**
 * Reads a store back: which originals it has, and what of its last append is whole.
 *
 * Invariant: what was durable is found. What an append was interrupted in is told by the blocks' checksums; its host writes
 * have not reached the volume, so each such block is moved again, under its old epoch, before anything relies on it: in later
 * recoveries the newer of two copies counts. Everything that is found is durable when this returns, since a copy that
 * is only in a cache would be taken for one that is not.
 */
import { crc32 } from "node:zlib";
import type { ByteStorage } from "../../nvram/byte-storage.ts";
import { UblkError } from "../../ublk/errors.ts";
import { decodeCatalog, type CatalogContent } from "./catalog.ts";
import { FROM_VOLUME } from "./moves.ts";
import { PARTIAL_PLACES, SUPERBLOCK_OFFSETS, type Layout } from "./layout.ts";
import { Segments } from "./segments.ts";
import { decodeSuperblock, SUPERBLOCK_BYTES, type Superblock } from "./superblock.ts";
import { TableSector, type TableSectorHeader } from "./table-sector.ts";
import { NONE, VersionMap } from "./version-map.ts";

/** A block whose last move was interrupted. */
export interface TornEntry {
  readonly block: number;
  /** What it was to get. */
  readonly epoch: number;
  /** The slot where it still lies, or FROM_VOLUME. */
  readonly source: number;
}

export interface RecoveredStore {
  readonly map: VersionMap;
  readonly segments: Segments;
  readonly catalog: CatalogContent;
  /** The area that the next catalogue goes to may hold part of one that was never told of. */
  readonly isCatalogTorn: boolean;
  /** The last that was given out: points or originals have it. */
  readonly lastEpoch: number;
  /** Segments up to this sequence are known to be whole. */
  readonly settled: number;
  readonly entriesBefore: number;
  readonly torn: readonly TornEntry[];
  /** A table is damaged: originals may be missing, and nobody knows which. */
  readonly isDamaged: boolean;
}

/** The newest whole superblock. Throws ESTORE, EVERSION. */
export function readSuperblock(file: ByteStorage): Superblock {
  let newest: Superblock | undefined;
  for (const offset of SUPERBLOCK_OFFSETS) {
    if (file.sizeBytes < offset + SUPERBLOCK_BYTES) continue;
    const superblock = decodeSuperblock(file.read(offset, SUPERBLOCK_BYTES));
    if (superblock !== undefined && (newest === undefined || superblock.sequence > newest.sequence))
      newest = superblock;
  }
  if (newest === undefined) {
    throw new UblkError("ESTORE", "it has no whole superblock: it is no store of originals, or it is damaged");
  }
  return newest;
}

function readCatalog(
  file: ByteStorage,
  layout: Layout,
  salt: number,
): Pick<RecoveredStore, "catalog" | "isCatalogTorn"> {
  let newest: CatalogContent | undefined;
  let whole = 0;
  for (const area of [0, 1]) {
    const content = decodeCatalog(file.read(layout.catalogOffset(area), layout.geometry.catalogBytes), salt);
    if (content === undefined) continue;
    whole++;
    if (newest === undefined || content.sequence > newest.sequence) newest = content;
  }
  if (newest === undefined) throw new UblkError("ESTORE", "it has no whole catalogue: it is damaged");
  return { catalog: newest, isCatalogTorn: whole < 2 };
}

/** What a segment's table says. */
interface SegmentTable {
  readonly segment: number;
  readonly sequence: number;
  /** Sectors with entries, in order. */
  readonly sectors: readonly { readonly sector: TableSector; readonly header: TableSectorHeader }[];
  readonly entries: number;
  readonly durable: number;
  readonly settled: number;
  readonly durableBefore: number;
  readonly hasHole: boolean;
}

function readTable(file: ByteStorage, layout: Layout, salt: number, segment: number): SegmentTable | undefined {
  const { sectorBytes } = layout.geometry;
  const bytes = file.read(layout.tableOffset(segment), layout.tableBytes);
  const places = Array.from({ length: PARTIAL_PLACES + layout.fullSectors }, (_, place) => {
    const sector = new TableSector(bytes.subarray(place * sectorBytes, (place + 1) * sectorBytes), salt);
    return { sector, header: sector.read() };
  });
  // A segment that is used again still has sectors of its former uses.
  const sequence = Math.max(...places.map(({ header }) => header?.sequence ?? 0));
  if (sequence === 0) return undefined;
  const current = places.map(({ sector, header }, place) => {
    if (header?.sequence !== sequence) return undefined;
    const isAtPlace = place < PARTIAL_PLACES || header.index === place - PARTIAL_PLACES;
    return isAtPlace ? { sector, header } : undefined;
  });
  const full = current.slice(PARTIAL_PLACES);
  const firstMissing = full.findIndex((each) => each === undefined);
  const whole = firstMissing < 0 ? full.length : firstMissing;
  const partial = current
    .slice(0, PARTIAL_PLACES)
    .filter((each) => each?.header.index === whole)
    .sort((one, other) => (other?.header.count ?? 0) - (one?.header.count ?? 0))[0];
  const sectors = [...full.slice(0, whole), partial].filter((each) => each !== undefined);
  const all = current.filter((each) => each !== undefined).map(({ header }) => header);
  const entries = sectors.reduce((sum, { header }) => sum + header.count, 0);
  const durable = Math.max(...all.map((header) => header.durable));
  return {
    segment,
    sequence,
    sectors,
    entries,
    durable,
    settled: Math.max(...all.map((header) => header.settled)),
    durableBefore: Math.max(...all.map((header) => header.durableBefore)),
    // What was durable when any of the sectors was written must still be there.
    hasHole: durable > entries,
  };
}

/** Reads all of a store. Throws ESTORE. */
export function recoverStore(file: ByteStorage, layout: Layout, salt: number): RecoveredStore {
  file.sync();
  const { catalog, isCatalogTorn } = readCatalog(file, layout, salt);
  const tables: SegmentTable[] = [];
  const sequences = new Uint32Array(layout.geometry.segments);
  for (let segment = 0; segment < layout.geometry.segments; segment++) {
    const table = readTable(file, layout, salt, segment);
    if (table === undefined) continue;
    tables.push(table);
    sequences[segment] = table.sequence;
  }
  // The newer of two copies counts.
  tables.sort((one, other) => one.sequence - other.sequence);
  const map = new VersionMap();
  const settled = tables.reduce((most, table) => Math.max(most, table.settled), 0);
  const torn = new Map<string, TornEntry>();
  const lastEpochs = tables.map((table) => lastEpochOf(table));
  for (const table of tables) enterTable(file, layout, table, table.sequence <= settled, map, torn);
  return {
    map,
    segments: segmentsOf(map, layout, sequences),
    catalog,
    isCatalogTorn,
    lastEpoch: lastEpochs.reduce((most, epoch) => Math.max(most, epoch), catalog.lastEpoch),
    settled,
    entriesBefore: tables.at(-1)?.entries ?? 0,
    torn: [...torn.values()],
    isDamaged: tables.some((table, index) => table.hasHole || lacksEntries(tables[index - 1], table)),
  };
}

/** A segment is in use if a version that counts lies in it. */
function segmentsOf(map: VersionMap, layout: Layout, sequences: Uint32Array): Segments {
  const segments = new Segments(sequences);
  for (let bucket = 0; bucket < map.buckets; bucket++) {
    for (let version = map.firstOf(bucket); version !== NONE; version = map.after(version))
      segments.want(layout.segmentOf(map.slot(version)));
  }
  segments.releaseUnwanted();
  return segments;
}

/** A segment says how many durable entries the one before it had. That one may have been used again since. */
function lacksEntries(before: SegmentTable | undefined, table: SegmentTable): boolean {
  return before?.sequence === table.sequence - 1 && before.entries < table.durableBefore;
}

function enterTable(
  file: ByteStorage,
  layout: Layout,
  table: SegmentTable,
  isSettled: boolean,
  map: VersionMap,
  torn: Map<string, TornEntry>,
): void {
  let entry = 0;
  for (const { sector, header } of table.sectors) {
    for (let at = 0; at < header.count; at++, entry++) {
      const slot = table.segment * layout.geometry.slotsPerSegment + entry;
      const block = sector.block(at);
      const epoch = sector.epoch(at);
      const checksum = sector.checksum(at);
      const older = map.findExactly(block, epoch);
      if (!isSettled && entry >= table.durable && !isWhole(file, layout, slot, checksum)) {
        torn.set(keyOf(block, epoch), { block, epoch, source: older === NONE ? FROM_VOLUME : map.slot(older) });
        continue;
      }
      torn.delete(keyOf(block, epoch));
      if (older !== NONE) map.remove(older);
      map.add(block, epoch, slot, checksum, sector.flags(at));
    }
  }
}

/** A block may be torn in several of its versions: one append has originals and what is moved within the store. */
function keyOf(block: number, epoch: number): string {
  return `${block}@${epoch}`;
}

/** The largest epoch of a segment's entries. */
function lastEpochOf({ sectors }: SegmentTable): number {
  let last = 0;
  for (const { sector, header } of sectors) {
    for (let at = 0; at < header.count; at++) last = Math.max(last, sector.epoch(at));
  }
  return last;
}

function isWhole(file: ByteStorage, layout: Layout, slot: number, checksum: number): boolean {
  return crc32(file.read(layout.slotOffset(slot), layout.geometry.blockBytes)) === checksum;
}
