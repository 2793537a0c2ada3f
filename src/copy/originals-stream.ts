/**
 * The originals of a bulk copy as a stream, in the order of their places.
 *
 * Invariant: the same originals give the same bytes, whenever they are asked for: a transfer that broke goes on at any record.
 */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import {
  encodeData,
  encodeEnd,
  encodeStart,
  PAYLOAD_AT,
  roomForPart,
  STREAM_ID_BYTES,
  type StreamStart,
} from "../targets/stream-format.ts";

export interface OriginalsSource {
  readonly start: StreamStart;
  /** In ascending order, none overlapping another. */
  readonly ranges: readonly ByteRange[];
  /** Reads originals into the memory given, one behind the other. */
  readonly read: (ranges: readonly ByteRange[], into: Uint8Array) => Promise<void>;
}

/** The parts of each data record: as many as have room. */
function packed(ranges: readonly ByteRange[], recordBytes: number): ByteRange[][] {
  const records: ByteRange[][] = [];
  let parts: ByteRange[] = [];
  let payloadBytes = 0;
  for (const range of ranges) {
    const end = range.offset + range.length;
    for (let { offset } = range; offset < end;) {
      const length = roomForPart(recordBytes, parts.length, payloadBytes, end - offset);
      if (length === 0) {
        records.push(parts);
        parts = [];
        payloadBytes = 0;
        continue;
      }
      parts.push({ offset, length });
      payloadBytes += length;
      offset += length;
    }
  }
  return parts.length === 0 ? records : [...records, parts];
}

/** The records from number `from` on, each in memory of its own. Throws ESIZE for a size that no record has. */
export async function* originalsStream(
  { start, ranges, read }: OriginalsSource,
  recordBytes: number,
  from: number,
): AsyncGenerator<Uint8Array> {
  const { stream } = start;
  const records = packed(ranges, recordBytes);
  for (let sequence = from; sequence <= records.length + 1; sequence++) {
    const record = new Uint8Array(recordBytes);
    const parts = records[sequence - 1];
    if (sequence === 0) encodeStart(record, start);
    else if (parts !== undefined) {
      await read(parts, record.subarray(PAYLOAD_AT));
      encodeData(record, { stream, sequence, parts });
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
