/**
 * Takes a stream record after record, and says of each what it holds, or of the first one that is wrong what is wrong with it.
 *
 * Invariant: nothing of a record is given before all of it has been checked. After a fault the records before it stay whole: a
 * transfer goes on at that record.
 */
import { crc32 } from "node:zlib";
import { UblkError } from "../ublk/errors.ts";
import {
  CONTROL_BYTES,
  decodeEnd,
  decodeHeader,
  decodeStart,
  decodeTrailer,
  isRecordSize,
  PAYLOAD_AT,
  payloadMax,
  RECORD_KIND,
  type RecordHeader,
  type StreamStart,
} from "./stream-format.ts";

export type StreamRecord =
  | { readonly kind: "start"; readonly start: StreamStart }
  /** The payload is the record's own memory. */
  | { readonly kind: "data"; readonly offset: number; readonly payload: Uint8Array }
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
    const header = decodeHeader(record.subarray(0, CONTROL_BYTES));
    if (header === undefined) throw this.#fault("its header is damaged");
    this.#checkPlace(header);
    this.#checkTrailer(header, record);
    if (header.length > payloadMax(this.recordBytes)) throw this.#fault(`it has no room for ${header.length} bytes`);
    const taken = this.#decode(header, record.subarray(PAYLOAD_AT, PAYLOAD_AT + header.length));
    this.#whole++;
    return taken;
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

  #checkTrailer({ kind, stream, sequence }: RecordHeader, record: Uint8Array): void {
    const trailerAt = record.length - CONTROL_BYTES;
    const trailer = decodeTrailer(record.subarray(trailerAt));
    if (trailer === undefined) throw this.#fault("its trailer is damaged");
    const isItsOwn =
      trailer.sequence === sequence &&
      trailer.kind === kind &&
      trailer.recordBytes === this.recordBytes &&
      sameStream(trailer.stream, stream);
    if (!isItsOwn) throw this.#fault("its trailer is that of another record: it was written in part");
    if (trailer.payloadChecksum !== crc32(record.subarray(PAYLOAD_AT, trailerAt))) {
      throw this.#fault("its data are damaged");
    }
  }

  #decode({ kind, stream, sequence, offset, length }: RecordHeader, payload: Uint8Array): StreamRecord {
    if (kind === RECORD_KIND.START) {
      const start = decodeStart(payload, stream);
      if (start === undefined) throw this.#fault("it tells of a kind of stream that is not known here");
      this.#start = start;
      return { kind: "start", start };
    }
    if (kind === RECORD_KIND.DATA) {
      const { volumeBytes } = this.#start as StreamStart;
      if (offset + length > volumeBytes) {
        throw this.#fault(`it ends at byte ${offset + length} of a volume of ${volumeBytes}`);
      }
      this.#payloadBytes += length;
      return { kind: "data", offset, payload };
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

  #fault(what: string): UblkError {
    return new UblkError("ESTREAM", `record ${this.#whole} (byte ${this.#whole * this.recordBytes}): ${what}`);
  }
}

function sameStream(one: Uint8Array, other: Uint8Array): boolean {
  return one.every((byte, index) => byte === other[index]);
}
