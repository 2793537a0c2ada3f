/** How much of everything is kept ready: memory is taken once, when the volume is opened. */

export interface Tuning {
  /** Blocks that are read and appended together at most. */
  readonly groupBlocks: number;
  /** Parts of requests of points that are read at once, and the most bytes of each: at least a block. */
  readonly pieces: number;
  readonly pieceBytes: number;
}

const GROUP_BYTES = 2 ** 20;
const GROUP_BLOCKS_MAX = 128;
const PIECE_BYTES = 64 * 1024;

/** What fits blocks of this size: some megabytes of memory. */
export function tuningFor(blockBytes: number): Tuning {
  return {
    groupBlocks: Math.max(1, Math.min(GROUP_BLOCKS_MAX, Math.floor(GROUP_BYTES / blockBytes))),
    pieces: blockBytes > PIECE_BYTES ? 8 : 32,
    pieceBytes: Math.max(PIECE_BYTES, blockBytes),
  };
}
