/**
 * Checksums of blocks, by which source and receiver find out where they differ without sending what is equal.
 * docs/protocol.md, "Sums".
 *
 * Invariant: blocks whose sums are equal are equal. It is a part of SHA-256, long enough that no two blocks that differ have the
 * same one by chance: whoever made two such blocks on purpose would harm his own volume only.
 *
 * Most of what is compared in a volume that is not full holds nothing but zeroes: their sums are known.
 *
 *     SUMS        0  8  first block      8  4  blocks     12  4  zero     16  -  16 bytes for each block
 *     SUMS_REPLY  0  8  first block      8  4  blocks     12  4  zero     16  -  a bit for each block, the lowest one first
 */
import { hash } from "node:crypto";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { UblkError } from "../ublk/errors.ts";
import { RUN_KIND, runSectors, type BlockGeometry } from "./point-items.ts";
import { getSafeNumber, setSafeNumber } from "./safe-number.ts";

/** So much of the volume is compared by one frame: no block is larger. */
export const SUMS_BYTES_MAX = 256 * 1024;
/** So many may be without an answer. */
export const SUMS_AHEAD_MAX = 16;

const SUM_BYTES = 16;
const HEAD_BYTES = 16;

const ZEROES = Buffer.alloc(SUMS_BYTES_MAX);
/** Of as many blocks of zeroes as one frame compares, by the bytes of a block: a power of two, so there are few. */
const zeroSums = new Map<number, Uint8Array>();

/** Blocks one behind the other. */
export interface BlockRange {
  readonly block: number;
  readonly blocks: number;
}

export interface Sums extends BlockRange {
  /** Of each block, one behind the other. */
  readonly sums: Uint8Array;
}

/** How many blocks one frame compares at most. */
export function sumsBlocksMax({ blockSectors }: BlockGeometry): number {
  return Math.floor(SUMS_BYTES_MAX / (blockSectors * SECTOR_BYTES));
}

/** How long blocks are; the last one of a volume may be a short one. */
export function rangeSectors(range: BlockRange, geometry: BlockGeometry): number {
  return runSectors({ ...range, kind: RUN_KIND.DATA, transfer: 0, place: 0 }, geometry);
}

/** Of what blocks hold. */
export function encodeSums({ block, blocks }: BlockRange, bytes: Uint8Array, geometry: BlockGeometry): Uint8Array {
  const payload = new Uint8Array(HEAD_BYTES + blocks * SUM_BYTES);
  setRange(payload, { block, blocks });
  payload.set(sumsOf(blocks, bytes, geometry), HEAD_BYTES);
  return payload;
}

/** Throws EPROTOCOL for what lies outside of the volume, or is not what its length says. */
export function decodeSums(payload: Uint8Array, geometry: BlockGeometry): Sums {
  const range = rangeOf("SUMS", payload, geometry);
  const sums = payload.subarray(HEAD_BYTES);
  if (sums.length !== range.blocks * SUM_BYTES) throw unfit("SUMS", `${sums.length} bytes for ${range.blocks} blocks`);
  return { ...range, sums };
}

/** Which blocks of `bytes` do not have their sums: a bit each. */
export function differing({ blocks, sums }: Sums, bytes: Uint8Array, geometry: BlockGeometry): Uint8Array {
  const differs = new Uint8Array(Math.ceil(blocks / 8));
  const found = sumsOf(blocks, bytes, geometry);
  if (Buffer.compare(found, sums) === 0) return differs;
  for (let index = 0; index < blocks; index++) {
    const [begin, end] = [index * SUM_BYTES, (index + 1) * SUM_BYTES];
    if (Buffer.compare(found.subarray(begin, end), sums.subarray(begin, end)) !== 0) setBit(differs, index);
  }
  return differs;
}

/** All of the blocks, as of a place that cannot be read. */
export function allDiffer({ blocks }: BlockRange): Uint8Array {
  const differs = new Uint8Array(Math.ceil(blocks / 8));
  for (let index = 0; index < blocks; index++) setBit(differs, index);
  return differs;
}

export function encodeSumsReply(range: BlockRange, differs: Uint8Array): Uint8Array {
  const payload = new Uint8Array(HEAD_BYTES + differs.length);
  setRange(payload, range);
  payload.set(differs, HEAD_BYTES);
  return payload;
}

/** Throws as decodeSums does. */
export function decodeSumsReply(
  payload: Uint8Array,
  geometry: BlockGeometry,
): BlockRange & { readonly differs: Uint8Array } {
  const range = rangeOf("SUMS_REPLY", payload, geometry);
  const differs = payload.slice(HEAD_BYTES);
  if (differs.length !== Math.ceil(range.blocks / 8)) {
    throw unfit("SUMS_REPLY", `${differs.length} bytes for ${range.blocks} blocks`);
  }
  return { ...range, differs };
}

/** Of bits that belong to blocks, one each. */
export function hasBit(bits: Uint8Array, index: number): boolean {
  return ((bits[index >>> 3] as number) & (1 << (index & 7))) !== 0;
}

function setBit(bits: Uint8Array, index: number): void {
  bits[index >>> 3] = (bits[index >>> 3] as number) | (1 << (index & 7));
}

/** Of each block, one behind the other. */
function sumsOf(blocks: number, bytes: Uint8Array, { blockSectors }: BlockGeometry): Uint8Array {
  const blockBytes = blockSectors * SECTOR_BYTES;
  // The last block of a volume may be a short one, whose zeroes have another sum.
  const isZero = bytes.length === blocks * blockBytes && ZEROES.subarray(0, bytes.length).equals(bytes);
  return isZero ? sumsOfZeroes(blockBytes).subarray(0, blocks * SUM_BYTES) : hashed(blocks, bytes, blockBytes);
}

function sumsOfZeroes(blockBytes: number): Uint8Array {
  let sums = zeroSums.get(blockBytes);
  if (sums === undefined) {
    sums = hashed(SUMS_BYTES_MAX / blockBytes, ZEROES, blockBytes);
    zeroSums.set(blockBytes, sums);
  }
  return sums;
}

function hashed(blocks: number, bytes: Uint8Array, blockBytes: number): Uint8Array {
  const sums = new Uint8Array(blocks * SUM_BYTES);
  for (let index = 0; index < blocks; index++) {
    const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
    sums.set(hash("sha256", block, "buffer").subarray(0, SUM_BYTES), index * SUM_BYTES);
  }
  return sums;
}

function setRange(payload: Uint8Array, { block, blocks }: BlockRange): void {
  const view = new DataView(payload.buffer, payload.byteOffset, HEAD_BYTES);
  setSafeNumber(view, 0, block);
  view.setUint32(8, blocks, true);
}

function rangeOf(what: string, payload: Uint8Array, geometry: BlockGeometry): BlockRange {
  if (payload.length < HEAD_BYTES) throw unfit(what, `${payload.length} bytes are too few`);
  const view = new DataView(payload.buffer, payload.byteOffset, HEAD_BYTES);
  const block = getSafeNumber(view, 0);
  const blocks = view.getUint32(8, true);
  const all = Math.ceil(geometry.volumeSectors / geometry.blockSectors);
  if (blocks < 1 || blocks > sumsBlocksMax(geometry) || block + blocks > all) {
    throw unfit(what, `blocks ${block} to ${block + blocks - 1} of ${all}`);
  }
  return { block, blocks };
}

function unfit(what: string, found: string): UblkError {
  return new UblkError("EPROTOCOL", `${what} does not fit together: ${found}`);
}
