/**
 * A volume that is mirrored to here: its files, its thread, and the one source that it takes data from.
 *
 * Invariants. One source at a time: an older connection has ended, and what it brought is durable, before a newer one is answered.
 * What a source has to be told is durable before it is told. A volume that has failed takes nothing any more, and says why.
 */
import type { Peer } from "../replication/transport.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { met } from "../replication/generations.ts";
import { judge, reasonOf, type Hello, type Judgement, type Known } from "../replication/handshake.ts";
import { FRAME } from "../replication/frame.ts";
import type { Reason } from "../replication/messages.ts";
import { ReceiveThread } from "../replication/receive-thread.ts";
import type { Frame, Kept, KeptPoint, Settled } from "../replication/receive-orders.ts";
import { volumeMark, ownerOf } from "./identity.ts";
import { log } from "./log.ts";
import { receiveLossNotePath, receiveStatePath } from "./paths.ts";
import type { ReceivedSpec } from "./receive-config.ts";
import { openReceivedFiles, type ReceivedFiles } from "./receive-files.ts";
import { generationsOf, readNote, writeNote, type ReceiverNote } from "./receive-state.ts";
import type { ReceivedPointRow, ReceivedStatus } from "./receive-status.ts";

/** A source that is connected, or wants to be, as its volume sees it. */
export interface SourceLink {
  /** Which host it is, where the transport knows that. */
  readonly peer: Peer;
  /** Where it comes from. */
  readonly from: string;
  readonly hasEnded: boolean;
  /** Frames of the volume for it, and so many bytes of its own that were dealt with. */
  deliver(frames: readonly Frame[], taken: number): void;
  /** Ends it, with a reason that it is told. */
  end(reason: Reason): void;
}

interface Attached {
  readonly link: SourceLink;
  readonly number: number;
  readonly since: string;
}

export class ReceivedVolume implements AsyncDisposable {
  readonly #spec: ReceivedSpec;
  #files: ReceivedFiles | undefined;
  #thread: ReceiveThread | undefined;
  #note: ReceiverNote | undefined;
  #failure: UblkError | undefined;
  #attached: Attached | undefined;
  #connections = 0;
  /** One source is answered after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #received = { transfers: 0, transferBytes: 0, itemBytes: 0 };

  private constructor(spec: ReceivedSpec) {
    this.#spec = spec;
  }

  get name(): string {
    return this.#spec.name;
  }

  /** Why it takes nothing any more. */
  get failure(): UblkError | undefined {
    return this.#failure;
  }

  /** Opens its files, and goes on where its log ends. One that cannot be opened has failed, and is there to say so. */
  static async open(spec: ReceivedSpec, lockWaitMs: number): Promise<ReceivedVolume> {
    const volume = new ReceivedVolume(spec);
    try {
      await volume.#open(lockWaitMs);
    } catch (error) {
      volume.#fail(error instanceof UblkError ? error : new UblkError(codeOf(error) ?? "EIO", messageOf(error)));
      await volume.#files?.[Symbol.asyncDispose]();
      volume.#files = undefined;
    }
    return volume;
  }

  async #open(lockWaitMs: number): Promise<void> {
    const { name, keep, blockBytes } = this.#spec;
    this.#note = await readNote(receiveStatePath(name));
    const { image, store, log: logFile } = (this.#files = await openReceivedFiles(this.#spec, lockWaitMs));
    const data = {
      ...ownerOf(name),
      volumeBytes: image.limits.sizeBytes,
      blockBytes,
      keep,
      image: image.options,
      log: { fd: logFile.fd, plainFd: logFile.plainFd },
      store: { fd: store.fd, plainFd: store.plainFd },
      lossNotePath: receiveLossNotePath(name),
    };
    this.#thread = await ReceiveThread.start(data, {
      onFrames: (number, frames, taken) => {
        if (this.#attached?.number === number) this.#attached.link.deliver(frames, taken);
      },
      onFault: (number, error) => {
        if (this.#attached?.number === number) this.#attached.link.end(reasonOf(error));
      },
      onWarning: (message) => {
        log("warning", `Volume ${name}: ${message}`);
      },
      onFailed: (error) => {
        this.#fail(error);
      },
    });
  }

  #fail(error: UblkError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    log("error", `Volume ${this.name} is mirrored to here no more: ${error.message}`);
    this.#attached?.link.end(failedReason(this.name, error));
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /**
   * Answers a HELLO. Where the source is welcome it is attached by then: what it sends goes to `take`, and what it is sent comes
   * by `deliver`, perhaps before this resolves. A source that is refused changes nothing, and ends nobody else's connection.
   */
  welcome(hello: Hello, link: SourceLink): Promise<Judgement> {
    return this.#inTurn(async () => {
      try {
        return await this.#welcome(hello, link);
      } catch (error) {
        return { kind: "refused", reason: reasonOf(error) };
      }
    });
  }

  async #welcome(hello: Hello, link: SourceLink): Promise<Judgement> {
    const thread = this.#thread;
    const note = this.#note;
    const sizeBytes = this.#files?.image.limits.sizeBytes;
    if (this.#failure !== undefined) return { kind: "refused", reason: failedReason(this.name, this.#failure) };
    if (thread === undefined || note === undefined || sizeBytes === undefined) {
      throw new UblkError("ENOENT", `volume "${this.name}" is not open here`);
    }
    const { from } = this.#spec;
    if (from !== null && !from.includes(link.peer ?? "")) {
      const wanted = from.map((name) => `"${name}"`).join(" or ");
      throw new UblkError("EPEER", `volume "${this.name}": wanted ${wanted} as its source, found "${link.peer}"`);
    }
    // Nobody is asked to go for one that is refused whatever the older connection may still bring.
    const early = judge(hello, this.#known(note, sizeBytes, await thread.state()));
    if (early.kind === "refused") return early;
    const older = this.#attached;
    if (older !== undefined) {
      this.#attached = undefined;
      older.link.end({ code: "EREPLACED", text: `a newer connection of volume "${this.name}" has come` });
    }
    const known = this.#known(note, sizeBytes, await thread.settle());
    const judgement = judge(hello, known);
    if (judgement.kind === "refused") return judgement;
    const { incarnation, connection } = hello;
    const incoming = met(hello.generations, known.generations);
    const next = { generations: known.generations, incoming, incarnation, connection } as ReceiverNote;
    await writeNote(receiveStatePath(this.name), next);
    this.#note = next;
    // Who is attached is told to leave when its connection ends, and not before.
    if (link.hasEnded) throw new UblkError("ELINK", "the connection has ended");
    const number = ++this.#connections;
    this.#attached = { link, number, since: new Date().toISOString() };
    try {
      const granted = await thread.connect(number, incarnation, incoming.current);
      return { kind: "welcome", welcome: { ...judgement.welcome, granted } };
    } catch (error) {
      this.leave(link);
      throw error;
    }
  }

  #known(
    note: ReceiverNote,
    volumeBytes: number,
    { lastTransfer, lastPoint, lastGeneration, logBytes }: Settled,
  ): Known {
    return {
      mark: volumeMark(this.name),
      volumeBytes,
      blockBytes: this.#spec.blockBytes,
      generations: generationsOf(note, lastGeneration),
      isPromoted: false,
      isGivenUp: false,
      hasRecord: false,
      incarnation: note.incarnation,
      connection: note.connection,
      lastTransfer,
      lastPoint,
      // Known when the source is connected.
      granted: { transferBytes: 0, itemBytes: 0 },
      logBytes,
    };
  }

  /** Frames of a source that is attached, of so many bytes; those of another go nowhere. */
  take(link: SourceLink, frames: readonly Frame[], bytes: number): void {
    if (this.#attached?.link !== link) return;
    for (const { type, payload } of frames) {
      if (type === FRAME.TRANSFER) {
        this.#received.transfers++;
        this.#received.transferBytes += payload.length;
      } else if (type === FRAME.POINT_ITEMS) this.#received.itemBytes += payload.length;
    }
    this.#thread?.frames(this.#attached.number, frames, bytes);
  }

  /** A source has gone; nothing happens where it was not attached. */
  leave(link: SourceLink): void {
    if (this.#attached?.link !== link) return;
    this.#thread?.disconnect(this.#attached.number);
    this.#attached = undefined;
  }

  async status(): Promise<ReceivedStatus> {
    const kept = this.#failure === undefined ? await this.#thread?.status().catch(() => undefined) : undefined;
    const attached = this.#attached;
    return {
      name: this.name,
      state: this.#failure !== undefined ? "failed" : attached === undefined ? "waiting" : "connected",
      error: this.#failure?.message ?? null,
      sizeBytes: this.#files?.image.limits.sizeBytes ?? null,
      source: attached?.link.from ?? null,
      since: attached?.since ?? null,
      received: { ...this.#received },
      ...keptRows(kept),
    };
  }

  /** What was received is durable when this resolves; the points are as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    this.#attached?.link.end({ code: "EPEACE", text: "the receiver is stopped" });
    this.#attached = undefined;
    await this.#thread?.quit();
    await this.#files?.[Symbol.asyncDispose]();
    this.#files = undefined;
  }
}

function keptRows(
  kept: Kept | undefined,
): Pick<ReceivedStatus, "lastPoint" | "lastClosed" | "points" | "lastTransfer" | "log" | "store" | "isStoreFull"> {
  return {
    lastPoint: kept?.lastPoint ?? null,
    lastClosed: kept?.lastClosed ? rowOf(kept.lastClosed) : null,
    points: (kept?.points ?? []).map(rowOf),
    lastTransfer: kept?.lastTransfer ?? null,
    log: kept?.log ?? null,
    store: kept?.store ?? null,
    isStoreFull: kept?.isStoreFull ?? false,
  };
}

function rowOf({ point, createdMs, state }: KeptPoint): ReceivedPointRow {
  return { point, created: createdMs === null ? null : new Date(createdMs).toISOString(), state };
}

function failedReason(name: string, error: UblkError): Reason {
  const text = `volume "${name}" has failed at the receiver: ${error.message}`;
  return { code: /^E[A-Z0-9]{1,31}$/.test(error.code) ? error.code : "EIO", text };
}
