/**
 * Writes what a volume was at one time: an image with the originals over it.
 *
 * Invariant: what is right already is not written. So a restore that was interrupted is asked for again and goes on, without a
 * note of how far it was that could be wrong. Each place is written at most once, with the original where there is one.
 */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import type { AppendedOriginals, PlacedOriginal } from "./appended-stream.ts";

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
  { start, originals }: AppendedOriginals,
  to: ByteStorage,
  progress: (bytes: number) => void,
): RestoreCounts {
  const { volumeBytes } = start;
  let writtenBytes = 0;
  let next = 0;
  for (let offset = 0; offset < volumeBytes; offset += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, volumeBytes - offset);
    const piece = from.read(offset, length);
    while (next < originals.length && endOf(originals[next] as PlacedOriginal) <= offset) next++;
    for (let index = next; index < originals.length; index++) {
      const original = originals[index] as PlacedOriginal;
      if (original.offset >= offset + length) break;
      overlay(from, original, piece, offset);
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

function endOf({ offset, length }: PlacedOriginal): number {
  return offset + length;
}

/** Lays what of an original belongs into a piece of the volume, which begins at `offset`, over it. */
function overlay(from: ByteStorage, original: PlacedOriginal, piece: Uint8Array, offset: number): void {
  const begin = Math.max(original.offset, offset);
  const end = Math.min(endOf(original), offset + piece.length);
  piece.set(from.read(original.fileOffset + begin - original.offset, end - begin), begin - offset);
}
