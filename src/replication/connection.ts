/**
 * One connection of a mirror: frames over a stream of bytes, in both directions.
 *
 * Invariants. Frames leave in the order in which they are sent, each whole. The first fault, of the stream or of what is in
 * it, ends the connection, and is told once; nothing is given after that. Who hears nothing for as long as `silenceMs` takes
 * the connection for lost; so each side, once they have welcomed each other, says something before two thirds of that time are
 * over.
 *
 * What is sent is not copied: it must stay as it is until the connection has ended, or the other side has acknowledged it.
 * Bounded by what the other side has granted, and by the small frames, of which there is one for something that came.
 */
import type { Duplex } from "node:stream";
import { crc32 } from "node:zlib";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { compressed } from "./compression.ts";
import { encodeHeader, FRAME, HEADER_BYTES, PAYLOAD_MAX, type FrameType } from "./frame.ts";
import { FrameReader } from "./frame-reader.ts";
import { HANDSHAKE_PAYLOAD_MAX, reasonOf } from "./handshake.ts";
import { decodePing, decodeReason, encodePing, encodeReason, PING_BYTES, type Reason } from "./messages.ts";

export interface ConnectionEvents {
  /** A frame that is neither PING, PONG nor BYE, with the CRC-32 of its payload. What it throws ends the connection. */
  onFrame(type: FrameType, payload: Uint8Array, checksum: number): void;
  /** All the frames of a piece of the stream were given. */
  onBatch?(): void;
  /** It has ended, with an error, or in peace by a BYE of the other side, or by `close` here. Nothing comes after that. */
  onEnd(error: Error | undefined): void;
}

export class Connection {
  readonly #stream: Duplex;
  readonly #events: ConnectionEvents;
  readonly #reader: FrameReader;
  readonly #silenceMs: number;
  #sequence = 0;
  #hasEnded = false;
  #hasFrames = false;
  #givesSigns = false;
  #isCorked = false;
  #hasHeard = true;
  #hasSaid = true;
  #silentTurns = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(stream: Duplex, silenceMs: number, events: ConnectionEvents) {
    this.#stream = stream;
    this.#events = events;
    this.#silenceMs = silenceMs;
    this.#reader = new FrameReader((type, payload, checksum) => {
      this.#take(type, payload, checksum);
    }, HANDSHAKE_PAYLOAD_MAX);
    stream.on("data", (piece: Buffer) => {
      this.#read(piece);
    });
    stream.on("error", (error: Error) => {
      // OpenSSL's words have several lines.
      const [line = ""] = messageOf(error).split("\n");
      this.#lose(`the connection failed: ${line}`);
    });
    stream.on("close", () => {
      this.#lose("the connection was cut");
    });
    stream.on("end", () => {
      this.#lose("the other side has closed the connection");
    });
    // What has ended before says nothing more.
    if (stream.destroyed || stream.readableEnded) {
      process.nextTick(() => {
        this.#lose("the connection was cut");
      });
    }
    this.#timer = setInterval(() => {
      this.#watch();
    }, silenceMs / 3);
  }

  /** The other side has been welcomed, or has welcomed: it may send frames of any size. */
  acceptLargeFrames(): void {
    this.#reader.budgetBytes = PAYLOAD_MAX;
    this.giveSigns();
  }

  /** What the other side does may take long: it is asked for signs of life from now on. */
  giveSigns(): void {
    this.#givesSigns = true;
  }

  #read(piece: Uint8Array): void {
    if (this.#hasEnded) return;
    this.#hasHeard = true;
    try {
      this.#reader.take(piece);
      if (!this.#isOver()) this.#events.onBatch?.();
    } catch (error) {
      if (this.#isOver()) return;
      this.#sayBye(reasonOf(error));
      this.#end(error instanceof Error ? error : new Error(String(error)), "after what was sent");
    }
  }

  #take(type: FrameType, payload: Uint8Array, checksum: number): void {
    if (this.#hasEnded) return;
    this.#hasFrames = true;
    if (type === FRAME.PING) {
      const answer = new Uint8Array(PING_BYTES);
      encodePing(answer, decodePing(payload));
      this.send(FRAME.PONG, answer);
    } else if (type === FRAME.BYE) {
      const { code, text } = decodeReason(payload);
      this.#end(
        code === PEACE ? undefined : new UblkError(code, `the other side says: ${text}`),
        "after what was sent",
      );
    } else if (type !== FRAME.PONG) this.#events.onFrame(type, payload, checksum);
  }

  /** Asked after somebody else was called, who may have ended it. */
  #isOver(): boolean {
    return this.#hasEnded;
  }

  /** The stream has ended, and nobody has said why. */
  #lose(what: string): void {
    if (this.#hasEnded) return;
    let fault = new UblkError("ELINK", this.#hasFrames ? what : `${what} without a word: ${SAME_TRANSPORT}`);
    try {
      this.#reader.end();
    } catch (error) {
      // Cut within a frame.
      fault = error as UblkError;
    }
    this.destroy(fault);
  }

  /** Sends a frame whose payload lies in pieces. */
  readonly send = (type: FrameType, ...pieces: readonly Uint8Array[]): void => {
    if (!this.#hasEnded) this.#say(type, pieces, bytesOf(pieces), 0);
  };

  /** The same, packed where that pays. Gives the bytes of the payload that go over; 0 when the connection has ended. */
  sendPacked(type: FrameType, ...pieces: readonly Uint8Array[]): number {
    if (this.#hasEnded) return 0;
    const bytes = bytesOf(pieces);
    const packed = compressed(pieces, bytes);
    if (packed === undefined) this.#say(type, pieces, bytes, 0);
    else this.#say(type, [packed], packed.length, bytes);
    return packed?.length ?? bytes;
  }

  #say(type: FrameType, pieces: readonly Uint8Array[], length: number, unpacked: number): void {
    // A table, or all of a short payload, leaves with the header: few pieces are cheaper than few bytes.
    const [first] = pieces;
    const isJoined = first !== undefined && first.length <= JOINED_BYTES_MAX;
    const front = new Uint8Array(HEADER_BYTES + (isJoined ? first.length : 0));
    if (isJoined) front.set(first, HEADER_BYTES);
    const checksum = pieces.reduce((sum, piece) => crc32(piece, sum), 0);
    encodeHeader(front, { type, sequence: this.#sequence, length, checksum, unpacked });
    this.#sequence++;
    this.#hasSaid = true;
    this.#cork();
    this.#stream.write(front);
    for (const piece of pieces.slice(isJoined ? 1 : 0)) this.#stream.write(piece);
  }

  /** All that is said in one turn goes over at once. */
  #cork(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#stream.cork();
    process.nextTick(() => {
      this.#isCorked = false;
      this.#stream.uncork();
    });
  }

  #sayBye(reason: Reason): void {
    const payload = encodeReason(reason);
    this.#say(FRAME.BYE, [payload], payload.length, 0);
  }

  #watch(): void {
    // Who does not listen hears nothing.
    this.#silentTurns = this.#hasHeard || this.#stream.isPaused() ? 0 : this.#silentTurns + 1;
    if (this.#silentTurns >= 3) {
      this.destroy(new UblkError("ELINK", `the other side was silent for ${this.#silenceMs / 1000} s`));
      return;
    }
    // Before the welcome there is nothing to be said but HELLO and its answer.
    if (this.#givesSigns && !this.#hasSaid) {
      const ping = new Uint8Array(PING_BYTES);
      encodePing(ping, this.#sequence);
      this.send(FRAME.PING, ping);
    }
    this.#hasHeard = false;
    this.#hasSaid = false;
  }

  /** Ends the connection in peace: what was sent arrives, as far as the link lets it. */
  close(): void {
    this.closeFor({ code: PEACE, text: "done" });
  }

  /** Ends it with a reason, which the other side is told. */
  closeFor(reason: Reason): void {
    if (this.#hasEnded) return;
    this.#sayBye(reason);
    this.#end(undefined, "after what was sent");
  }

  /** Ends it at once. */
  destroy(error: Error): void {
    this.#end(error, "at once");
  }

  #end(error: Error | undefined, when: "at once" | "after what was sent"): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearInterval(this.#timer);
    if (when === "at once") this.#stream.destroy();
    else this.#stream.end();
    // A side that never closes its half does not keep this one.
    const patience = setTimeout(() => {
      this.#stream.destroy();
    }, this.#silenceMs).unref();
    this.#stream.once("close", () => {
      clearTimeout(patience);
    });
    this.#events.onEnd(error);
  }
}

function bytesOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

const JOINED_BYTES_MAX = 4096;
/** The code of a BYE that ends a connection because there is nothing more to be said. */
const PEACE = "EPEACE";
/** Who takes no frames of clear bytes, or none in TLS, mostly closes and says nothing. */
const SAME_TRANSPORT = 'both sides have to name the same transport, "tls" or "clear"';
