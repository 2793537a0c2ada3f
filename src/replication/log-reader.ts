/**
 * Reads records of the receiver's log back, for whoever applies a point. Invariant: 0 is told only of a record that is the one
 * that was asked for, with its payload as it was appended.
 */
import { crc32 } from "node:zlib";
import { OPCODE } from "../ublk/abi.ts";
import { ERRNO } from "../ublk/errors.ts";
import type { CompletionHandler, IoMemory } from "../ublk/io.ts";
import { bytesToRingEnd, offsetOf, type LogGeometry } from "./log-geometry.ts";
import type { LogIo } from "./log-io.ts";
import { decodeRecordHeader, RECORD_HEADER_BYTES, recordBytes } from "./log-record.ts";

/** A read that is under way, in one transfer, or two where the ring begins again in it. */
interface Reading {
  readonly position: number;
  readonly length: number;
  readonly memory: IoMemory;
  readonly at: number;
  readonly done: (result: number) => void;
  outstanding: number;
  /** Bytes that are still to come. */
  missing: number;
  result: number;
}

export class LogReader implements CompletionHandler {
  readonly #geometry: LogGeometry;
  readonly #salt: number;
  readonly #io: LogIo;
  readonly #file: number;
  readonly #handler: number;
  /** By the index that their transfers go with. */
  readonly #readings: (Reading | undefined)[] = [];

  constructor(geometry: LogGeometry, salt: number, io: LogIo, file: number) {
    this.#geometry = geometry;
    this.#salt = salt;
    this.#io = io;
    this.#file = file;
    this.#handler = io.addHandler(this);
  }

  /**
   * Reads the record at `position` with `length` bytes of payload to `at` of a memory, which must have room for all of the
   * record; its payload begins 64 bytes behind `at`. `done` is called once: with 0, with -EBADMSG where the record is damaged,
   * or with the negative errno of the read.
   */
  read(position: number, length: number, memory: IoMemory, at: number, done: (result: number) => void): void {
    const bytes = recordBytes(length, this.#geometry.sectorBytes);
    const first = Math.min(bytes, bytesToRingEnd(this.#geometry, position));
    const outstanding = first < bytes ? 2 : 1;
    const free = this.#readings.indexOf(undefined);
    const index = free < 0 ? this.#readings.length : free;
    this.#readings[index] = { position, length, memory, at, done, outstanding, missing: bytes, result: 0 };
    this.#transfer(position, memory.address + at, first, index);
    if (first < bytes) this.#transfer(position + first, memory.address + at + first, bytes - first, index);
  }

  #transfer(position: number, address: number, length: number, index: number): void {
    const offset = offsetOf(this.#geometry, position);
    this.#io.transfer(OPCODE.READ, this.#file, offset, address, length, 0, this.#handler, index);
  }

  completed(index: number, result: number): void {
    const reading = this.#readings[index] as Reading;
    if (result < 0) reading.result = result;
    else reading.missing -= result;
    if (--reading.outstanding > 0) return;
    this.#readings[index] = undefined;
    reading.done(reading.result < 0 ? reading.result : this.#judge(reading));
  }

  #judge({ position, length, memory, at, missing }: Reading): number {
    if (missing > 0) return -ERRNO.EIO;
    const bytes = new Uint8Array(memory.buffer, at, RECORD_HEADER_BYTES + length);
    const header = decodeRecordHeader(bytes, this.#salt);
    const isIt = header?.position === position && header.length === length;
    return isIt && header.payloadChecksum === crc32(bytes.subarray(RECORD_HEADER_BYTES)) ? 0 : -ERRNO.EBADMSG;
  }
}
