/**
 * Where the originals are that lie as a stream behind a raw image, in one file.
 *
 *     0            the image, at least as long as the volume
 *     then         zeros, up to a multiple of the size of a record
 *     then         the stream (stream-format.ts); its end is the end of the file
 *
 * Invariant: the originals are in ascending order of their places in the volume, none is empty, and none overlaps another.
 * 20 bytes of memory each say where they are.
 */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { UblkError } from "../ublk/errors.ts";
import { isRecordSize } from "./record-size.ts";
import { CONTROL_BYTES, decodeTrailer, PAYLOAD_AT, RECORD_KIND, type StreamStart } from "./stream-format.ts";
import { StreamReader, type PlacedPart } from "./stream-reader.ts";

/** Crosses between threads, which share its memory. */
export interface OriginalsTable {
  /** Of each, where in the volume it belongs, how much it is, and where in the file it lies. */
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  readonly places: Float64Array;
}

export class AppendedOriginals {
  readonly table: OriginalsTable;
  readonly count: number;

  constructor(table: OriginalsTable) {
    this.table = table;
    this.count = table.offsets.length;
  }

  /** Where in the volume one belongs. */
  offset(index: number): number {
    return this.table.offsets[index] as number;
  }

  /** Where in the volume it ends. */
  end(index: number): number {
    return (this.table.offsets[index] as number) + (this.table.lengths[index] as number);
  }

  /** Where in the file it is. */
  fileOffset(index: number): number {
    return this.table.places[index] as number;
  }

  /** Of all together. */
  get bytes(): number {
    return this.table.lengths.reduce((sum, length) => sum + length, 0);
  }

  /** The first one that ends behind a place of the volume; `count` where none does. */
  firstBehind(place: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.end(middle) <= place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export interface Appended {
  readonly start: StreamStart;
  readonly originals: AppendedOriginals;
}

/** Where the stream is whose end is the end of a file; undefined where there is none. */
export function findStream(
  file: ByteStorage,
): { readonly at: number; readonly recordBytes: number; readonly records: number } | undefined {
  const { sizeBytes } = file;
  if (sizeBytes < CONTROL_BYTES) return undefined;
  const trailer = decodeTrailer(file.read(sizeBytes - CONTROL_BYTES, CONTROL_BYTES));
  if (trailer?.kind !== RECORD_KIND.END || !isRecordSize(trailer.recordBytes)) return undefined;
  const { recordBytes } = trailer;
  const records = trailer.sequence + 1;
  const at = sizeBytes - records * recordBytes;
  return at < 0 ? undefined : { at, recordBytes, records };
}

/**
 * Checks the stream at the end of a file, all of it, and gives the places of its originals. Throws ENOSTREAM where there is
 * none, ESTREAM where it is damaged, EVERSION.
 */
export function readAppended(file: ByteStorage, name: string): Appended {
  return walk(file, name, Infinity, (reader, place) => {
    const record = reader.take(file.read(place, reader.recordBytes));
    return record.kind === "data" ? record.parts : [];
  });
}

/**
 * As readAppended, in a small part of the time: of the originals the control data alone are read and checked, not their bytes.
 * Throws ELIMIT as well, where there are more than `most`.
 */
export function indexAppended(file: ByteStorage, name: string, most: number): Appended {
  // The end of a record and the header behind it lie together, and are read together.
  let nextHeader: Uint8Array | undefined;
  return walk(file, name, most, (reader, place) =>
    reader.takeControl(nextHeader ?? file.read(place, CONTROL_BYTES), (bytes) => {
      const border = file.read(place + reader.recordBytes - bytes, bytes + CONTROL_BYTES);
      nextHeader = border.subarray(bytes);
      return border.subarray(0, bytes);
    }),
  );
}

/** `take` has the reader take the data record at a place of the file; no parts where there is none. */
function walk(
  file: ByteStorage,
  name: string,
  most: number,
  take: (reader: StreamReader, place: number) => readonly PlacedPart[],
): Appended {
  const { at, recordBytes, records } = findStream(file) ?? missStream(name);
  const checked = <T>(check: () => T): T => {
    try {
      return check();
    } catch (cause) {
      if (!(cause instanceof UblkError)) throw cause;
      throw new UblkError(cause.code, `${name}, stream at byte ${at}: ${cause.message}`, { cause });
    }
  };
  const reader = new StreamReader(recordBytes);
  checked(() => reader.take(file.read(at, recordBytes)));
  const start = reader.start as StreamStart;
  if (start.content !== "originals" || start.volumeBytes > at) {
    throw new UblkError("ESTREAM", `${name} ends with a stream that is not of originals of the image before it`);
  }
  const found = new FoundOriginals(name, most);
  for (let sequence = 1; sequence < records - 1; sequence++) {
    const place = at + sequence * recordBytes;
    const parts = checked(() => take(reader, place));
    found.add(parts, place);
  }
  checked(() => reader.take(file.read(at + (records - 1) * recordBytes, recordBytes)));
  checked(() => reader.end());
  return { start, originals: new AppendedOriginals(found.table()) };
}

/** Gathers the originals of one record after the other. */
class FoundOriginals {
  readonly #name: string;
  readonly #most: number;
  readonly #records: { readonly parts: Float64Array; readonly place: number }[] = [];
  #count = 0;
  #end = 0;

  constructor(name: string, most: number) {
    this.#name = name;
    this.#most = most;
  }

  /** Throws ESTREAM where they are not in order, ELIMIT where there are too many. */
  add(parts: readonly PlacedPart[], place: number): void {
    for (const { offset, length } of parts) {
      if (offset < this.#end || length === 0) {
        throw new UblkError("ESTREAM", `${this.#name}: its originals are out of order at byte ${place}`);
      }
      this.#end = offset + length;
    }
    if (parts.length === 0) {
      throw new UblkError("ESTREAM", `${this.#name}: a record without originals is among them at byte ${place}`);
    }
    this.#count += parts.length;
    if (this.#count > this.#most) {
      throw new UblkError(
        "ELIMIT",
        `${this.#name} has more than ${this.#most} originals, each at a place of its own: restore it (sluice bulk restore)`,
      );
    }
    this.#records.push({ parts: Float64Array.from(parts.flatMap(({ offset, length }) => [offset, length])), place });
  }

  table(): OriginalsTable {
    const offsets = new Float64Array(new SharedArrayBuffer(this.#count * Float64Array.BYTES_PER_ELEMENT));
    const lengths = new Uint32Array(new SharedArrayBuffer(this.#count * Uint32Array.BYTES_PER_ELEMENT));
    const places = new Float64Array(new SharedArrayBuffer(this.#count * Float64Array.BYTES_PER_ELEMENT));
    let index = 0;
    for (const { parts, place } of this.#records) {
      let payloadAt = place + PAYLOAD_AT;
      for (let at = 0; at < parts.length; at += 2, index++) {
        const length = parts[at + 1] as number;
        offsets[index] = parts[at] as number;
        lengths[index] = length;
        places[index] = payloadAt;
        payloadAt += length;
      }
    }
    return { offsets, lengths, places };
  }
}

function missStream(name: string): never {
  throw new UblkError(
    "ENOSTREAM",
    `${name} has no originals at its end: it is an image alone, which is restored by copying it, or appending to it was ` +
      `interrupted: repeat "sluice bulk finish"; or it has been cut: take another copy of it`,
  );
}
