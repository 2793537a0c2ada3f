/**
 * Checksums of blocks, by which source and receiver find out where they differ without sending what is equal.
 * docs/protocol.md, "Sums".
 *
 * Invariant: blocks whose sums are equal are equal. It is a part of SHA-256, long enough that no two blocks that differ have the
 * same one by chance: whoever made two such blocks on purpose would harm his own volume only.
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
  for (let index = 0; index < blocks; index++) {
    payload.set(sumOf(bytes, index, geometry), HEAD_BYTES + index * SUM_BYTES);
  }
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
  for (let index = 0; index < blocks; index++) {
    const wanted = sums.subarray(index * SUM_BYTES, (index + 1) * SUM_BYTES);
    if (Buffer.compare(sumOf(bytes, index, geometry), wanted) !== 0) setBit(differs, index);
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

function sumOf(bytes: Uint8Array, index: number, { blockSectors }: BlockGeometry): Uint8Array {
  const blockBytes = blockSectors * SECTOR_BYTES;
  const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
  return hash("sha256", block, "buffer").subarray(0, SUM_BYTES);
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
