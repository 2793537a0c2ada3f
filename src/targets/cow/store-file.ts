/** A store of originals as a whole: made, opened and checked, in plain steps, each durable before the next. */
import type { ByteStorage } from "../../nvram/byte-storage.ts";
import { UblkError } from "../../ublk/errors.ts";
import { encodeCatalog } from "./catalog.ts";
import { Layout, SUPERBLOCK_OFFSETS, type Geometry } from "./layout.ts";
import { readSuperblock } from "./recovery.ts";
import { encodeSuperblock } from "./superblock.ts";

/** Two segments are kept for making room; fewer than this would leave no room for anything else. */
export const SEGMENTS_MIN = 6;
const SEGMENT_BYTES = 8 * 2 ** 20;
const SEGMENT_SLOTS_MIN = 32;
const CATALOG_BYTES = 2 ** 20;
export const BLOCK_BYTES_MIN = 4096;
export const BLOCK_BYTES_MAX = 2 ** 20;

/** Whose store it is. */
export interface StoreOwner {
  readonly volume: string;
  readonly mark: bigint;
}

export interface OpenStore {
  readonly layout: Layout;
  readonly salt: number;
}

/** How a store of so many bytes is laid out. Throws ESIZE where it is too small. */
export function geometryFor(sizeBytes: number, blockBytes: number, sectorBytes: number): Geometry {
  const slotsPerSegment = Math.max(SEGMENT_SLOTS_MIN, SEGMENT_BYTES / blockBytes);
  const rest = { blockBytes, sectorBytes, slotsPerSegment, catalogBytes: CATALOG_BYTES };
  const segments = Layout.segmentsWithin(sizeBytes, rest);
  if (segments < SEGMENTS_MIN) {
    const wanted = new Layout({ ...rest, segments: SEGMENTS_MIN }).sizeBytes;
    throw new UblkError(
      "ESIZE",
      `a store with blocks of ${blockBytes} bytes needs ${wanted} bytes, found ${sizeBytes}`,
    );
  }
  return { ...rest, segments };
}

/** Makes a store. What was there before is gone. */
export function createStore(file: ByteStorage, owner: StoreOwner, geometry: Geometry, salt: number): void {
  const layout = new Layout(geometry);
  // The catalogue is whole before a superblock leads to it; tables of another store do not have this salt.
  const catalog = new Uint8Array(geometry.catalogBytes);
  const length = encodeCatalog(catalog, salt, { sequence: 1, lastEpoch: 0, points: [] });
  const used = Math.ceil(length / geometry.sectorBytes) * geometry.sectorBytes;
  file.write(layout.catalogOffset(1), catalog.subarray(0, used));
  file.sync();
  const superblock = { salt, sequence: 1, ...owner, geometry };
  for (const offset of SUPERBLOCK_OFFSETS) {
    const bytes = new Uint8Array(geometry.sectorBytes);
    bytes.set(encodeSuperblock(superblock));
    file.write(offset, bytes);
  }
  file.sync();
}

/** Checks whose store it is, and how it is laid out. Throws ESTORE, EVERSION, EOWNER, ESIZE. */
export function openStore(file: ByteStorage, owner: StoreOwner): OpenStore {
  const superblock = readSuperblock(file);
  if (superblock.mark !== owner.mark) {
    throw new UblkError("EOWNER", `it belongs to volume ${superblock.volume}, wanted ${owner.volume}`);
  }
  const layout = new Layout(superblock.geometry);
  if (layout.sizeBytes > file.sizeBytes) {
    throw new UblkError("ESIZE", `it has ${file.sizeBytes} bytes, but was made with ${layout.sizeBytes}: it was cut`);
  }
  return { layout, salt: superblock.salt };
}
