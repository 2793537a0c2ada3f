/** Reads the ring of a log from front to back, before it is served from: ahead, in large pieces. */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { codeOf } from "../ublk/errors.ts";
import { bytesToRingEnd, offsetOf, type LogGeometry } from "./log-geometry.ts";

const AHEAD_BYTES = 2 ** 20;

export class RingReader {
  readonly #file: ByteStorage;
  readonly #geometry: LogGeometry;
  /** The piece that was read last, and its position. */
  #bytes = new Uint8Array(0);
  #from = 0;
  /** The medium has failed to give what was asked for. */
  isUnreadable = false;

  constructor(file: ByteStorage, geometry: LogGeometry) {
    this.#file = file;
    this.#geometry = geometry;
  }

  /** Good until the next call. Undefined where the medium fails to give it. Other errors are thrown. */
  read(position: number, length: number): Uint8Array | undefined {
    if (position < this.#from || position + length > this.#from + this.#bytes.length) {
      const ahead = Math.min(this.#geometry.ringBytes, Math.max(length, AHEAD_BYTES));
      // Of what is read ahead nobody may ever want the part that fails.
      const bytes = this.#load(position, ahead) ?? this.#load(position, length);
      if (bytes === undefined) {
        this.isUnreadable = true;
        return undefined;
      }
      this.#bytes = bytes;
      this.#from = position;
    }
    const at = position - this.#from;
    return this.#bytes.subarray(at, at + length);
  }

  #load(position: number, length: number): Uint8Array<ArrayBuffer> | undefined {
    const first = Math.min(length, bytesToRingEnd(this.#geometry, position));
    const bytes = new Uint8Array(length);
    try {
      bytes.set(this.#file.read(offsetOf(this.#geometry, position), first));
      if (first < length) bytes.set(this.#file.read(offsetOf(this.#geometry, position + first), length - first), first);
    } catch (error) {
      if (codeOf(error) === "EIO") return undefined;
      throw error;
    }
    return bytes;
  }
}
