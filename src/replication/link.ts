/**
 * The link of a mirrored volume to its receiver: connects, and connects again; has points cut; and says how it stands.
 *
 * Invariants. What the generations must tell is durable before what it is for (generations.ts): before the first point of a
 * connection, and before a write is answered that the receiver may never get. The volume waits for the receiver only from when
 * what it logs is what the receiver gets, until it is known durably that this side goes on alone. Where it is stopped, and the receiver
 * has all that was written, this side has not gone on alone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MirrorNumbers, type MirrorMemory } from "../targets/mirror/mirror-memory.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { TransferReader } from "../targets/mirror/transfer-ring.ts";
import { errnoName, errnoText, messageOf, UblkError } from "../ublk/errors.ts";
import type { Compression } from "./compression.ts";
import { Connection } from "./connection.ts";
import { FRAME, type FrameType } from "./frame.ts";
import { inStep, met, offered, wentAlone } from "./generations.ts";
import { decodeWelcome, encodeHello, reasonOf, type Welcome } from "./handshake.ts";
import { decodeReason } from "./messages.ts";
import { Sender, type CommittedPoint, type CompareCounts } from "./sender.ts";
import type { SharedVolume } from "./shared-volume.ts";
import { freshGeneration, type SourceStateFile } from "./source-state.ts";
import type { Address, Transport } from "./transport.ts";
import type { VerificationStatus } from "./verification.ts";

export interface LinkOptions {
  readonly volume: string;
  readonly mark: bigint;
  readonly address: Address;
  readonly transport: Transport;
  /** Who hears nothing for so long takes the connection for lost. */
  readonly silenceMs: number;
  /** Between two points, where something was written. */
  readonly intervalMs: number;
  /** What is to be copied is compared first, and sent only where the receiver has it otherwise. */
  readonly isComparing: boolean;
  /** How what is sent travels. */
  readonly compression: Compression;
}

export const LINK_STATES = ["paused", "connecting", "copying", "in step"] as const;
/** "copying": something is to be copied before the next closed point. */
export type LinkState = (typeof LINK_STATES)[number];

export interface LinkStatus {
  readonly state: LinkState;
  /** Since when, in milliseconds since 1970. */
  readonly sinceMs: number;
  /** Why there is no connection, or it does not go on; null where it does, or nothing is known yet. */
  readonly fault: { readonly code: string; readonly text: string } | null;
  readonly lastPoint: CommittedPoint | null;
  /** The last closed one: what the receiver shows. */
  readonly lastClosed: CommittedPoint | null;
  readonly connections: number;
  /** Payload bytes. */
  readonly sentBytes: { readonly transfers: number; readonly points: number; readonly sums: number };
  /** What went over for that: less, where it was packed. */
  readonly wireBytes: number;
  readonly points: { readonly closed: number; readonly open: number };
  readonly behind: Behind;
  readonly compared: CompareCounts;
  /** The comparison of all the volume that is under way, or was the last one; null where there was none. */
  readonly verification: VerificationStatus | null;
}

/** What the receiver does not show. */
export interface Behind {
  /** When the oldest write of that was, or not before; null where there is none. */
  readonly sinceMs: number | null;
  /** Cut since the one that it shows. */
  readonly points: number;
}

/** A point that is cut while the host is held back. */
export interface TakenPoint {
  /** Its number, as soon as it is cut: then the host may go on. */
  readonly taken: Promise<number>;
  readonly committed: Promise<CommittedPoint>;
}

interface EarlyFrame {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

const BACK_OFF_MS = { first: 250, most: 10_000 } as const;
/** So often at least it is noted which point the receiver has. */
const SAVE_POINT_MS = 10_000;

export class MirrorLink {
  readonly #options: LinkOptions;
  readonly #memory: MirrorMemory;
  readonly #numbers: MirrorNumbers;
  readonly #volume: SharedVolume;
  readonly #state: SourceStateFile;
  readonly #ring: TransferReader;
  readonly #sender: Sender;
  #connection: Connection | undefined;
  #connections = 0;
  #isConnected = false;
  #isPaused = false;
  #isStopped = false;
  #abort = new AbortController();
  #backOffMs: number = BACK_OFF_MS.first;
  #sinceMs = Date.now();
  #shown: LinkState = "connecting";
  #fault: LinkStatus["fault"] = null;
  #lastPoint: CommittedPoint | null = null;
  #lastClosed: CommittedPoint | null = null;
  #savedPointMs = 0;
  /** What a life of the volume before this one has left is as old as this one at least. */
  #behindSinceMs: number | null = Date.now();
  #openSinceClosed = 0;
  readonly #sentBytes = { transfers: 0, points: 0, sums: 0 };
  #wireBytes = 0;
  readonly #points = { closed: 0, open: 0 };
  /** Who waits for a point, and for which. */
  #waiting: { readonly point: number; readonly answer: PromiseWithResolvers<CommittedPoint> }[] = [];
  /** What the next point is to be, where somebody wants one of a moment that has a name. */
  #held: { readonly createdMs: number; readonly taken: PromiseWithResolvers<number> } | undefined;
  /** Told when the state has changed, or the fault. */
  whenChanged: () => void = () => undefined;

  constructor(options: LinkOptions, memory: MirrorMemory, volume: SharedVolume, state: SourceStateFile) {
    this.#options = options;
    this.#memory = memory;
    this.#volume = volume;
    this.#state = state;
    this.#numbers = new MirrorNumbers(memory);
    const { incarnation } = state.state;
    this.#ring = new TransferReader(memory.ring, memory.ringSize, incarnation);
    const { geometry, ringSize } = memory;
    const { isComparing } = options;
    const { chunkSectors } = geometry;
    this.#sender = new Sender(
      { volume, ring: this.#ring, incarnation, geometry, chunkSectors, ringSize, isComparing, nowMs: Date.now, later },
      {
        ready: () => {
          this.#ready();
        },
        committed: (point, copiedChunks) => {
          this.#committed(point, copiedChunks);
        },
        stuck: () => {
          this.#beginAnew("the receiver's log was full");
        },
      },
    );
    volume.whenOverflowed = () => {
      this.#beginAnew("the log of the source was full");
    };
    volume.whenUnread = (result) => {
      const text = `a part of the volume cannot be read, and is tried again: ${errnoText(-result)}`;
      this.#show({ code: errnoName(-result), text });
    };
  }

  get status(): LinkStatus {
    return {
      state: this.#shown,
      sinceMs: this.#sinceMs,
      fault: this.#fault,
      lastPoint: this.#lastPoint,
      lastClosed: this.#lastClosed,
      connections: this.#connections,
      sentBytes: { ...this.#sentBytes },
      wireBytes: this.#wireBytes,
      points: { ...this.#points },
      behind: {
        sinceMs: this.#behindSinceMs,
        points: this.#openSinceClosed + (this.#sender.isBusy ? 1 : 0),
      },
      compared: this.#sender.compareCounts,
      verification: this.#sender.verification ?? null,
    };
  }

  /** Nothing is to be copied, and the receiver shows the last point. */
  get #isInStep(): boolean {
    const { isLogging, toCopy } = this.#numbers;
    return this.#sender.isShown && isLogging && toCopy === 0;
  }

  #show(fault: LinkStatus["fault"]): void {
    const connected = this.#isInStep ? "in step" : "copying";
    const state = this.#isPaused ? "paused" : this.#isConnected ? connected : "connecting";
    if (state === this.#shown && fault?.text === this.#fault?.text) return;
    if (state !== this.#shown) this.#sinceMs = Date.now();
    this.#shown = state;
    this.#fault = fault;
    this.whenChanged();
  }

  /** Goes on until `stop`. */
  async run(): Promise<void> {
    // The thread of an earlier link may have died while it was waited for.
    if (this.#numbers.isLinked) await this.#goAlone();
    void this.#follow();
    const timer = setInterval(() => {
      const { written, toCopy } = this.#numbers;
      // The last one was open, as something was being copied: what it has come to is shown by the next one.
      if (written > 0 || toCopy > 0 || !this.#sender.isShown) this.#cut();
    }, this.#options.intervalMs);
    while (!this.#isStopped) {
      if (this.#isPaused) await this.#pauseEnds();
      else await this.#tryOnce();
    }
    clearInterval(timer);
  }

  /** Sends what is logged as it comes. */
  async #follow(): Promise<void> {
    for (let end = this.#ring.end; !this.#isStopped;) {
      await this.#ring.waitBeyond(end, this.#volume.wake);
      // What is closed while this is sent is found at the next turn.
      end = this.#ring.end;
      this.#behindSinceMs ??= Date.now();
      this.#sender.pump();
      if (this.#sender.isFilling) this.#cut();
    }
  }

  async #tryOnce(): Promise<void> {
    this.#abort = new AbortController();
    try {
      await this.#connectOnce(this.#abort.signal);
    } catch (error) {
      this.#show(reasonOf(error));
    }
    if (this.#isPaused || this.#isStopped) return;
    await sleep(this.#backOffMs, undefined, { signal: this.#abort.signal }).catch(() => undefined);
    this.#backOffMs = Math.min(2 * this.#backOffMs, BACK_OFF_MS.most);
  }

  /** From connecting to the connection's end. Rejects with the reason, where it did not end in peace. */
  async #connectOnce(signal: AbortSignal): Promise<void> {
    const { transport, address, silenceMs } = this.#options;
    const stream = await transport.connect(address, AbortSignal.any([signal, AbortSignal.timeout(silenceMs)]));
    const ended = Promise.withResolvers<undefined>();
    // What comes before all is done that the welcome asks for.
    const early: EarlyFrame[] = [];
    let isWelcomed = false;
    // Why it is ended here; it is over when all is known to be alone that was not.
    let failure: Error | undefined;
    const connection = new Connection(stream, silenceMs, {
      onFrame: (type, payload) => {
        if (this.#isConnected) this.#take(type, payload);
        else if (isWelcomed) early.push({ type, payload: payload.slice() });
        else {
          const welcome = welcomeIn(type, payload);
          isWelcomed = true;
          connection.acceptLargeFrames();
          this.#welcomed(welcome, connection, early).catch((error: unknown) => {
            failure = asError(error);
            connection.closeFor(reasonOf(error));
          });
        }
      },
      onEnd: (error) => {
        this.#ended().then(
          () => {
            const reason = failure ?? error;
            if (reason === undefined) ended.resolve(undefined);
            else ended.reject(reason);
          },
          (failure: unknown) => {
            ended.reject(asError(failure));
          },
        );
      },
    });
    this.#connection = connection;
    connection.send(FRAME.HELLO, this.#hello());
    await ended.promise;
  }

  #hello(): Uint8Array {
    const { volume, mark } = this.#options;
    const { geometry } = this.#memory;
    const { incarnation, generations, lastPoint } = this.#state.state;
    const { mode, policy } = this.#numbers;
    return encodeHello({
      ...{ role: "source", volume, mark, mode, policy, generations, incarnation },
      volumeBytes: geometry.volumeSectors * SECTOR_BYTES,
      blockBytes: geometry.blockSectors * SECTOR_BYTES,
      connection: ++this.#connections,
      lastPoint: Math.max(lastPoint, this.#lastPoint?.point ?? 0),
    });
  }

  async #welcomed(welcome: Welcome, connection: Connection, early: readonly EarlyFrame[]): Promise<void> {
    const { generations } = this.#state.state;
    // Any point of this connection may be taken without this side knowing.
    await this.#state.save({ generations: offered(met(generations, welcome.generations)) });
    if (this.#connection !== connection) return;
    this.#isConnected = true;
    this.#sender.connect(welcome, (type, ...pieces) => {
      const what = type === FRAME.TRANSFER ? "transfers" : type === FRAME.SUMS ? "sums" : "points";
      const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
      this.#sentBytes[what] += bytes;
      if (this.#options.compression === "zstd") this.#wireBytes += connection.sendPacked(type, ...pieces);
      else {
        this.#wireBytes += bytes;
        connection.send(type, ...pieces);
      }
    });
    this.#backOffMs = BACK_OFF_MS.first;
    for (const { type, payload } of early) this.#take(type, payload);
    this.#show(null);
  }

  #take(type: FrameType, payload: Uint8Array): void {
    this.#sender.take(type, payload);
    if (this.#sender.isFilling) this.#cut();
  }

  #ready(): void {
    this.#numbers.isLinked = true;
    this.#volume.wake();
  }

  #committed(point: CommittedPoint, copiedChunks: number): void {
    this.#lastPoint = point;
    this.#points[point.isClosed ? "closed" : "open"]++;
    this.#openSinceClosed = point.isClosed ? 0 : this.#openSinceClosed + 1;
    if (point.isClosed) this.#closed(point);
    const waiting = this.#waiting;
    this.#waiting = waiting.filter((each) => each.point > point.point);
    for (const each of waiting) if (each.point <= point.point) each.answer.resolve(point);
    // The host's thread may not have counted yet what has just been copied.
    const isLast = !point.isClosed && this.#numbers.toCopy <= copiedChunks;
    // What is to be copied does not wait for the next turn; nor does the point that shows all of it, nor who waits for one.
    if (this.#waiting.length > 0 || this.#held !== undefined || isLast) this.#cut();
    else if (this.#numbers.toCopy > 0) this.#cutToCopy();
    this.#show(null);
  }

  #cutToCopy(): void {
    const waitMs = this.#sender.copyWaitMs;
    if (waitMs === 0) this.#cut();
    else if (waitMs < this.#options.intervalMs) {
      later(waitMs, () => {
        this.#cut();
      });
    }
  }

  /** In bytes a second, for what no log tells the receiver of; null for no limit. */
  limitCopying(bytesPerSecond: number | null): void {
    this.#sender.limitCopying(bytesPerSecond);
  }

  #closed(point: CommittedPoint): void {
    const { generations } = this.#state.state;
    const settled = inStep(generations);
    const isNews = settled.bitmap !== generations.bitmap || settled.offered !== generations.offered;
    this.#lastClosed = point;
    const { written, toCopy } = this.#numbers;
    this.#behindSinceMs = written > 0 || toCopy > 0 ? point.createdMs : null;
    if (!isNews && Date.now() - this.#savedPointMs < SAVE_POINT_MS) return;
    this.#savedPointMs = Date.now();
    this.#state.save({ generations: settled, lastPoint: point.point }).catch((error: unknown) => {
      this.#connection?.destroy(asError(error));
    });
  }

  #beginAnew(why: string): void {
    this.#behindSinceMs ??= Date.now();
    const reason = { code: "EOVERFLOW", text: `${why}: that of the source begins anew` };
    this.#rejectHeld(new UblkError(reason.code, reason.text));
    const isWaitedFor = this.#isConnected && this.#numbers.mode !== "async";
    // Writes wait that are in no log: they are answered when it is durable that this side goes on alone.
    if (isWaitedFor) this.#connection?.closeFor(reason);
    this.#sender.beginAnew();
    this.#show(this.#fault);
  }

  /** The connection is gone: the volume goes on alone, and it is known durably before it does. */
  async #ended(): Promise<void> {
    const wasConnected = this.#isConnected;
    const hasAll = this.#isInStep && this.#numbers.written === 0 && !this.#sender.isBusy;
    this.#connection = undefined;
    this.#isConnected = false;
    if (!wasConnected) return;
    this.#sender.disconnect();
    const lost = new UblkError("ELINK", "the connection to the receiver was lost");
    this.#rejectWaiting(lost);
    this.#show(this.#fault);
    // Nothing is written any more where it is stopped: which point that is, the other side is asked before it takes over.
    if (this.#isStopped && hasAll) await this.#state.save({ lastPoint: this.#lastPoint?.point ?? 0 });
    else await this.#goAlone();
  }

  async #goAlone(): Promise<void> {
    const { generations } = this.#state.state;
    const alone = wentAlone(generations, freshGeneration());
    if (alone !== generations) await this.#state.save({ generations: alone });
    this.#numbers.isLinked = false;
    this.#volume.wake();
  }

  /** Resolves with the next point that shows all that is written by now. Rejects where there is no connection. */
  async cutPoint(): Promise<CommittedPoint> {
    this.#assertConnected();
    const committed = this.#pointFrom(this.#sender.nextPoint);
    this.#cut();
    return committed;
  }

  #assertConnected(): void {
    if (this.#isConnected) return;
    const why = this.#fault === null ? "" : `: ${this.#fault.text}`;
    throw new UblkError("ELINK", `there is no connection to the receiver${why}`);
  }

  /** Resolves with the first point from this one on that the receiver has committed. */
  async #pointFrom(point: number): Promise<CommittedPoint> {
    const answer = Promise.withResolvers<CommittedPoint>();
    this.#waiting.push({ point, answer });
    return answer.promise;
  }

  /**
   * Begins to compare all of the volume with what the receiver has, and to copy what differs, if that is wanted; goes on over
   * connections. Gives its number, by which the status tells of it. Throws ELINK, EBUSY.
   */
  verify(isRepairing: boolean): number {
    this.#assertConnected();
    return this.#sender.verify(isRepairing);
  }

  endVerification(): void {
    this.#sender.endVerification();
  }

  /**
   * Cuts a point of the moment that is called `createdMs`, when the one that is under way is committed; the host is held back
   * until it is cut, or there is none (EEXPIRED). One at a time. Throws ELINK where there is no connection.
   */
  takePoint(createdMs: number): TakenPoint {
    this.#assertConnected();
    const taken = Promise.withResolvers<number>();
    this.#held = { createdMs, taken };
    const committed = taken.promise.then(async (wanted) => {
      const found = await this.#pointFrom(wanted);
      if (found.point === wanted) return found;
      throw new UblkError("ELINK", `point ${wanted} was given up: the log began anew`);
    });
    // Who hears that it was not taken asks no further.
    committed.catch(() => undefined);
    this.#cut();
    return { taken: taken.promise, committed };
  }

  #cut(): void {
    const held = this.#held;
    if (held === undefined) {
      this.#sender.cut();
      return;
    }
    const answer = (point: number | undefined): void => {
      if (point === undefined) this.#rejectHeld(new UblkError("EEXPIRED", "the host was not held back any more"));
      else held.taken.resolve(point);
      this.#held = undefined;
    };
    this.#sender.cut({ createdMs: held.createdMs, answer });
  }

  #rejectHeld(error: Error): void {
    this.#held?.taken.reject(error);
    this.#held = undefined;
  }

  #rejectWaiting(error: Error): void {
    for (const { answer } of this.#waiting.splice(0)) answer.reject(error);
    this.#rejectHeld(error);
  }

  pause(): void {
    this.#isPaused = true;
    this.#end("paused");
  }

  resume(): void {
    this.#isPaused = false;
    this.#backOffMs = BACK_OFF_MS.first;
    this.#abort.abort();
  }

  async #pauseEnds(): Promise<void> {
    this.#show(null);
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    await new Promise((resolve) => {
      signal.addEventListener("abort", resolve, { once: true });
    });
  }

  /** Ends the connection in peace, and for good. */
  stop(): void {
    this.#isStopped = true;
    this.#end("stopped");
  }

  #end(how: string): void {
    this.#rejectWaiting(new UblkError("ELINK", `the mirror is ${how}`));
    this.#connection?.close();
    this.#abort.abort();
  }
}

/** Keeps no thread from its end. */
function later(ms: number, action: () => void): void {
  setTimeout(action, ms).unref();
}

function welcomeIn(type: FrameType, payload: Uint8Array): Welcome {
  if (type === FRAME.WELCOME) return decodeWelcome(payload);
  if (type === FRAME.REFUSED) {
    const { code, text } = decodeReason(payload);
    throw new UblkError(code, `the receiver refuses: ${text}`);
  }
  throw new UblkError(
    "EPROTOCOL",
    `a receiver answers HELLO with WELCOME or REFUSED, not with a frame of type ${type}`,
  );
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new UblkError("EIO", messageOf(error));
}
