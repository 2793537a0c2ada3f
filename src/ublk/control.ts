/**
 * The control plane: commands to /dev/ublk-control.
 *
 * Invariants. No command waits for ever: each has a deadline and takes an AbortSignal, and is cancelled in the kernel
 * when either strikes. No command blocks a thread of ours: the kernel runs it on a thread of its own and tells an
 * eventfd, so requests go on being served meanwhile. Memory that a command was given stays with it until the kernel has
 * answered, even after we have given it up.
 */
import { closeSync, openSync, read } from "node:fs";
import {
  CONTROL,
  CTRL_CMD,
  DEVICE_STATES,
  DEV_INFO,
  FEATURE_BITS,
  OPCODE,
  SECTOR_BYTES,
  SQE,
  UBLK_PARAMS,
  type DeviceState,
  type Feature,
} from "./abi.ts";
import { codeOf, errnoName, errnoText, messageOf, UblkError } from "./errors.ts";
import { signalEvent } from "./event.ts";
import { MappedMemory } from "./memory.ts";
import { native } from "./native.ts";
import { decodeParameters, encodeParameters, type DeviceParameters } from "./parameters.ts";
import { highWord, lowWord, Ring } from "./ring.ts";
import type { CompletionHandler } from "./io.ts";

export const CONTROL_PATH = "/dev/ublk-control";
/** How long a command may take unless told otherwise. An emulated machine is slow; a healthy one answers at once. */
export const COMMAND_DEADLINE_MS = 60_000;

const ANY_QUEUE = 0xffff;
const ANY_DEVICE = 0xffffffff;
const SLOTS = 32;
const SLOT_BYTES = 1024;
const DEVICE_FEATURES_MASK = 0xffffffffn;

export interface CommandOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs?: number | undefined;
}

/** What the kernel knows of a device. */
export interface DeviceInfo {
  readonly id: number;
  readonly state: DeviceState;
  readonly queues: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  /** Process that serves the device, 0 where there is none. */
  readonly pid: number;
  readonly features: ReadonlySet<Feature>;
  /** 64 bits that the server stored when it added the device. */
  readonly mark: bigint;
}

export interface NewDevice {
  /** Wanted number; the kernel chooses where it is absent. */
  readonly id?: number | undefined;
  readonly queues: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly features: readonly Feature[];
  readonly mark: bigint;
}

interface Command {
  readonly name: keyof typeof CONTROL;
  readonly device: number;
  readonly queue?: number;
  readonly data?: number;
  /** In and out: what the kernel reads and rewrites. */
  readonly payload?: Uint8Array;
}

interface Pending {
  readonly command: Command;
  readonly settle: (result: number) => void;
}

export class ControlPlane implements Disposable, CompletionHandler {
  readonly #fd: number;
  readonly #ring: Ring;
  readonly #event: number;
  readonly #memory: MappedMemory;
  readonly #pending = new Map<number, Pending>();
  readonly #handler: number;
  readonly #ignored: number;
  #listening = false;
  #closed = false;

  private constructor(fd: number) {
    this.#fd = fd;
    this.#ring = new Ring({ entries: SLOTS * 2, wideEntries: true, singleThread: false });
    this.#event = native.eventDescriptor();
    this.#ring.registerEvent(this.#event);
    this.#memory = MappedMemory.anonymous(SLOTS * SLOT_BYTES);
    this.#handler = this.#ring.addHandler(this);
    this.#ignored = this.#ring.addHandler({ completed: () => undefined });
  }

  /** Throws ENODRIVER, EACCES or EPERM with what to do about it. */
  static open(): ControlPlane {
    let fd: number;
    try {
      fd = openSync(CONTROL_PATH, "r+");
    } catch (cause) {
      const code = codeOf(cause);
      if (code === "ENOENT" || code === "ENODEV" || code === "ENXIO") {
        throw new UblkError(
          "ENODRIVER",
          `This kernel has no ublk driver at work (${CONTROL_PATH} is missing): run "modprobe ublk_drv"; it comes with Linux 6.0 and later`,
          { cause },
        );
      }
      if (code === "EACCES" || code === "EPERM") {
        throw new UblkError("EACCES", `No right to open ${CONTROL_PATH}: run as root`, { cause });
      }
      throw new UblkError("ECONTROL", `Cannot open ${CONTROL_PATH}: ${messageOf(cause)}`, { cause });
    }
    return new ControlPlane(fd);
  }

  /** Features that the driver knows, asked of the driver. */
  async features(options?: CommandOptions): Promise<ReadonlySet<Feature>> {
    const payload = new Uint8Array(8);
    await this.#run({ name: "GET_FEATURES", device: ANY_DEVICE, payload }, options);
    return featuresOf(new DataView(payload.buffer).getBigUint64(0, true));
  }

  /** Adds a device, not yet started. The kernel may give fewer queues or features than asked for: read what came back. */
  async add(device: NewDevice, options?: CommandOptions): Promise<DeviceInfo> {
    const payload = new Uint8Array(DEV_INFO.size);
    const view = new DataView(payload.buffer);
    const id = device.id ?? ANY_DEVICE;
    view.setUint16(DEV_INFO.queues, device.queues, true);
    view.setUint16(DEV_INFO.depth, device.depth, true);
    view.setUint32(DEV_INFO.maxIoBytes, device.maxIoBytes, true);
    view.setUint32(DEV_INFO.devId, id, true);
    view.setBigUint64(DEV_INFO.flags, featureMask(device.features), true);
    view.setBigUint64(DEV_INFO.mark, device.mark, true);
    await this.#run({ name: "ADD_DEV", device: id, payload }, options);
    return decodeInfo(payload);
  }

  async info(id: number, options?: CommandOptions): Promise<DeviceInfo> {
    const payload = new Uint8Array(DEV_INFO.size);
    await this.#run({ name: "GET_DEV_INFO", device: id, payload }, options);
    return decodeInfo(payload);
  }

  /** Before the start only. */
  async setParameters(id: number, parameters: DeviceParameters, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "SET_PARAMS", device: id, payload: encodeParameters(parameters) }, options);
  }

  async parameters(id: number, options?: CommandOptions): Promise<DeviceParameters> {
    const payload = new Uint8Array(UBLK_PARAMS.size);
    new DataView(payload.buffer).setUint32(UBLK_PARAMS.len, UBLK_PARAMS.size, true);
    await this.#run({ name: "GET_PARAMS", device: id, payload }, options);
    return decodeParameters(payload);
  }

  /** Waits until every tag of every queue has been fetched, then makes /dev/ublkbN. */
  async start(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "START_DEV", device: id, data: process.pid }, options);
  }

  /** Takes /dev/ublkbN away, whoever has it open. */
  async stop(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "STOP_DEV", device: id }, options);
  }

  /** As `stop`, but refused with EBUSY while anybody has /dev/ublkbN open. Needs SAFE_STOP_DEV. */
  async tryStop(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "TRY_STOP_DEV", device: id }, options);
  }

  /** Removes a device; waits until every reference to /dev/ublkcN is gone. */
  async remove(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "DEL_DEV", device: id }, options);
  }

  /** As `remove`, without the wait: the number is free once nobody has the device open any more. Since Linux 6.9. */
  async removeLater(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "DEL_DEV_ASYNC", device: id }, options);
  }

  /** First half of a recovery: the kernel forgets the dead server. EBUSY while its remains are still there. */
  async startRecovery(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "START_USER_RECOVERY", device: id }, options);
  }

  /** Second half: waits until every tag has been fetched anew, then lets the requests flow. */
  async endRecovery(id: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "END_USER_RECOVERY", device: id, data: process.pid }, options);
  }

  /** Another size while the device lives. Needs UPDATE_SIZE. */
  async updateSize(id: number, sizeBytes: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "UPDATE_SIZE", device: id, data: sizeBytes / SECTOR_BYTES }, options);
  }

  /** Ends the service of a device in an orderly way, so that another server may recover it. Needs QUIESCE. */
  async quiesce(id: number, timeoutMs: number, options?: CommandOptions): Promise<void> {
    await this.#run({ name: "QUIESCE_DEV", device: id, data: timeoutMs }, options);
  }

  /** The CPUs that a queue belongs to, as the kernel's bitmap. */
  async affinity(id: number, queue: number, options?: CommandOptions): Promise<Uint8Array> {
    const payload = new Uint8Array(SLOT_BYTES);
    await this.#run({ name: "GET_QUEUE_AFFINITY", device: id, data: queue, payload }, options);
    return payload;
  }

  async #run(command: Command, { signal, deadlineMs = COMMAND_DEADLINE_MS }: CommandOptions = {}): Promise<number> {
    signal?.throwIfAborted();
    if (this.#closed) throw new UblkError("ECLOSED", "The control plane is closed");
    const slot = this.#freeSlot();
    const deadline = AbortSignal.timeout(deadlineMs);
    const ended = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
    const at = slot * SLOT_BYTES;
    const shared = new Uint8Array(this.#memory.buffer, at, command.payload?.length ?? 0);
    if (command.payload !== undefined) shared.set(command.payload);

    let abandon: (() => void) | undefined;
    try {
      const result = await new Promise<number>((resolve, reject) => {
        this.#pending.set(slot, { command, settle: resolve });
        abandon = (): void => {
          reject(abandoned(command, deadline.aborted ? deadlineMs : undefined, ended.reason));
          this.#cancel(slot);
        };
        ended.addEventListener("abort", abandon, { once: true });
        this.#queue(slot, command, this.#memory.address + at);
      });
      if (result < 0) throw refused(command, -result);
      command.payload?.set(shared);
      return result;
    } finally {
      if (abandon !== undefined) ended.removeEventListener("abort", abandon);
    }
  }

  #freeSlot(): number {
    for (let slot = 0; slot < SLOTS; slot++) if (!this.#pending.has(slot)) return slot;
    throw new UblkError("EBUSY", `${SLOTS} commands to ${CONTROL_PATH} are under way and none is answered`);
  }

  #queue(slot: number, command: Command, address: number): void {
    const ring = this.#ring;
    const at = ring.next(OPCODE.URING_CMD, this.#handler, slot);
    const words = ring.entryWords;
    words[at + 1] = this.#fd;
    words[at + SQE.cmdOp / 4] = CONTROL[command.name] | 0;
    const payload = at + SQE.cmd / 4;
    words[payload + CTRL_CMD.devId / 4] = command.device | 0;
    words[payload + CTRL_CMD.queueId / 4] = (command.queue ?? ANY_QUEUE) | ((command.payload?.length ?? 0) << 16);
    if (command.payload !== undefined) {
      words[payload + CTRL_CMD.addr / 4] = lowWord(address);
      words[payload + CTRL_CMD.addr / 4 + 1] = highWord(address);
    }
    words[payload + CTRL_CMD.data / 4] = lowWord(command.data ?? 0);
    words[payload + CTRL_CMD.data / 4 + 1] = highWord(command.data ?? 0);
    ring.submit();
    ring.reap();
    this.#listen();
  }

  #cancel(slot: number): void {
    const at = this.#ring.next(OPCODE.ASYNC_CANCEL, this.#ignored, slot);
    this.#ring.entryWords[at + SQE.addr / 4] = slot;
    this.#ring.entryWords[at + SQE.addr / 4 + 1] = this.#handler;
    this.#ring.submit();
    this.#ring.reap();
  }

  completed(slot: number, result: number): void {
    const pending = this.#pending.get(slot);
    this.#pending.delete(slot);
    pending?.settle(result);
  }

  /** Waits for the eventfd, in Node's thread pool, for as long as any command is under way. */
  #listen(): void {
    if (this.#listening || this.#pending.size === 0 || this.#closed) return;
    this.#listening = true;
    read(this.#event, new Uint8Array(8), 0, 8, null, () => {
      this.#listening = false;
      if (this.#closed) {
        closeSync(this.#event);
        return;
      }
      this.#ring.submit();
      this.#ring.reap();
      this.#listen();
    });
  }

  /** Closes the plane. Commands that are still under way are given up. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ring[Symbol.dispose]();
    closeSync(this.#fd);
    // The thread that waits for the event is woken by it, and closes it then.
    if (this.#listening) signalEvent(this.#event);
    else closeSync(this.#event);
    if (this.#pending.size === 0) this.#memory[Symbol.dispose]();
  }
}

function featuresOf(mask: bigint): ReadonlySet<Feature> {
  const names = Object.keys(FEATURE_BITS) as Feature[];
  return new Set(names.filter((name) => (mask >> BigInt(FEATURE_BITS[name])) & 1n));
}

function featureMask(features: readonly Feature[]): bigint {
  return features.reduce((mask, name) => mask | (1n << BigInt(FEATURE_BITS[name])), 0n) & DEVICE_FEATURES_MASK;
}

function decodeInfo(payload: Uint8Array): DeviceInfo {
  const view = new DataView(payload.buffer);
  const pid = view.getInt32(DEV_INFO.pid, true);
  return {
    id: view.getUint32(DEV_INFO.devId, true),
    state: DEVICE_STATES[view.getUint16(DEV_INFO.state, true)] ?? "dead",
    queues: view.getUint16(DEV_INFO.queues, true),
    depth: view.getUint16(DEV_INFO.depth, true),
    maxIoBytes: view.getUint32(DEV_INFO.maxIoBytes, true),
    pid: Math.max(pid, 0),
    features: featuresOf(view.getBigUint64(DEV_INFO.flags, true)),
    mark: view.getBigUint64(DEV_INFO.mark, true),
  };
}

function where(command: Command): string {
  return command.device === ANY_DEVICE ? command.name : `${command.name} of device ${command.device}`;
}

function refused(command: Command, errno: number): UblkError {
  const hints: Partial<Record<string, string>> = {
    "ADD_DEV EEXIST": "; that number is taken",
    "ADD_DEV EPERM": "; run as root",
    "START_USER_RECOVERY EBUSY": "; the old server is not gone yet",
  };
  const name = errnoName(errno);
  const hint = hints[`${command.name} ${name}`] ?? "";
  return new UblkError(name, `ublk refused ${where(command)}: ${errnoText(errno)}${hint}`, { errno });
}

function abandoned(command: Command, deadlineMs: number | undefined, cause: unknown): UblkError {
  if (deadlineMs === undefined) return new UblkError("ECANCELED", `${where(command)} was given up`, { cause });
  return new UblkError("ETIMEDOUT", `ublk did not answer ${where(command)} within ${deadlineMs / 1000} s`, { cause });
}
