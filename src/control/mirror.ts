/**
 * The mirror of a volume as its daemon sees it: starts the thread of the link, and starts it again when it dies.
 *
 * Invariant: whatever becomes of the link, the volume goes on, as its policy says.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MessageChannel, Worker } from "node:worker_threads";
import type { LinkStatus } from "../replication/link.ts";
import type { CommittedPoint } from "../replication/sender.ts";
import type { VerificationStatus } from "../replication/verification.ts";
import { MirrorNumbers, type MirrorMemory } from "../targets/mirror/mirror-memory.ts";
import type { LinkAttachment, MirrorOrder } from "../targets/mirror/mirror-server.ts";
import type { MirrorMode, MirrorPolicy } from "../targets/mirror/modes.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import type { Device } from "../ublk/device.ts";
import { syncBlockDevice } from "../ublk/devices.ts";
import { signalEvent } from "../ublk/event.ts";
import type { MirrorConfig } from "./config.ts";
import type { GroupEntry } from "./group-part.ts";
import { volumeMark } from "./identity.ts";
import type { LinkCommand, LinkNews, LinkWorkerData } from "./link-worker.ts";
import { log } from "./log.ts";
import type { MirrorStatus, TakenPointRow } from "./mirror-status.ts";
import { mirrorStatePath } from "./paths.ts";
import { formatAddress } from "./receive-address.ts";

const LINK_WORKER = new URL(import.meta.url.endsWith(".ts") ? "./link-worker.ts" : "./link-worker.js", import.meta.url);
/** A thread that has died is started again after so long, and longer each time until it has told how it stands. */
const RESTART_MS = { first: 1000, most: 30_000 } as const;

/** So often it is told how a verification stands. */
const VERIFICATION_MS = 250;

/** A stop waits so long for the last point. */
const REST_MS = 10_000;
/** So long may a point take before one of several volumes is cut: then the host waits for no earlier one. */
const PREPARE_MS = 60_000;

const UNKNOWN: LinkStatus = {
  state: "connecting",
  sinceMs: Date.now(),
  fault: null,
  lastPoint: null,
  lastClosed: null,
  connections: 0,
  sentBytes: { transfers: 0, points: 0, sums: 0 },
  wireBytes: 0,
  points: { closed: 0, open: 0 },
  behind: { sinceMs: Date.now(), points: 0 },
  compared: { copied: { comparedBytes: 0, equalBytes: 0 }, verified: { comparedBytes: 0, differentBytes: 0 } },
  verification: null,
};

export class Mirror {
  readonly #name: string;
  readonly #config: MirrorConfig;
  readonly #memory: MirrorMemory;
  readonly #numbers: MirrorNumbers;
  readonly #device: Device;
  #worker: Worker | undefined;
  #isPaused = false;
  #isStopped = false;
  #restartMs: number = RESTART_MS.first;
  #restart: NodeJS.Timeout | undefined;
  #link: LinkStatus = UNKNOWN;
  #bytesPerSecond: number | null;
  readonly #group: GroupEntry<TakenPointRow>;
  #lastAsked = 0;
  /** By number: what the thread was asked, and has not answered. */
  readonly #cuts = new Map<number, PromiseWithResolvers<CommittedPoint>>();
  /** Of those that are cut while the host is held back: told as soon as they are cut. */
  readonly #takes = new Map<number, PromiseWithResolvers<number>>();
  /** The last one of these. */
  #taken: { readonly point: number; readonly committed: Promise<CommittedPoint> } | undefined;
  readonly #verifications = new Map<number, PromiseWithResolvers<number>>();

  /** `group` is the volume's part in points of several. */
  constructor(
    name: string,
    config: MirrorConfig,
    memory: MirrorMemory,
    device: Device,
    group: GroupEntry<TakenPointRow>,
  ) {
    this.#name = name;
    this.#config = config;
    this.#memory = memory;
    this.#device = device;
    this.#group = group;
    this.#bytesPerSecond = config.copyBytesPerSecond;
    this.#numbers = new MirrorNumbers(memory);
    this.setMode(config.mode);
    this.setPolicy(config.policy);
  }

  /** Begins to connect. The volume has begun a life of its log (SourceStateFile.begin). */
  async start(): Promise<void> {
    const { to: address, silenceMs, intervalMs, isComparing, compression, transport, receiver } = this.#config;
    const link = { address, silenceMs, intervalMs, isComparing, compression };
    const toVolume = new MessageChannel();
    const attachment: LinkAttachment = { kind: "link", port: toVolume.port1 };
    await this.#device.order(attachment, [toVolume.port1]);
    const workerData: LinkWorkerData = {
      memory: this.#memory,
      port: toVolume.port2,
      statePath: mirrorStatePath(this.#name),
      options: { volume: this.#name, mark: volumeMark(this.#name), ...link },
      transport,
      receiver,
      isPaused: this.#isPaused,
      bytesPerSecond: this.#bytesPerSecond,
    };
    const name = `link ${this.#name}`;
    const worker = new Worker(LINK_WORKER, { workerData, name, transferList: [toVolume.port2] });
    this.#worker = worker;
    worker.on("message", (news: LinkNews) => {
      this.#take(news);
    });
    worker.on("error", (error) => {
      const fault = { code: codeOf(error) ?? "EFAULT", text: `its thread has died: ${messageOf(error)}` };
      this.#tellChange({ ...this.#link, state: "connecting", fault });
    });
    worker.on("exit", () => {
      this.#exited();
    });
  }

  #exited(): void {
    this.#worker = undefined;
    for (const id of [...this.#cuts.keys(), ...this.#verifications.keys()])
      this.#reject(id, new UblkError("ELINK", "the link of the mirror has ended"));
    if (this.#isStopped) return;
    // Nobody tells that what is written now is missing at the receiver: the state says so already, since the link was not in step.
    this.#restart = setTimeout(() => {
      this.start().catch((error: unknown) => {
        if (!this.#isStopped) log("error", `The link of the mirror does not begin: ${messageOf(error)}`);
      });
    }, this.#restartMs);
    this.#restartMs = Math.min(2 * this.#restartMs, RESTART_MS.most);
  }

  #take(news: LinkNews): void {
    if (news.type === "status") {
      this.#restartMs = RESTART_MS.first;
      this.#tellChange(news.status);
    } else if (news.type === "taken") {
      this.#takes.get(news.id)?.resolve(news.point);
      this.#takes.delete(news.id);
    } else if (news.type === "cut") {
      this.#cuts.get(news.id)?.resolve(news.point);
      this.#cuts.delete(news.id);
    } else if (news.type === "verifying") {
      this.#verifications.get(news.id)?.resolve(news.number);
      this.#verifications.delete(news.id);
    } else this.#reject(news.id, new UblkError(news.code, news.message));
  }

  #reject(id: number, error: Error): void {
    for (const answers of [this.#takes, this.#cuts, this.#verifications]) {
      answers.get(id)?.reject(error);
      answers.delete(id);
    }
  }

  #tellChange(status: LinkStatus): void {
    const before = this.#link;
    this.#link = status;
    if (status.state === before.state && status.fault?.text === before.fault?.text) return;
    const why = status.fault === null ? "" : `: ${status.fault.text}`;
    log(why === "" ? "info" : "warning", `Mirror to ${this.#to}: ${status.state}${why}`);
  }

  get #to(): string {
    return formatAddress(this.#config.to);
  }

  #command(command: LinkCommand): void {
    this.#worker?.postMessage(command);
  }

  status(): MirrorStatus {
    const numbers = this.#numbers;
    const { mode, policy, isLogging, overflows, heldWrites } = numbers;
    const { behind, ...link } = this.#link;
    return {
      ...link,
      to: this.#to,
      transport: this.#config.transport.transport,
      ...{ mode, policy, isLogging, overflows, heldWrites },
      toCopyBytes: numbers.toCopy * this.#memory.geometry.chunkSectors * SECTOR_BYTES,
      copyBytesPerSecond: this.#bytesPerSecond,
      lag: { bytes: this.#lagBytes, seconds: lagSeconds(this.#link), points: behind.points },
    };
  }

  get #lagBytes(): number {
    const { written, onTheirWay, toCopy } = this.#numbers;
    const { blockSectors, chunkSectors, volumeSectors } = this.#memory.geometry;
    return Math.min((written + onTheirWay) * blockSectors + toCopy * chunkSectors, volumeSectors) * SECTOR_BYTES;
  }

  setMode(mode: MirrorMode): void {
    this.#numbers.mode = mode;
    signalEvent(this.#memory.event);
  }

  setPolicy(policy: MirrorPolicy): void {
    this.#numbers.policy = policy;
    signalEvent(this.#memory.event);
  }

  /** Of what is copied; null for no limit. */
  limit(bytesPerSecond: number | null): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#command({ type: "limit", bytesPerSecond });
  }

  pause(): void {
    this.#isPaused = true;
    this.#command({ type: "pause" });
  }

  resume(): void {
    this.#isPaused = false;
    this.#command({ type: "resume" });
  }

  /** Resolves with a point that shows all that was written before, once the receiver has it. Throws ELINK. */
  async cutPoint(): Promise<CommittedPoint> {
    const { id, committed } = this.#newCut();
    this.#command({ type: "cut", id });
    return committed;
  }

  #newCut(): { readonly id: number; readonly committed: Promise<CommittedPoint> } {
    const id = this.#newNumber();
    const answer = Promise.withResolvers<CommittedPoint>();
    this.#cuts.set(id, answer);
    return { id, committed: answer.promise };
  }

  /**
   * The first step of points of several volumes at one instant (see GroupPart): what was written by now gets to the receiver, so
   * that little is left for when the host is held back. Gives a ticket for the other steps. Throws ELINK, ETIMEDOUT.
   */
  async prepare(): Promise<string> {
    const nothing = (): Promise<void> => Promise.resolve();
    return this.#group.prepare(
      {
        what: "Consistency point",
        prepare: () => this.#named(this.#settle()),
        take: (createdMs) => this.#named(this.#takePoint(createdMs)),
        // A point is one of many, whatever becomes of those of other volumes.
        ...{ goOn: nothing, keep: nothing, undo: nothing },
      },
      { holdBack: () => this.#order("hold writes"), letGo: () => this.#order("let writes go") },
    );
  }

  async #order(kind: Exclude<MirrorOrder["kind"], "link">): Promise<void> {
    await this.#device.order({ kind });
  }

  /** Of several volumes it has to be told which one cannot. */
  async #named<T>(result: Promise<T>): Promise<T> {
    try {
      return await result;
    } catch (cause) {
      throw new UblkError(codeOf(cause) ?? "EIO", `Volume ${this.#name}: ${messageOf(cause)}`, { cause });
    }
  }

  async #settle(): Promise<void> {
    const patience = new AbortController();
    const late = sleep(PREPARE_MS, undefined, patience).then(
      () => {
        throw new UblkError("ETIMEDOUT", `the receiver has got no point for ${PREPARE_MS / 1000} s`);
      },
      () => undefined,
    );
    await Promise.race([this.cutPoint(), late]).finally(() => {
      patience.abort();
    });
  }

  async #takePoint(createdMs: number): Promise<TakenPointRow> {
    const { id, committed } = this.#newCut();
    // Whoever has it taken may never ask what has become of it.
    committed.catch(() => undefined);
    const taken = Promise.withResolvers<number>();
    this.#takes.set(id, taken);
    this.#command({ type: "take", id, createdMs });
    const point = await taken.promise;
    this.#taken = { point, committed };
    return { point };
  }

  /** Resolves when the receiver has a point that was taken with those of other volumes. Throws ENOENT, ELINK. */
  async committedPoint(point: number): Promise<CommittedPoint> {
    if (this.#taken?.point === point) return this.#named(this.#taken.committed);
    throw new UblkError("ENOENT", `Volume ${this.#name}: point ${point} was not taken with those of other volumes`);
  }

  #newNumber(): number {
    if (this.#worker === undefined) throw new UblkError("ELINK", "the link of the mirror is being started: try again");
    return ++this.#lastAsked;
  }

  /**
   * Compares all of the volume with what the receiver has, and copies what differs, if that is wanted. Resolves when it has begun,
   * with how it stands from then on, to its end; it ends as well when nobody wants to hear any more. Throws ELINK, EBUSY.
   */
  async verify(isRepairing: boolean): Promise<AsyncIterable<VerificationStatus>> {
    const id = this.#newNumber();
    const answer = Promise.withResolvers<number>();
    this.#verifications.set(id, answer);
    this.#command({ type: "verify", id, isRepairing });
    const worker = this.#worker;
    return this.#verification(await answer.promise, worker);
  }

  async *#verification(number: number, worker: Worker | undefined): AsyncGenerator<VerificationStatus> {
    try {
      for (let state = "comparing"; state !== "done";) {
        await sleep(VERIFICATION_MS);
        if (this.#worker !== worker) throw new UblkError("ELINK", "the link of the mirror has ended");
        const { verification } = this.#link;
        if (verification?.number !== number) continue;
        yield verification;
        state = verification.state;
      }
    } finally {
      if (this.#worker === worker && this.#link.verification?.state !== "done")
        this.#command({ type: "end verification" });
    }
  }

  /** Before the volume is stopped: what was written gets to the receiver, where it is in step and does not take long. */
  async sendRest(): Promise<void> {
    if (this.#link.state !== "in step") return;
    // What is in the page cache of the device is written as well.
    await syncBlockDevice(this.#device.id);
    const patience = new AbortController();
    const sent = this.cutPoint().catch((error: unknown) => {
      log("warning", `The receiver has not got the last of what was written: ${messageOf(error)}`);
    });
    const late = sleep(REST_MS, undefined, patience).then(
      () => {
        log("warning", `The receiver has not got the last of what was written within ${REST_MS / 1000} s`);
      },
      () => undefined,
    );
    await Promise.race([sent, late]);
    patience.abort();
  }

  /** Ends the connection in peace. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#restart);
    const worker = this.#worker;
    if (worker === undefined) return;
    const exited = new Promise((resolve) => worker.once("exit", resolve));
    this.#command({ type: "stop" });
    await exited;
  }
}

function lagSeconds({ lastClosed, behind }: LinkStatus): number | null {
  if (lastClosed === null) return null;
  return behind.sinceMs === null ? 0 : Math.max(0, Date.now() - behind.sinceMs) / 1000;
}
