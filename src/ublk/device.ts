/**
 * A device: one /dev/ublkbN from its making, or its recovery, to its end.
 *
 * Invariants. Requests are served in the queues' own threads; whatever is awaited here is awaited where no tag is served.
 * A queue that is lost or stuck is never tolerated: the kernel does not notice a dead thread, and its requests would hang
 * for ever; so the owner is told through `failure`, and must end the process, which the kernel does notice. A device that
 * was made recoverable then waits for its next server.
 *
 * Dying while starting. Linux before 7.0 reads the partition table inside START, while it holds the device's lock; a
 * server that is killed then leaves a read that nobody serves, a lock that nobody can take and a process that cannot be
 * killed. The kernel leaves the scan out when the fetching thread lacks CAP_SYS_ADMIN, and so START does no input or
 * output at all: on kernels that do not scan by themselves later, the queues fetch without it. Partitions are then found
 * from user space (udev rule, partx).
 */
import { closeSync } from "node:fs";
import type { Transferable } from "node:worker_threads";
import type { Feature } from "./abi.ts";
import { ControlPlane, type CommandOptions, type DeviceInfo } from "./control.ts";
import { blockPath, openCharacterDevice } from "./device-files.ts";
import { codeOf, messageOf, UblkError } from "./errors.ts";
import { checkLimits } from "./parameters.ts";
import { STUCK_AFTER_MS, watchPulses } from "./pulse.ts";
import { startQueueThread, type QueueThread } from "./queue-thread.ts";
import type { QueueReport } from "./queue-worker.ts";
import { awaitQuiesced, beginRecovery } from "./recovery.ts";
import { summarise, type DeviceStatistics } from "./statistics.ts";
import type { Limits, TargetSource } from "./target.ts";

export const DEFAULT_DEPTH = 128;
export const DEFAULT_MAX_IO_BYTES = 256 * 1024;

export interface DeviceOptions extends CommandOptions {
  /** Wanted number of the device; the kernel chooses where it is absent. */
  readonly id?: number | undefined;
  /** Queues, each with a thread of its own. The kernel gives no more than there are CPUs. */
  readonly queues?: number | undefined;
  /** Requests in flight per queue, 1 to 4096. */
  readonly depth?: number | undefined;
  /** The largest request; a queue keeps `depth` buffers of this size. */
  readonly maxIoBytes?: number | undefined;
  readonly limits: Limits;
  readonly source: TargetSource;
  /** The device outlives this process and waits for another one to recover it. */
  readonly recoverable?: boolean | undefined;
  /** Told the number of the device before /dev/ublkbN appears. */
  readonly onAdded?: ((id: number) => void) | undefined;
  /** 64 bits by which the owner knows its device again. */
  readonly mark?: bigint | undefined;
  /**
   * Protects against a deadlock in which the kernel waits for this device in order to give this process memory: locks
   * the buffers and marks the threads as IO_FLUSHER. Needs CAP_SYS_RESOURCE and a fitting RLIMIT_MEMLOCK.
   */
  readonly protectMemory?: boolean | undefined;
  readonly stuckAfterMs?: number | undefined;
}

export interface StopOptions extends CommandOptions {
  /** Called when /dev/ublkbN is gone, before the device is removed: removal waits until nobody has it open any more. */
  readonly beforeRemoval?: () => Promise<void>;
  /** Do not wait for those who still have it open: the number stays taken until they let go. */
  readonly removeLater?: boolean;
}

export interface RecoveryOptions extends CommandOptions {
  readonly source: TargetSource;
  readonly protectMemory?: boolean | undefined;
  readonly stuckAfterMs?: number | undefined;
}

export class Device implements AsyncDisposable {
  readonly id: number;
  readonly queues: number;
  readonly depth: number;
  /** Features that the kernel granted to this device. */
  readonly features: ReadonlySet<Feature>;
  /** Rejects when a queue is lost or stuck. The owner must end the process then, with SIGKILL if it can. */
  readonly failure: Promise<never>;
  readonly #control: ControlPlane;
  readonly #stuckAfterMs: number;
  #threads: QueueThread[] = [];
  #file: number | undefined;
  #limits: Limits;
  #watch: NodeJS.Timeout | undefined;
  #fail: (error: UblkError) => void = () => undefined;
  #state: "starting" | "live" | "ending" | "gone" = "starting";

  private constructor(control: ControlPlane, info: DeviceInfo, limits: Limits, stuckAfterMs = STUCK_AFTER_MS) {
    this.id = info.id;
    this.queues = info.queues;
    this.depth = info.depth;
    this.features = info.features;
    this.#control = control;
    this.#limits = limits;
    this.#stuckAfterMs = stuckAfterMs;
    this.failure = new Promise<never>((_resolve, reject) => {
      this.#fail = reject;
    });
    // An owner that does not look at it is told by the rejected operations as well.
    this.failure.catch(() => undefined);
  }

  /** Makes a device and starts it. When this fails, nothing is left behind. */
  static async create(options: DeviceOptions): Promise<Device> {
    const maxIoBytes = options.maxIoBytes ?? DEFAULT_MAX_IO_BYTES;
    checkLimits({ limits: options.limits, maxIoBytes });
    const control = ControlPlane.open();
    try {
      const known = await control.features(options);
      const info = await control.add(
        {
          id: options.id,
          queues: options.queues ?? 1,
          depth: options.depth ?? DEFAULT_DEPTH,
          maxIoBytes,
          features: wantedFeatures(known, options.recoverable === true),
          mark: options.mark ?? 0n,
        },
        options,
      );
      const device = new Device(control, info, options.limits, options.stuckAfterMs);
      try {
        options.onAdded?.(info.id);
        await control.setParameters(info.id, { limits: options.limits, maxIoBytes }, options);
        await device.#open(options, maxIoBytes, !known.has("NO_AUTO_PART_SCAN"));
        await device.#fetch();
        await device.#orFailure(control.start(info.id, options));
      } catch (error) {
        await device.#discard();
        throw error;
      }
      device.#live();
      return device;
    } catch (error) {
      control[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Takes over a device whose server has died. Waits until the remains of that server are gone. When this fails, the
   * device is as it was, and can be recovered later.
   */
  static async recover(id: number, options: RecoveryOptions): Promise<Device> {
    const control = ControlPlane.open();
    try {
      const known = await control.features(options);
      const info = await awaitQuiesced(control, id, options);
      const { limits, maxIoBytes } = await control.parameters(id, options);
      const device = new Device(control, info, limits, options.stuckAfterMs);
      try {
        await beginRecovery(control, id, options);
        await device.#open(options, maxIoBytes, !known.has("NO_AUTO_PART_SCAN"));
        await device.#fetch();
        await device.#orFailure(control.endRecovery(id, options));
      } catch (error) {
        await device.#abandonThreads();
        throw error;
      }
      device.#live();
      return device;
    } catch (error) {
      control[Symbol.dispose]();
      throw error;
    }
  }

  /** /dev/ublkbN. */
  get path(): string {
    return blockPath(this.id);
  }

  get limits(): Limits {
    return this.#limits;
  }

  statistics(): DeviceStatistics {
    return summarise(this.#threads.map((thread) => thread.statistics));
  }

  /** Opens /dev/ublkcN and the targets; nothing has been fetched when this returns. */
  async #open(
    options: { source: TargetSource; protectMemory?: boolean | undefined },
    maxIoBytes: number,
    withoutAdmin: boolean,
  ): Promise<void> {
    const file = await openCharacterDevice(this.id);
    this.#file = file;
    for (let queue = 0; queue < this.queues; queue++) {
      const affinity = this.queues === 1 ? null : await this.#control.affinity(this.id, queue);
      this.#threads.push(
        startQueueThread({
          device: this.id,
          queue,
          depth: this.depth,
          maxIoBytes,
          limits: this.#limits,
          deviceFile: file,
          source: options.source,
          affinity,
          protectMemory: options.protectMemory === true,
          withoutAdmin,
        }),
      );
    }
    await this.#all("opened");
  }

  async #fetch(): Promise<void> {
    for (const thread of this.#threads) thread.order({ type: "fetch" });
    await this.#all("fetched");
  }

  async #all(type: QueueReport["type"]): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.expect(type)));
  }

  /** A command that waits for the queues is given up when one of them ends instead. */
  async #orFailure(command: Promise<void>): Promise<void> {
    const lost = this.#threads.map(async (thread) => {
      await thread.ended;
      throw new UblkError("EQUEUE", `A queue of device ${this.id} ended while the device was being started`);
    });
    await Promise.race([command, ...lost]);
  }

  #live(): void {
    this.#state = "live";
    for (const thread of this.#threads) {
      thread.ended.then(
        () => this.#lost(new UblkError("EQUEUE", `A queue of device ${this.id} ended: the kernel took it back`)),
        (error: unknown) =>
          this.#lost(
            new UblkError("EQUEUE", `A queue of device ${this.id} was lost: ${messageOf(error)}`, { cause: error }),
          ),
      );
    }
    this.#watch = watchPulses(this.#threads, this.#stuckAfterMs, (queue, seconds) => {
      this.#lost(new UblkError("ESTUCK", `Queue ${queue} of device ${this.id} has been stuck for ${seconds} s`));
    });
  }

  #lost(error: UblkError): void {
    if (this.#state === "live") this.#fail(error);
  }

  /** Another size, for a kernel that has UPDATE_SIZE. What lies beyond a smaller size is lost to the host. */
  async resize(sizeBytes: number, options?: CommandOptions): Promise<void> {
    if (!this.features.has("UPDATE_SIZE")) {
      throw new UblkError(
        "EOPNOTSUPP",
        "This kernel's ublk cannot resize a live device: stop it and start it with its new size",
      );
    }
    const limits = { ...this.#limits, sizeBytes };
    checkLimits({ limits, maxIoBytes: DEFAULT_MAX_IO_BYTES });
    const grows = sizeBytes > this.#limits.sizeBytes;
    // No request may ever pass the check of ranges that the kernel would not send, or fail it if the kernel would.
    if (grows) await this.#resizeQueues(sizeBytes);
    await this.#control.updateSize(this.id, sizeBytes, options);
    if (!grows) await this.#resizeQueues(sizeBytes);
    this.#limits = limits;
  }

  async #resizeQueues(sizeBytes: number): Promise<void> {
    for (const thread of this.#threads) thread.order({ type: "resize", sizeBytes });
    await this.#all("resized");
  }

  /**
   * Gives an order to the target of the first queue; gives its answer. What is in `moved`, such as a MessagePort in the order, goes
   * over to it. Rejects where the queue ends before it.
   */
  async order(order: unknown, moved: readonly Transferable[] = []): Promise<unknown> {
    const [first] = this.#threads;
    if (first === undefined) throw new UblkError("EGONE", `Device ${this.id} is stopped`);
    return first.ask(order, moved);
  }

  /**
   * Stops and removes the device, whoever has it open: see devices.ts for who that is. What a file system holds dirty on
   * a recoverable device is lost, so sync first.
   */
  async stop(options?: StopOptions): Promise<void> {
    await this.#end((): Promise<void> => this.#control.stop(this.id, options), options);
  }

  /** As `stop`, but refused with EBUSY while anybody has the device open. Needs SAFE_STOP_DEV of the kernel. */
  async tryStop(options?: CommandOptions): Promise<void> {
    await this.#end((): Promise<void> => this.#control.tryStop(this.id, options));
  }

  async #end(stop: () => Promise<void>, options?: StopOptions): Promise<void> {
    if (this.#state !== "live") return;
    this.#state = "ending";
    try {
      await stop();
    } catch (error) {
      this.#state = "live";
      throw error;
    }
    await Promise.allSettled(this.#threads.map((thread) => thread.ended));
    await options?.beforeRemoval?.();
    await this.#closeAndRemove(options?.removeLater === true);
  }

  /** The end of a device that never lived. */
  async #discard(): Promise<void> {
    this.#state = "ending";
    await this.#abandonThreads();
    try {
      await this.#control.remove(this.id);
    } catch (error) {
      if (codeOf(error) !== "ENODEV") throw error;
    }
    this.#state = "gone";
  }

  async #abandonThreads(): Promise<void> {
    this.#state = "ending";
    for (const thread of this.#threads) thread.order({ type: "quit" });
    await Promise.allSettled(this.#threads.map((thread) => thread.ended));
    this.#closeFile();
  }

  async #closeAndRemove(later: boolean): Promise<void> {
    this.#closeFile();
    if (later) await this.#control.removeLater(this.id);
    else await this.#control.remove(this.id);
    this.#control[Symbol.dispose]();
    this.#state = "gone";
  }

  #closeFile(): void {
    clearInterval(this.#watch);
    for (const thread of this.#threads) closeSync(thread.wakeEvent);
    this.#threads = [];
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** What to ask for at ADD: nothing that the driver does not know. */
function wantedFeatures(known: ReadonlySet<Feature>, recoverable: boolean): Feature[] {
  const wanted: Feature[] = ["CMD_IOCTL_ENCODE", "UPDATE_SIZE"];
  if (recoverable) {
    if (!known.has("USER_RECOVERY_REISSUE")) {
      throw new UblkError("EOPNOTSUPP", "This kernel's ublk has no user recovery (wanted Linux 6.1 or later)");
    }
    wanted.push("USER_RECOVERY", "USER_RECOVERY_REISSUE", "QUIESCE");
  }
  return wanted.filter((feature) => known.has(feature));
}
