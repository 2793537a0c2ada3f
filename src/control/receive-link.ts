/**
 * A connection to the receiver, from its first byte on: a HELLO, its answer, then frames both ways.
 *
 * Invariants. Nothing but a HELLO is looked at before it was answered, and that has to come soon. What the volume has to say
 * before the source is welcomed is sent behind the WELCOME. What was taken from the stream and not dealt with is bounded: the
 * stream waits.
 */
import type { Duplex } from "node:stream";
import { Connection } from "../replication/connection.ts";
import { FRAME } from "../replication/frame.ts";
import { decodeHello, encodeWelcome, reasonOf, type Hello, type Judgement } from "../replication/handshake.ts";
import { encodeReason, type Reason } from "../replication/messages.ts";
import type { Frame, ReceivedFrame } from "../replication/receive-orders.ts";
import type { Peer } from "../replication/transport.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { log } from "./log.ts";
import type { SourceLink } from "./received-volume.ts";

/** Of a source, in the receiver's memory: more than what is between two turns of the volume's thread. */
const PENDING_BYTES_MAX = 16 * 2 ** 20;

/** Where a source's frames go once it is welcome. */
export interface LinkVolume {
  readonly name: string;
  welcome(hello: Hello, link: SourceLink): Promise<Judgement>;
  /** Throws why it does not. */
  takeOver(hello: Hello, link: SourceLink): Promise<void>;
  take(link: SourceLink, frames: readonly ReceivedFrame[], bytes: number): void;
  leave(link: SourceLink): void;
}

export interface LinkOwner {
  /** Of this name; undefined where none is mirrored to here. */
  volume(name: string): LinkVolume | undefined;
  /** The answer to a HELLO of a volume that is not known. */
  unknown(hello: Hello): Judgement;
  /** It has been welcomed, or has ended before. */
  onDecided(link: Link): void;
  onEnded(link: Link): void;
}

export class Link implements SourceLink {
  /** Who is there, as far as the transport knows, and where. */
  readonly peer: Peer;
  readonly from: string;
  readonly #owner: LinkOwner;
  readonly #stream: Duplex;
  readonly #connection: Connection;
  readonly #patience: NodeJS.Timeout;
  #volume: LinkVolume | undefined;
  #hello: "wanted" | "looked at" | "welcomed" = "wanted";
  #hasEnded = false;
  /** Of the source, since the stream was last read; and in all that was not dealt with, in bytes. */
  #frames: ReceivedFrame[] = [];
  #bytes = 0;
  #pendingBytes = 0;
  /** For the source, until it is welcomed. */
  #early: Frame[] = [];

  constructor(owner: LinkOwner, stream: Duplex, { peer, from }: { peer: Peer; from: string }, silenceMs: number) {
    this.#owner = owner;
    this.#stream = stream;
    this.peer = peer;
    this.from = peer === null ? from : `${peer} (${from})`;
    this.#patience = setTimeout(() => {
      this.end({ code: "ELINK", text: `no HELLO has come within ${silenceMs / 1000} s` });
    }, silenceMs);
    this.#connection = new Connection(stream, silenceMs, {
      onFrame: (type, payload, checksum) => {
        this.#take({ type, payload, checksum });
      },
      onBatch: () => {
        this.#pass();
      },
      onEnd: (error) => {
        this.#ended(error);
      },
    });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  #take(frame: ReceivedFrame): void {
    const { type, payload } = frame;
    if (this.#hello === "welcomed") {
      this.#frames.push(frame);
      this.#bytes += payload.length;
    } else if (this.#hello === "wanted" && (type === FRAME.HELLO || type === FRAME.TAKE_OVER)) {
      this.#hello = "looked at";
      clearTimeout(this.#patience);
      void (type === FRAME.HELLO ? this.#answer(payload) : this.#takeOver(payload));
    } else throw new UblkError("EPROTOCOL", `wanted a HELLO and nothing else before its answer, found type ${type}`);
  }

  /** Hands on what has come. */
  #pass(): void {
    if (this.#frames.length === 0) return;
    const frames = this.#frames;
    const bytes = this.#bytes;
    this.#frames = [];
    this.#bytes = 0;
    this.#pendingBytes += bytes;
    if (this.#pendingBytes > PENDING_BYTES_MAX) this.#stream.pause();
    this.#volume?.take(this, frames, bytes);
  }

  async #answer(payload: Uint8Array): Promise<void> {
    try {
      const hello = decodeHello(payload);
      this.#volume = this.#owner.volume(hello.volume);
      const judgement = await (this.#volume?.welcome(hello, this) ?? this.#owner.unknown(hello));
      if (judgement.kind === "refused") this.#refuse(judgement.reason);
      else if (this.#hasEnded) this.#volume?.leave(this);
      else {
        this.#hello = "welcomed";
        this.#connection.send(FRAME.WELCOME, encodeWelcome(judgement.welcome));
        this.#connection.acceptLargeFrames();
        this.#owner.onDecided(this);
        const { wants } = judgement.welcome;
        log("info", `Volume ${hello.volume}: ${this.from} is its source now, and sends: ${wants}`);
        for (const { type, payload: early } of this.#early.splice(0)) this.#connection.send(type, early);
      }
    } catch (error) {
      this.#refuse(reasonOf(error));
    }
  }

  async #takeOver(payload: Uint8Array): Promise<void> {
    try {
      const hello = decodeHello(payload);
      this.#volume = this.#owner.volume(hello.volume);
      if (this.#volume === undefined) throw new UblkError("ENOENT", `no volume "${hello.volume}" is mirrored to here`);
      await this.#volume.takeOver(hello, this);
      this.#connection.send(FRAME.TAKEN_OVER);
      this.#connection.close();
    } catch (error) {
      this.#refuse(reasonOf(error));
    }
  }

  #refuse(reason: Reason): void {
    if (this.#hasEnded) return;
    log("warning", `Refused ${this.from}: ${reason.text} (${reason.code})`);
    this.#connection.send(FRAME.REFUSED, encodeReason(reason));
    this.#connection.close();
  }

  deliver(frames: readonly Frame[], taken: number): void {
    this.#pendingBytes -= taken;
    if (this.#stream.isPaused() && this.#pendingBytes <= PENDING_BYTES_MAX / 2) this.#stream.resume();
    if (this.#hello !== "welcomed") {
      this.#early.push(...frames);
      return;
    }
    for (const { type, payload } of frames) this.#connection.send(type, payload);
  }

  end(reason: Reason): void {
    if (this.#hasEnded) return;
    if (reason.code !== "EPEACE")
      log("warning", `Ending the connection of ${this.from}: ${reason.text} (${reason.code})`);
    this.#connection.closeFor(reason);
  }

  #ended(error: Error | undefined): void {
    this.#hasEnded = true;
    clearTimeout(this.#patience);
    // What came whole before it ended counts.
    this.#pass();
    this.#volume?.leave(this);
    const name = this.#volume?.name;
    const whose = name === undefined ? this.from : `Volume ${name}: ${this.from}`;
    if (error !== undefined) log("warning", `${whose} has gone: ${messageOf(error)}`);
    else if (this.#hello === "welcomed") log("info", `${whose} has gone in peace`);
    this.#owner.onEnded(this);
  }
}
