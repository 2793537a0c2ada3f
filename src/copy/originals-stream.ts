/**
 * The originals of a bulk copy as a stream, in the order of their places.
 *
 * Invariant: the same originals give the same bytes, whenever they are asked for: a transfer that broke goes on at any record.
 */
import {
  encodeData,
  encodeEnd,
  encodeStart,
  PAYLOAD_AT,
  payloadMax,
  STREAM_ID_BYTES,
  type StreamStart,
} from "./stream-format.ts";

export interface OriginalRange {
  readonly offset: number;
  readonly length: number;
}

export interface OriginalsSource {
  readonly start: StreamStart;
  /** In ascending order, none overlapping another. */
  readonly ranges: readonly OriginalRange[];
  /** Reads originals into the memory given. */
  readonly read: (offset: number, into: Uint8Array) => Promise<void>;
}

/** Ranges that have room in a record each. */
function piecesOf(ranges: readonly OriginalRange[], most: number): OriginalRange[] {
  return ranges.flatMap(({ offset, length }) =>
    Array.from({ length: Math.ceil(length / most) }, (_, index) => ({
      offset: offset + index * most,
      length: Math.min(most, length - index * most),
    })),
  );
}

/** The records from number `from` on, each in memory of its own. Throws ESIZE for a size that no record has. */
export async function* originalsStream(
  { start, ranges, read }: OriginalsSource,
  recordBytes: number,
  from: number,
): AsyncGenerator<Uint8Array> {
  const { stream } = start;
  const pieces = piecesOf(ranges, payloadMax(recordBytes));
  for (let sequence = from; sequence <= pieces.length + 1; sequence++) {
    const record = new Uint8Array(recordBytes);
    const piece = pieces[sequence - 1];
    if (sequence === 0) encodeStart(record, start);
    else if (piece !== undefined) {
      const { offset, length } = piece;
      await read(offset, record.subarray(PAYLOAD_AT, PAYLOAD_AT + length));
      encodeData(record, { stream, sequence, offset, length });
    } else {
      encodeEnd(record, { stream, sequence, payloadBytes: ranges.reduce((sum, { length }) => sum + length, 0) });
    }
    yield record;
  }
}

/** The bytes of a hash that name a stream. */
export function streamIdOf(hash: Uint8Array): Uint8Array {
  return hash.slice(0, STREAM_ID_BYTES);
}

/** Records from pieces of any length; what is left at the end comes as it is, for the reader to refuse. */
export async function* recordsOf(chunks: AsyncIterable<Uint8Array>, recordBytes: number): AsyncGenerator<Uint8Array> {
  let record = new Uint8Array(recordBytes);
  let filled = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) {
      const count = Math.min(chunk.length - at, recordBytes - filled);
      record.set(chunk.subarray(at, at + count), filled);
      at += count;
      filled += count;
      if (filled < recordBytes) continue;
      yield record;
      record = new Uint8Array(recordBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield record.subarray(0, filled);
}
