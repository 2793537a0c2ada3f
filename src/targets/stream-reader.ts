/**
 * Takes a stream record after record, and says of each what it holds, or of the first one that is wrong what is wrong with it.
 *
 * Invariant: nothing of a record is given before it has been checked: all of it, or its control data where they alone are
 * taken. After a fault the records before it stay whole: a transfer goes on at that record.
 */
import { crc32 } from "node:zlib";
import type { ByteRange } from "./cow/byte-range.ts";
import { UblkError } from "../ublk/errors.ts";
import { isRecordSize } from "./record-size.ts";
import {
  CONTROL_BYTES,
  decodeEnd,
  decodeHeader,
  decodeParts,
  decodeStart,
  decodeTrailer,
  PART_BYTES,
  PAYLOAD_AT,
  payloadMax,
  RECORD_KIND,
  type RecordHeader,
  type RecordTrailer,
  type StreamStart,
} from "./stream-format.ts";

/** A part of a volume, and where in the record its bytes begin. */
export interface PlacedPart extends ByteRange {
  readonly recordOffset: number;
}

/** Its bytes are the record's own memory. */
export interface StreamPart extends PlacedPart {
  readonly bytes: Uint8Array;
}

export type StreamRecord =
  | { readonly kind: "start"; readonly start: StreamStart }
  | { readonly kind: "data"; readonly parts: readonly StreamPart[] }
  | { readonly kind: "end"; readonly records: number; readonly payloadBytes: number };

/** The size of the records of a stream, by its first 256 bytes. Throws ESTREAM, EVERSION. */
export function recordBytesOf(first: Uint8Array): number {
  const header = decodeHeader(first);
  if (header === undefined || !isRecordSize(header.recordBytes)) {
    throw new UblkError("ESTREAM", "record 0 (byte 0): its header is damaged, or this is no stream of sluice");
  }
  return header.recordBytes;
}

export class StreamReader {
  readonly recordBytes: number;
  #whole = 0;
  #payloadBytes = 0;
  #start: StreamStart | undefined;
  #isEnded = false;

  /** Throws ESIZE for a size that no record has. */
  constructor(recordBytes: number) {
    payloadMax(recordBytes);
    this.recordBytes = recordBytes;
  }

  /** So many records, from the first on, are whole. */
  get wholeRecords(): number {
    return this.#whole;
  }

  /** In the data records so far. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  /** What the start record has told. */
  get start(): StreamStart | undefined {
    return this.#start;
  }

  /** The end record has come. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Checks the next record. Throws ESTREAM, and EVERSION for a newer format. */
  take(record: Uint8Array): StreamRecord {
    if (this.#isEnded) throw this.#fault("something comes after the end record");
    if (record.length !== this.recordBytes) {
      throw this.#fault(`it is cut: ${record.length} bytes of ${this.recordBytes} are there`);
    }
    const header = this.#checkHeader(record.subarray(0, CONTROL_BYTES));
    const tail = record.subarray(record.length - tailBytesOf(header));
    const { payloadChecksum } = this.#checkTrailer(header, tail);
    if (payloadChecksum !== crc32(record.subarray(PAYLOAD_AT, record.length - CONTROL_BYTES))) {
      throw this.#fault("its data are damaged");
    }
    const taken = this.#decode(header, tail, record);
    this.#whole++;
    return taken;
  }

  /**
   * Checks the next record, a data record, by its control data alone: its first 256 bytes, and of its last so many as `readTail`
   * is asked for. Throws ESTREAM, and EVERSION for another format.
   */
  takeControl(headerBytes: Uint8Array, readTail: (bytes: number) => Uint8Array): PlacedPart[] {
    const header = this.#checkHeader(headerBytes);
    if (header.kind !== RECORD_KIND.DATA) throw this.#fault(`a record of kind ${header.kind} has no place here`);
    const tail = readTail(tailBytesOf(header));
    this.#checkTrailer(header, tail);
    const parts = this.#partsOf(header, tail);
    this.#whole++;
    return parts;
  }

  #checkHeader(bytes: Uint8Array): RecordHeader {
    const header = decodeHeader(bytes);
    if (header === undefined) throw this.#fault("its header is damaged");
    this.#checkPlace(header);
    if (header.length + header.parts * PART_BYTES > payloadMax(this.recordBytes)) {
      throw this.#fault(`it has no room for ${header.length} bytes in ${header.parts} parts`);
    }
    return header;
  }

  /** Nothing more will come. Throws ESTREAM where the end record has not come. */
  end(): void {
    if (!this.#isEnded) throw this.#fault("the stream is cut: it has no end record");
  }

  #checkPlace({ recordBytes, stream, sequence, kind }: RecordHeader): void {
    if (recordBytes !== this.recordBytes) {
      throw this.#fault(`it has ${recordBytes} bytes, wanted ${this.recordBytes} as the records before it`);
    }
    if (this.#start !== undefined && !sameStream(stream, this.#start.stream))
      throw this.#fault("it is of another stream");
    if (sequence !== this.#whole) {
      throw this.#fault(
        sequence < this.#whole
          ? `found record ${sequence}, which has been there already: a record is doubled, or out of order`
          : `found record ${sequence}: records are missing, or out of order`,
      );
    }
    if ((kind === RECORD_KIND.START) !== (sequence === 0))
      throw this.#fault(`a record of kind ${kind} has no place here`);
  }

  #checkTrailer({ kind, stream, sequence }: RecordHeader, tail: Uint8Array): RecordTrailer {
    const trailer = decodeTrailer(tail.subarray(tail.length - CONTROL_BYTES));
    if (trailer === undefined) throw this.#fault("its trailer is damaged");
    const isItsOwn =
      trailer.sequence === sequence &&
      trailer.kind === kind &&
      trailer.recordBytes === this.recordBytes &&
      sameStream(trailer.stream, stream);
    if (!isItsOwn) throw this.#fault("its trailer is that of another record: it was written in part");
    return trailer;
  }

  #decode(header: RecordHeader, tail: Uint8Array, record: Uint8Array): StreamRecord {
    const { kind, stream, sequence, length } = header;
    const payload = record.subarray(PAYLOAD_AT, PAYLOAD_AT + length);
    if (kind === RECORD_KIND.START) {
      const start = decodeStart(payload, stream);
      if (start === undefined) throw this.#fault("it tells of a kind of stream that is not known here");
      this.#start = start;
      return { kind: "start", start };
    }
    if (kind === RECORD_KIND.DATA) {
      const parts = this.#partsOf(header, tail).map((part) => ({
        ...part,
        bytes: record.subarray(part.recordOffset, part.recordOffset + part.length),
      }));
      return { kind: "data", parts };
    }
    if (kind !== RECORD_KIND.END) throw this.#fault(`a record of kind ${kind} is not known here`);
    const { records, payloadBytes } = decodeEnd(payload);
    if (records !== sequence + 1 || payloadBytes !== this.#payloadBytes) {
      throw this.#fault(
        `it tells of ${records} records with ${payloadBytes} bytes, found ${sequence + 1} with ${this.#payloadBytes}`,
      );
    }
    this.#isEnded = true;
    return { kind: "end", records, payloadBytes };
  }

  #partsOf({ length, parts, tableChecksum }: RecordHeader, tail: Uint8Array): PlacedPart[] {
    const { volumeBytes } = this.#start as StreamStart;
    const table = tail.subarray(0, parts * PART_BYTES);
    if (crc32(table) !== tableChecksum) throw this.#fault("its table of parts is damaged");
    let bytes = 0;
    const placed = decodeParts(table).map((part) => {
      const end = part.offset + part.length;
      if (end > volumeBytes) throw this.#fault(`it ends at byte ${end} of a volume of ${volumeBytes}`);
      const recordOffset = PAYLOAD_AT + bytes;
      bytes += part.length;
      return { ...part, recordOffset };
    });
    if (bytes !== length) throw this.#fault(`its parts have ${bytes} bytes, it has ${length}`);
    this.#payloadBytes += length;
    return placed;
  }

  #fault(what: string): UblkError {
    return new UblkError("ESTREAM", `record ${this.#whole} (byte ${this.#whole * this.recordBytes}): ${what}`);
  }
}

function sameStream(one: Uint8Array, other: Uint8Array): boolean {
  return one.every((byte, index) => byte === other[index]);
}

/** Of the table of parts and the trailer behind it. */
function tailBytesOf({ parts }: RecordHeader): number {
  return parts * PART_BYTES + CONTROL_BYTES;
}
