/**
 * A volume that is mirrored to here: its files, its thread, and the one source that it takes data from. Where it is written here
 * it has none of these, and only answers sources that they cannot be.
 *
 * Invariants. One source at a time: an older connection has ended, and what it brought is durable, before a newer one is answered.
 * What a source has to be told is durable before it is told. A volume that has failed takes nothing any more, and says why.
 */
import type { Peer } from "../replication/transport.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { met } from "../replication/generations.ts";
import { faultOfTakeOver, judge, reasonOf, type Hello, type Judgement, type Known } from "../replication/handshake.ts";
import { FRAME } from "../replication/frame.ts";
import type { Reason } from "../replication/messages.ts";
import { SourceStateFile } from "../replication/source-state.ts";
import { NO_TRANSFER } from "../replication/transfer-id.ts";
import { ReceiveThread } from "../replication/receive-thread.ts";
import type { Frame, Kept, KeptPoint, ReceivedFrame, Settled } from "../replication/receive-orders.ts";
import { volumeMark, ownerOf } from "./identity.ts";
import { readConfig } from "./config.ts";
import { log } from "./log.ts";
import { checkSameFiles, roleOf } from "./mirror-role.ts";
import { mirrorStatePath, receiveLossNotePath, receiveStatePath } from "./paths.ts";
import { becomeSource } from "./promotion.ts";
import type { ReceivedSpec } from "./receive-config.ts";
import { ReceivedExports, type ExportedPoint } from "./received-exports.ts";
import { openReceivedFiles, type ReceivedFiles } from "./receive-files.ts";
import { generationsOf, isOfIncoming, readNote, writeNote, type ReceiverNote } from "./receive-state.ts";
import type { ExportedPointRow, Promoted, ReceivedPointRow, ReceivedStatus } from "./receive-status.ts";
import { recordedRuns } from "./recorded-runs.ts";
import { storeBytes } from "./store-size.ts";

/** How long the locks of files may live on while the kernel clears up. */
const LOCK_WAIT_MS = 60_000;

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
  #exports: ReceivedExports | undefined;
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
  static async open(spec: ReceivedSpec): Promise<ReceivedVolume> {
    const volume = new ReceivedVolume(spec);
    await volume.#begin();
    return volume;
  }

  async #begin(): Promise<void> {
    try {
      const role = await roleOf(this.name);
      this.#note = { ...(await readNote(receiveStatePath(this.name))), role };
      if (role !== "source") await this.#open(this.#note);
      if (role === "promoting") await this.#becomeSource(this.#note);
    } catch (error) {
      this.#fail(error instanceof UblkError ? error : new UblkError(codeOf(error) ?? "EIO", messageOf(error)));
      await this.#close();
    }
  }

  async #close(): Promise<void> {
    const exports = this.#exports;
    this.#exports = undefined;
    await exports?.hideAll(true);
    await this.#thread?.quit();
    this.#thread = undefined;
    await this.#files?.[Symbol.asyncDispose]();
    this.#files = undefined;
  }

  async #open({ base, generations }: ReceiverNote): Promise<void> {
    const { name, keep, blockBytes } = this.#spec;
    const { image, store, log: logFile } = (this.#files = await openReceivedFiles(this.#spec, LOCK_WAIT_MS));
    const data = {
      ...ownerOf(name),
      volumeBytes: image.limits.sizeBytes,
      blockBytes,
      keep,
      base: base === null ? null : { ...base, generation: generations.current },
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
    this.#exports = new ReceivedExports(name, this.#thread, image);
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
    if (note?.role === "source") return judge(hello, await this.#knownSource(note));
    if (thread === undefined || note === undefined || sizeBytes === undefined) {
      throw new UblkError("ENOENT", `volume "${this.name}" is not open here`);
    }
    this.#checkPeer(link);
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
    // With its first closed point, all that only this side had is gone.
    const settled = isOfIncoming(note, known.generations) ? { base: null, record: null, isGivenUp: false } : {};
    const next = { ...note, ...settled, generations: known.generations, incoming, incarnation, connection };
    await this.#save(next as ReceiverNote);
    // Who is attached is told to leave when its connection ends, and not before.
    if (link.hasEnded) throw new UblkError("ELINK", "the connection has ended");
    const number = ++this.#connections;
    this.#attached = { link, number, since: new Date().toISOString() };
    try {
      const { record } = this.#note ?? note;
      const lacks = record === null ? [] : await recordedRuns(this.name, record, sizeBytes, this.#spec.blockBytes);
      const granted = await thread.connect(number, { incarnation, generation: incoming.current, lacks });
      return { kind: "welcome", welcome: { ...judgement.welcome, granted } };
    } catch (error) {
      this.leave(link);
      throw error;
    }
  }

  async #save(note: ReceiverNote): Promise<void> {
    await writeNote(receiveStatePath(this.name), note);
    this.#note = note;
  }

  /** Of one that is written here: nobody can be its source. */
  async #knownSource(note: ReceiverNote): Promise<Known> {
    const { state } = await SourceStateFile.open(mirrorStatePath(this.name));
    const last = { lastTransfer: NO_TRANSFER, lastPoint: 0, lastGeneration: null, logBytes: 0 };
    const known = this.#known(note, await storeBytes(this.#spec.path), { ...last, isWhole: true, lastClosed: null });
    return { ...known, generations: state.generations, isPromoted: true };
  }

  /**
   * Makes it one that is written here: the image is brought to the last moment that is known. `isForced`: even though its source is
   * connected, or something was being copied: then the volume is put back to the last closed point. Throws EMIRROR where it is
   * written here already, or has other files in its own configuration; EBUSY, EOPEN where it has to be forced, ENOPOINT. EBUSY as
   * well where a device that shows a point is in use.
   */
  promote(isForced: boolean): Promise<Promoted> {
    return this.#inTurn(async () => {
      const note = this.#note;
      if (note?.role === "source") throw new UblkError("EMIRROR", `Volume ${this.name} is written here already`);
      this.#checkFailure();
      if (note === undefined || this.#thread === undefined) {
        throw new UblkError("EMIRROR", `Volume ${this.name} is not open here`);
      }
      checkSameFiles(await readConfig(this.name), this.#spec);
      const { isWhole, lastClosed } = await this.#thread.state();
      if (lastClosed === null) {
        throw new UblkError(
          "ENOPOINT",
          `Volume ${this.name} has no closed point: all that is here is a part of a copy`,
        );
      }
      this.#checkForced(isForced, isWhole, lastClosed);
      return this.#promote(note, isForced);
    });
  }

  async #promote(note: ReceiverNote, isForced: boolean): Promise<Promoted> {
    await this.#exports?.hideAll(isForced);
    this.#attached?.link.end({ code: "EPROMOTED", text: `volume "${this.name}" is promoted at the receiver` });
    this.#attached = undefined;
    const promoting: ReceiverNote = { ...note, role: "promoting" };
    await this.#save(promoting);
    try {
      return await this.#becomeSource(promoting);
    } catch (error) {
      this.#fail(error instanceof UblkError ? error : new UblkError(codeOf(error) ?? "EIO", messageOf(error)));
      throw error;
    }
  }

  /**
   * Its source has given it up (role "target"): it is promoted. Or asks whether that could be (role "source"), which changes nothing.
   * Throws why not. One that has taken it over before has nothing more to do.
   */
  takeOver(hello: Hello, link: SourceLink): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#failure !== undefined) throw refusal(failedReason(this.name, this.#failure));
      const note = this.#note;
      const isTold = hello.role === "target";
      if (note?.role === "source") {
        const fault = faultOfTakeOver(hello, await this.#knownSource(note));
        if (isTold && fault?.code === "EAHEAD") return;
        throw refusal(fault ?? { code: "EPROMOTED", text: `volume "${this.name}" is written here` });
      }
      const thread = this.#thread;
      const sizeBytes = this.#files?.image.limits.sizeBytes;
      if (thread === undefined || note === undefined || sizeBytes === undefined) {
        throw new UblkError("ENOENT", `volume "${this.name}" is not open here`);
      }
      this.#checkPeer(link);
      const state = await thread.state();
      const fault = faultOfTakeOver(hello, this.#known(note, sizeBytes, state));
      if (fault !== undefined) throw refusal(fault);
      if (!state.isWhole) throw new UblkError("EOPEN", `volume "${this.name}": something is being copied`);
      await this.#checkMirrored();
      this.#checkNotExported();
      if (!isTold) return;
      // Who has gone may have thought better of it.
      if (link.hasEnded) throw new UblkError("ELINK", "the connection has ended");
      await this.#promote(note, false);
    });
  }

  /** It is to be mirrored from here, where that is to be so in turn. Throws EMIRROR, ConfigError. */
  async #checkMirrored(): Promise<void> {
    const config = await readConfig(this.name);
    checkSameFiles(config, this.#spec);
    if (config.mirror !== null) return;
    throw new UblkError(
      "EMIRROR",
      `${config.file}: wanted [mirror], to have the volume mirrored from here, found none`,
    );
  }

  /** Throws EBUSY where points are shown: nobody is asked whether they are in use when the volume has been given up. */
  #checkNotExported(): void {
    const [shown] = this.#exports?.all ?? [];
    if (shown === undefined) return;
    const { point, device } = shown;
    throw new UblkError(
      "EBUSY",
      `volume "${this.name}": point ${point.point} is exported as ${device}: take it back there first (sluice receive unexport ${this.name}@${point.point})`,
    );
  }

  /** Throws EPEER for one that is not to be the source. */
  #checkPeer({ peer }: SourceLink): void {
    const { from } = this.#spec;
    if (from === null || from.includes(peer ?? "")) return;
    const wanted = from.map((name) => `"${name}"`).join(" or ");
    throw new UblkError("EPEER", `volume "${this.name}": wanted ${wanted} as its source, found "${peer}"`);
  }

  #checkFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #checkForced(isForced: boolean, isWhole: boolean, { point, createdMs }: KeptPoint): void {
    if (isForced) return;
    if (this.#attached !== undefined) {
      const { from } = this.#attached.link;
      throw new UblkError(
        "EBUSY",
        `Volume ${this.name}: its source, ${from}, is connected: demote it there, or say --force to end that`,
      );
    }
    if (isWhole) return;
    const of = createdMs === null ? "" : ` of ${new Date(createdMs).toISOString()}`;
    throw new UblkError(
      "EOPEN",
      `Volume ${this.name}: something was being copied: what it can be is point ${point}${of}. Say --force to have that`,
    );
  }

  /** Whatever this is interrupted in, it is begun again with the next start of the receiver. */
  async #becomeSource(note: ReceiverNote): Promise<Promoted> {
    const config = await readConfig(this.name);
    const thread = this.#thread;
    const volumeBytes = this.#files?.image.limits.sizeBytes;
    if (thread === undefined || volumeBytes === undefined) throw new UblkError("EIO", "its files are not open");
    const { lastClosed, rollBackTo } = await thread.finish();
    const { lastGeneration } = await thread.state();
    await this.#close();
    // The ring that had the files may hold on to them a little longer: whoever starts the volume finds them free.
    const freed = await openReceivedFiles(this.#spec, LOCK_WAIT_MS);
    await freed[Symbol.asyncDispose]();
    const { incarnation } = note;
    const generations = generationsOf(note, lastGeneration);
    const rollBack = rollBackTo === null ? null : { point: lastClosed.point, epoch: rollBackTo };
    const unsettled = isOfIncoming(note, generations) ? null : note.record;
    await becomeSource(config, { generations, incarnation, volumeBytes, unsettled, rollBack });
    await this.#save({ ...note, role: "source", base: null, record: null, isGivenUp: false });
    const shown = rowOf(lastClosed);
    log(
      "info",
      `Volume ${this.name} is promoted: it is point ${shown.point} of ${shown.created ?? "an unknown moment"}`,
    );
    return { point: shown, isRolledBack: rollBackTo !== null };
  }

  /** It was demoted: from now on it is kept here for a source. Opens it; or says what it is now where it was open. */
  follow(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#close();
      this.#failure = undefined;
      await this.#begin();
      this.#checkFailure();
    });
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
      isGivenUp: note.isGivenUp,
      hasRecord: note.record !== null,
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
  take(link: SourceLink, frames: readonly ReceivedFrame[], bytes: number): void {
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

  /** Shows a closed point, null for the last one, as a read-only device: ReceivedExports.export. Throws EMIRROR where it is written here. */
  async export(point: number | null): Promise<ExportedPointRow> {
    this.#checkFailure();
    return exportedRow(await this.#exported().export(point));
  }

  /** Throws EMIRROR, ENOENT, and EBUSY while it is in use, unless forced. */
  async unexport(point: number, force: boolean): Promise<void> {
    await this.#exported().unexport(point, force);
  }

  #exported(): ReceivedExports {
    if (this.#exports !== undefined) return this.#exports;
    const why =
      this.#note?.role === "source"
        ? 'is written here: its points are exported with "sluice snapshot export"'
        : "is not open here";
    throw new UblkError("EMIRROR", `Volume ${this.name} ${why}`);
  }

  async status(): Promise<ReceivedStatus> {
    const kept = this.#failure === undefined ? await this.#thread?.status().catch(() => undefined) : undefined;
    const attached = this.#attached;
    return {
      name: this.name,
      state: this.#state(),
      error: this.#failure?.message ?? null,
      sizeBytes: this.#files?.image.limits.sizeBytes ?? null,
      source: attached?.link.from ?? null,
      since: attached?.since ?? null,
      received: { ...this.#received },
      ...keptRows(kept),
      exports: (this.#exports?.all ?? []).map(({ point, device }) =>
        exportedRow({ point: kept?.points.find((each) => each.point === point.point) ?? point, device }),
      ),
    };
  }

  #state(): ReceivedStatus["state"] {
    if (this.#failure !== undefined) return "failed";
    if (this.#note?.role === "source") return "promoted";
    return this.#attached === undefined ? "waiting" : "connected";
  }

  /** What was received is durable when this resolves; the points are as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    this.#attached?.link.end({ code: "EPEACE", text: "the receiver is stopped" });
    this.#attached = undefined;
    await this.#close();
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

function exportedRow({ point, device }: ExportedPoint): ExportedPointRow {
  return { ...rowOf(point), device };
}

function refusal({ code, text }: Reason): UblkError {
  return new UblkError(code, text);
}

function failedReason(name: string, error: UblkError): Reason {
  const text = `volume "${name}" has failed at the receiver: ${error.message}`;
  return { code: /^E[A-Z0-9]{1,31}$/.test(error.code) ? error.code : "EIO", text };
}
