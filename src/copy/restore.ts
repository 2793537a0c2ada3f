/**
 * Writes what a volume was at one time: an image with the originals over it.
 *
 * Invariant: what is right already is not written. So a restore that was interrupted is asked for again and goes on, without a
 * note of how far it was that could be wrong. Each place is written at most once, with the original where there is one.
 */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import type { Appended, AppendedOriginals } from "../targets/appended-originals.ts";

const PIECE_BYTES = 4 * 2 ** 20;

export interface RestoreCounts {
  /** Of the volume. */
  readonly bytes: number;
  /** Of those, bytes that had to be written. */
  readonly writtenBytes: number;
}

/** `progress` is told how many bytes of the volume are right, and durable at the end. */
export function restore(
  from: ByteStorage,
  { start, originals }: Appended,
  to: ByteStorage,
  progress: (bytes: number) => void,
): RestoreCounts {
  const { volumeBytes } = start;
  let writtenBytes = 0;
  let next = 0;
  for (let offset = 0; offset < volumeBytes; offset += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, volumeBytes - offset);
    const piece = from.read(offset, length);
    while (next < originals.count && originals.end(next) <= offset) next++;
    for (let index = next; index < originals.count && originals.offset(index) < offset + length; index++) {
      overlay(from, originals, index, piece, offset);
    }
    if (Buffer.compare(piece, to.read(offset, length)) !== 0) {
      to.write(offset, piece);
      writtenBytes += length;
    }
    progress(offset + length);
  }
  to.sync();
  return { bytes: volumeBytes, writtenBytes };
}

/** Lays what of an original belongs into a piece of the volume, which begins at `offset`, over it. */
function overlay(
  from: ByteStorage,
  originals: AppendedOriginals,
  index: number,
  piece: Uint8Array,
  offset: number,
): void {
  const begin = Math.max(originals.offset(index), offset);
  const end = Math.min(originals.end(index), offset + piece.length);
  piece.set(from.read(originals.fileOffset(index) + begin - originals.offset(index), end - begin), begin - offset);
}
