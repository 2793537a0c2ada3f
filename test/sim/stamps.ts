/**
 * The content of a sector in the simulation: a stamp that says which write put it there, and where it belongs, so that any
 * wrong sector names its origin.
 *
 *     0  4  sequence number of the write     8  4  checksum of the two
 *     4  4  sector that it was written for   (the rest is zero; a sector of zeroes has sequence 0)
 */

export const SECTOR_BYTES = 512;

export interface Stamp {
  readonly sequence: number;
  readonly sector: number;
}

function checksum(sequence: number, sector: number): number {
  return Math.imul(sequence ^ Math.imul(sector + 1, 0x85ebca6b), 0xc2b2ae35) >>> 0;
}

/** Stamps `sectors` sectors from `sector` on into the view, from byte 0. */
export function stamp(view: DataView, sequence: number, sector: number, sectors: number): void {
  for (let index = 0; index < sectors; index++) writeStamp(view, index * SECTOR_BYTES, sequence, sector + index);
}

export function writeStamp(view: DataView, at: number, sequence: number, sector: number): void {
  view.setUint32(at, sequence, true);
  view.setUint32(at + 4, sequence === 0 ? 0 : sector, true);
  view.setUint32(at + 8, sequence === 0 ? 0 : checksum(sequence, sector), true);
}

/** What lies at byte `at`. Throws for bytes that nobody has written. */
export function readStamp(view: DataView, at: number): Stamp {
  const sequence = view.getUint32(at, true);
  const sector = view.getUint32(at + 4, true);
  if (view.getUint32(at + 8, true) !== (sequence === 0 ? 0 : checksum(sequence, sector))) {
    throw new Error(`a sector of bytes that no write has made: ${sequence}, ${sector}`);
  }
  return { sequence, sector };
}
