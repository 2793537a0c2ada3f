/**
 * Finds the frames in a stream of bytes that comes in pieces of any size.
 *
 * Invariant: a frame is given only when all of it has been checked, and it is the next one of its direction. After the first
 * fault nothing is given any more: there is no way to find the next frame again, and none to trust it.
 *
 * What is packed is unpacked when it was checked. What lies whole in a piece is given from there. What does not is put together once, in memory of its own: so a payload is
 * never copied more than once, and belongs to whoever gets it as long as the pieces do.
 */
import { crc32 } from "node:zlib";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { decompressed } from "./compression.ts";
import {
  checkMagic,
  decodeHeader,
  type FrameHeader,
  type FrameType,
  HEADER_BYTES,
  MAGIC_BYTES,
  PAYLOAD_MAX,
} from "./frame.ts";

/** `checksum`: the CRC-32 of the payload, as it was checked. */
export type OnFrame = (type: FrameType, payload: Uint8Array, checksum: number) => void;

export class FrameReader {
  readonly #onFrame: OnFrame;
  #budgetBytes: number;
  #isBroken = false;
  /** Which frame is read now. */
  #sequence = 0;
  /** A header that came in pieces, and so much of it. */
  readonly #headerBytes = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  /** Of the frame whose payload is read now. */
  #header: FrameHeader | undefined;
  #payload: Uint8Array | undefined;
  #payloadFilled = 0;

  /** Holds at most `budgetBytes` of a payload: a longer one is a fault, found before any of it is held. */
  constructor(onFrame: OnFrame, budgetBytes: number = PAYLOAD_MAX) {
    this.#onFrame = onFrame;
    this.#budgetBytes = budgetBytes;
  }

  /** From the next frame on: who has shown who it is may send longer ones. */
  set budgetBytes(bytes: number) {
    this.#budgetBytes = bytes;
  }

  /** After a fault. What comes then is left unread. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /**
   * Gives all frames that end in this piece, in their order. Throws EPROTOCOL for the first fault in the stream, EVERSION for
   * another layout of frames, and whatever `onFrame` throws; all of them end the stream.
   */
  take(piece: Uint8Array): void {
    if (this.#isBroken) return;
    // What throws on the way leaves it so.
    this.#isBroken = true;
    for (let at = 0; at < piece.length;) {
      at = this.#header === undefined ? this.#takeHeader(piece, at) : this.#takePayload(this.#header, piece, at);
    }
    this.#isBroken = false;
  }

  /** The stream has ended. Throws EPROTOCOL where it was cut within a frame. */
  end(): void {
    if (this.#isBroken || (this.#header === undefined && this.#headerFilled === 0)) return;
    this.#isBroken = true;
    throw this.#fault("the stream ends within it");
  }

  /** Where in the piece it goes on. */
  #takeHeader(piece: Uint8Array, at: number): number {
    if (this.#headerFilled === 0 && piece.length - at >= HEADER_BYTES) {
      this.#begin(piece, at);
      return at + HEADER_BYTES;
    }
    const part = piece.subarray(at, at + HEADER_BYTES - this.#headerFilled);
    this.#headerBytes.set(part, this.#headerFilled);
    this.#headerFilled += part.length;
    // Whoever speaks something else may say less than a header, and wait.
    if (this.#headerFilled >= MAGIC_BYTES) this.#check(() => checkMagic(this.#headerBytes, 0));
    if (this.#headerFilled === HEADER_BYTES) {
      this.#headerFilled = 0;
      this.#begin(this.#headerBytes, 0);
    }
    return at + part.length;
  }

  #begin(bytes: Uint8Array, at: number): void {
    const header = this.#check(() => decodeHeader(bytes, at));
    if (header.sequence !== this.#sequence) {
      throw this.#fault(`it is frame ${header.sequence}: frames are missing, doubled or out of order`);
    }
    const most = Math.max(header.length, header.unpacked);
    if (most > this.#budgetBytes) {
      throw this.#fault(`it has ${most} bytes of payload, wanted at most ${this.#budgetBytes} here`);
    }
    if (header.length === 0) this.#give(header, bytes.subarray(at, at));
    else this.#header = header;
  }

  #check<T>(check: () => T): T {
    try {
      return check();
    } catch (error) {
      throw this.#fault(messageOf(error), error);
    }
  }

  #takePayload(header: FrameHeader, piece: Uint8Array, at: number): number {
    const { length } = header;
    if (this.#payload === undefined && piece.length - at >= length) {
      this.#give(header, piece.subarray(at, at + length));
      return at + length;
    }
    const payload = (this.#payload ??= new Uint8Array(length));
    const part = piece.subarray(at, at + length - this.#payloadFilled);
    payload.set(part, this.#payloadFilled);
    this.#payloadFilled += part.length;
    if (this.#payloadFilled === length) this.#give(header, payload);
    return at + part.length;
  }

  #give({ type, checksum, unpacked }: FrameHeader, payload: Uint8Array): void {
    if (crc32(payload) !== checksum) throw this.#fault("its payload is damaged");
    const whole = unpacked === 0 ? payload : this.#check(() => decompressed(payload, unpacked));
    this.#header = undefined;
    this.#payload = undefined;
    this.#payloadFilled = 0;
    this.#sequence++;
    this.#onFrame(type, whole, unpacked === 0 ? checksum : crc32(whole));
  }

  #fault(what: string, cause?: unknown): UblkError {
    const code = cause instanceof UblkError ? cause.code : "EPROTOCOL";
    return new UblkError(code, `frame ${this.#sequence}: ${what}`, { cause });
  }
}
