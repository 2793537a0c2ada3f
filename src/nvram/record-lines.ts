/**
 * The record's bytes: a bit for each chunk, in lines of 64 bytes that each carry their own checksum.
 *
 *     0   60 bytes   bits of 480 chunks, lowest bit of the first byte first
 *     60   4 bytes   CRC-32C (little-endian) of: the file's salt, the line's number, the 60 bytes
 *
 * Invariant. A line whose checksum is wrong reads as if all its bits were set: torn, rotten or never written, it may say
 * too much, never too little. A line is as large as a cache line and lies within a sector, so that no update of one line
 * can damage another.
 */
import { crc32c } from "./crc32c.ts";

export const LINE_BYTES = 64;
const BITS_BYTES = 60;
export const CHUNKS_PER_LINE = BITS_BYTES * 8;

/** Bytes of the lines for so many chunks. */
export function linesBytes(chunks: number): number {
  return Math.ceil(chunks / CHUNKS_PER_LINE) * LINE_BYTES;
}

export class RecordLines {
  readonly bytes: Uint8Array;
  readonly chunks: number;
  readonly #view: DataView;
  readonly #prefix = new Uint8Array(8);
  readonly #prefixView = new DataView(this.#prefix.buffer);

  /** `bytes` hold the lines of `chunks` chunks; `salt` is that of the file, so that lines of another file do not pass. */
  constructor(bytes: Uint8Array, chunks: number, salt: number) {
    this.bytes = bytes;
    this.chunks = chunks;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#prefixView.setUint32(0, salt, true);
  }

  get lines(): number {
    return Math.ceil(this.chunks / CHUNKS_PER_LINE);
  }

  /** Sets or clears the bit of a chunk; its line is wrong until it is sealed. Gives the line. */
  set(chunk: number, isMember: boolean): number {
    const line = Math.floor(chunk / CHUNKS_PER_LINE);
    const bit = chunk - line * CHUNKS_PER_LINE;
    const at = line * LINE_BYTES + (bit >> 3);
    const mask = 1 << (bit & 7);
    this.bytes[at] = isMember ? (this.bytes[at] as number) | mask : (this.bytes[at] as number) & ~mask;
    return line;
  }

  #checksum(line: number): number {
    this.#prefixView.setUint32(4, line, true);
    const start = line * LINE_BYTES;
    return crc32c(this.bytes, start, start + BITS_BYTES, crc32c(this.#prefix, 0, 8));
  }

  /** Gives a line its checksum. */
  seal(line: number): void {
    this.#view.setUint32(line * LINE_BYTES + BITS_BYTES, this.#checksum(line), true);
  }

  isWhole(line: number): boolean {
    return this.#view.getUint32(line * LINE_BYTES + BITS_BYTES, true) === this.#checksum(line);
  }

  /** Sets every bit of a line, and seals it. */
  fill(line: number): void {
    const start = line * LINE_BYTES;
    this.bytes.fill(0xff, start, start + BITS_BYTES);
    this.seal(line);
  }

  /**
   * Hands every member to `found`, in order, all chunks of a damaged line among them. Gives how many lines were damaged;
   * they are left as they are.
   */
  read(found: (chunk: number) => void): number {
    let damaged = 0;
    for (let line = 0; line < this.lines; line++) {
      const isWhole = this.isWhole(line);
      if (!isWhole) damaged++;
      const first = line * CHUNKS_PER_LINE;
      const last = Math.min(first + CHUNKS_PER_LINE, this.chunks) - 1;
      for (let chunk = first; chunk <= last; chunk++) {
        const bit = chunk - first;
        const byte = this.bytes[line * LINE_BYTES + (bit >> 3)] as number;
        if (!isWhole || (byte & (1 << (bit & 7))) !== 0) found(chunk);
      }
    }
    return damaged;
  }
}
