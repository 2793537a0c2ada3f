/**
 * The daemon of one volume: the one file that knows all the parts and puts them together.
 *
 * Invariant: the device outlives the daemon. Whatever ends the daemon except a clean stop leaves the device in the
 * kernel, where its requests wait; the next daemon finds it by its mark and takes it over.
 */
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { CopyRecords } from "../copy/copy-record.ts";
import { SourceStateFile } from "../replication/source-state.ts";
import { openVolume, type BackingSpec, type OpenVolume, type VolumeSpec } from "../targets/volume.ts";
import { ControlPlane, type DeviceInfo } from "../ublk/control.ts";
import { Device } from "../ublk/device.ts";
import { isServed, listDevices, removeDevice } from "../ublk/devices.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { protectProcess } from "../ublk/process.ts";
import { serveApi, type ControlledVolume } from "./api.ts";
import { BulkCopy } from "./bulk.ts";
import { stopCleanly } from "./clean-stop.ts";
import type { VolumeConfig } from "./config.ts";
import { ServedVolume } from "./copied-volume.ts";
import { Copies } from "./copies.ts";
import { announceDevice, linkDevice, unlinkDevice } from "./device-links.ts";
import type { CopyRow } from "./copy-status.ts";
import { askCow } from "./cow-order.ts";
import { FreezeHook, thawLeftover } from "./freeze-hook.ts";
import { GroupPart } from "./group-part.ts";
import { ownerOf, volumeMark } from "./identity.ts";
import { log } from "./log.ts";
import { Mirror } from "./mirror.ts";
import type { TakenPointRow } from "./mirror-status.ts";
import {
  copiesPath,
  frozenPath,
  linkPath,
  lockPath,
  lossNotePath,
  mirrorStatePath,
  runtimeDirectory,
  socketPath,
} from "./paths.ts";
import { notifyManager, watchdogIntervalMs } from "./service-manager.ts";
import { formatSize } from "./sizes.ts";
import { recordMap, recordStatus, type RecordMap } from "./record-status.ts";
import { finishRollback, noteRollback } from "./rollback.ts";
import { Snapshots } from "./snapshots.ts";
import type { SnapshotRow } from "./snapshot-status.ts";
import { storeBytes } from "./store-size.ts";
import { forget, recall, remember, sameStore } from "./started-with.ts";
import type { VolumeStatus } from "./status.ts";
import { version } from "./version.ts";

/** What is taken of several volumes at one instant. */
type TakenRow = SnapshotRow | CopyRow | TakenPointRow;

/** How long the locks of a daemon that was killed may live on while the kernel clears up after it. */
const LOCK_WAIT_MS = 60_000;
const LOCK_RETRY_MS = 50;
/** How long a client that has a connection open may keep a stopped daemon from ending. */
const CLOSE_PATIENCE_MS = 1_000;

/** Runs until the volume is stopped cleanly. Throws where it cannot be started; a recoverable device is untouched then. */
export async function runDaemon(config: VolumeConfig): Promise<void> {
  const ioFlusher = protectProcess();
  if (!ioFlusher) log("warning", "No right to become IO_FLUSHER: the device may deadlock when memory is short");
  await using held = new AsyncDisposableStack();
  held.use(await lockVolume(config.name));
  const control = held.use(ControlPlane.open());
  const existing = await findDevice(control, config.name);
  const spec = existing === undefined ? config.volume : await specOf(control, existing, config);
  const volume = held.use(await openVolume(spec, { lockWaitMs: existing === undefined ? 2_000 : LOCK_WAIT_MS }));
  if (existing === undefined) await finishRollback(config.name, volume);
  await beginMirror(config, volume);
  const device =
    existing === undefined
      ? await createDevice(config, volume, ioFlusher)
      : await recoverDevice(control, existing, volume, ioFlusher);
  endWithDevice(device);
  await linkDevice(config.name, device.id);
  const recovered = existing !== undefined;
  const group = groupPartOf(config.name, device);
  const freezeHook = freezeHookOf(config);
  const snapshots =
    volume.cow === null
      ? null
      : new Snapshots(config.name, volume.cow, device, freezeHook, ioFlusher, group, endWithDevice);
  await thawLeftover(config.name, frozenPath(config.name));
  await snapshots?.recoverExports(control);
  const copies =
    volume.cow === null
      ? null
      : new Copies(
          new ServedVolume(config.name, volume.cow, device),
          new CopyRecords(copiesPath(config.name)),
          freezeHook,
          group,
        );
  await copies?.recover();
  const bulk = volume.cow === null ? null : new BulkCopy(config.name, volume.cow, device, freezeHook);
  await bulk?.recover();
  const mirror =
    volume.mirror === null || config.mirror === null
      ? null
      : new Mirror(config.name, config.mirror, volume.mirror, device, group);
  await mirror?.start();
  const parts = { snapshots, copies, group, bulk, mirror };
  await new VolumeService(config, spec, volume, device, { recovered, ioFlusher, ...parts }).run();
  await forget(config.name);
  await volume.discardStore();
}

/** Before anything is written: what is written from now on belongs to a life of the mirror that nobody knows of yet. */
async function beginMirror({ name }: VolumeConfig, { mirror, record }: OpenVolume): Promise<void> {
  if (mirror === null || record === null) await SourceStateFile.leave(mirrorStatePath(name));
  else await SourceStateFile.begin(mirrorStatePath(name), record.place.salt);
}

/** The volume can be held back once at a time, whatever is to be taken. */
function groupPartOf(name: string, device: Device): GroupPart<TakenRow> {
  const order = async (kind: "hold" | "release"): Promise<void> => {
    await askCow(name, device, { kind });
  };
  return new GroupPart(name, { holdBack: () => order("hold"), letGo: () => order("release") }, (ms, action) => {
    const timer = setTimeout(action, ms);
    return () => clearTimeout(timer);
  });
}

function freezeHookOf({ name, freezeProgram }: VolumeConfig): FreezeHook | null {
  return freezeProgram === null ? null : new FreezeHook(name, freezeProgram, frozenPath(name));
}

/** One daemon a volume: the lock goes with the process. */
async function lockVolume(name: string): Promise<FileHandle> {
  await mkdir(runtimeDirectory(), { recursive: true, mode: 0o700 });
  const handle = await open(lockPath(name), "a", 0o600);
  const deadline = performance.now() + 2_000;
  while (!native.lockFile(handle.fd)) {
    if (performance.now() > deadline) {
      await handle.close();
      throw new UblkError("ERUNNING", `Volume ${name} is running already: see "sluice status ${name}"`);
    }
    await sleep(LOCK_RETRY_MS);
  }
  return handle;
}

/** The device of a daemon that died, if there is one to take over. What never lived is removed. */
async function findDevice(control: ControlPlane, name: string): Promise<DeviceInfo | undefined> {
  const mark = volumeMark(name);
  for (const device of await listDevices(control)) {
    if (device.mark !== mark) continue;
    if (device.state !== "dead") return device;
    if (await isServed(device))
      throw new UblkError("ERUNNING", `Device ${device.id} of volume ${name} is being started`);
    log("info", `Removing device ${device.id}, whose daemon died before it had started it`);
    await removeDevice(control, device.id);
  }
  return undefined;
}

async function createDevice(config: VolumeConfig, volume: OpenVolume, protectMemory: boolean): Promise<Device> {
  return Device.create({
    id: config.device ?? undefined,
    queues: config.queues,
    depth: config.depth,
    limits: volume.limits,
    source: volume.source,
    mark: volumeMark(config.name),
    recoverable: true,
    protectMemory,
    onAdded: (id) => {
      const { backing, record, snapshots, mirror } = config.volume;
      remember(config.name, {
        backing,
        record: record === null ? null : { path: record.path, limitBytes: record.limitBytes },
        snapshots: snapshots === null ? null : { path: snapshots.path },
        isMirrored: mirror !== null,
      });
      announceDevice(config.name, id);
    },
  });
}

/** What a device that exists is served with: its own store and properties, whatever the configuration says by now. */
async function specOf(control: ControlPlane, { id }: DeviceInfo, config: VolumeConfig): Promise<VolumeSpec> {
  const { limits } = await control.parameters(id);
  const configured = config.volume;
  const startedWith = await recall(config.name);
  const backing = startedWith?.backing ?? configured.backing;
  return {
    backing: "sizeBytes" in backing ? { ...backing, sizeBytes: limits.sizeBytes } : backing,
    // A store that is used as a whole may have grown meanwhile.
    sizeBytes: backing.kind === "file" && configured.sizeBytes === null ? null : limits.sizeBytes,
    logicalBlockBytes: limits.logicalBlockBytes,
    readOnly: limits.readOnly,
    // What is written is recorded for as long as the device lives, wherever the configuration has gone meanwhile.
    mirror: startedWith?.isMirrored === true ? configured.mirror : null,
    record: startedWith?.record ? { ...startedWith.record, ...ownerOf(config.name) } : null,
    snapshots: startedWith?.snapshots
      ? {
          ...startedWith.snapshots,
          fullPolicy: configured.snapshots?.fullPolicy ?? "invalidate",
          ...ownerOf(config.name),
          lossNotePath: lossNotePath(config.name),
        }
      : null,
    filters: configured.filters,
  };
}

async function recoverDevice(
  control: ControlPlane,
  { id }: DeviceInfo,
  volume: OpenVolume,
  protectMemory: boolean,
): Promise<Device> {
  const { limits } = await control.parameters(id);
  if (volume.limits.sizeBytes < limits.sizeBytes) {
    throw new UblkError(
      "ESIZE",
      `The backing store has ${volume.limits.sizeBytes} bytes, but device ${id}, which waits to be recovered, has ${limits.sizeBytes}: give it its size back`,
    );
  }
  log("info", `Recovering /dev/ublkb${id}`);
  return Device.recover(id, { source: volume.source, protectMemory });
}

/** A lost or stuck queue cannot be repaired from within: the process ends, and the device waits for the next one. */
function endWithDevice(device: Device): void {
  device.failure.catch((error: unknown) => {
    log("error", `${messageOf(error)}: ending, so that the device can be recovered`);
    process.kill(process.pid, "SIGKILL");
  });
}

interface How {
  readonly recovered: boolean;
  readonly ioFlusher: boolean;
  readonly snapshots: Snapshots | null;
  readonly copies: Copies | null;
  readonly group: GroupPart<TakenRow>;
  readonly bulk: BulkCopy | null;
  readonly mirror: Mirror | null;
}

/** A volume while it is served. */
class VolumeService implements ControlledVolume {
  readonly #config: VolumeConfig;
  /** What is served, which may differ from what is configured. */
  readonly #spec: VolumeSpec;
  readonly #volume: OpenVolume;
  readonly #device: Device;
  readonly #how: How;
  /** Read at the start: what is installed may be replaced while this runs. */
  readonly #version = version();
  readonly #since = new Date().toISOString();
  readonly #stopped = Promise.withResolvers<undefined>();
  #stopping: Promise<void> | undefined;

  constructor(config: VolumeConfig, spec: VolumeSpec, volume: OpenVolume, device: Device, how: How) {
    this.#config = config;
    this.#spec = spec;
    this.#volume = volume;
    this.#device = device;
    this.#how = how;
  }

  async run(): Promise<void> {
    const { name } = this.#config;
    const server = await serveApi(socketPath(name), this);
    for (const difference of this.#pending()) log("warning", difference);
    const intervalMs = watchdogIntervalMs();
    const watchdog = intervalMs === undefined ? undefined : setInterval(() => notifyManager("WATCHDOG=1"), intervalMs);
    const endWatch = this.#how.snapshots?.store.start();
    const onSignal = (): void => {
      this.stop(false).catch((error: unknown) => {
        log("error", `Not stopping: ${messageOf(error)}. What is written stays safe; stop its users first`);
      });
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
    const { path } = this.#device;
    const size = formatSize(this.#device.limits.sizeBytes);
    notifyManager("READY=1", `STATUS=${path}, ${size}`);
    log("info", `Volume ${name} is served as ${path}, ${size}${this.#how.recovered ? ", recovered" : ""}`);
    await this.#stopped.promise;
    notifyManager("STOPPING=1");
    clearInterval(watchdog);
    endWatch?.();
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
    await unlinkDevice(name, this.#device.id);
    // What was asked is answered before the socket goes: the answer to the stop is on its way.
    const patience = setTimeout(() => server.closeAllConnections(), CLOSE_PATIENCE_MS);
    await new Promise((resolve) => server.close(resolve));
    clearTimeout(patience);
    log("info", `Volume ${name} is stopped`);
  }

  /** Two stops at once are one. */
  async stop(force: boolean): Promise<void> {
    this.#stopping ??= this.#stopDevices(force).finally(() => {
      this.#stopping = undefined;
    });
    await this.#stopping;
    this.#stopped.resolve(undefined);
  }

  /** Stops the volume, to be rolled back at its next start. Throws ENOENT, EINVALID, EOPNOTSUPP, EBUSY: then it goes on. */
  async rollBack(snapshot: string): Promise<void> {
    const { name } = this.#config;
    if (this.#spec.backing.kind !== "file") {
      throw new UblkError("EOPNOTSUPP", `Volume ${name} keeps nothing over a stop: it cannot be rolled back`);
    }
    const { epoch } = await this.snapshots.findValid(snapshot);
    if (this.#stopping !== undefined) throw new UblkError("EBUSY", `Volume ${name} is being stopped`);
    this.#stopping = this.#stopDevices(false).finally(() => {
      this.#stopping = undefined;
    });
    await this.#stopping;
    try {
      noteRollback(name, { snapshot, epoch });
    } finally {
      this.#stopped.resolve(undefined);
    }
  }

  async #stopDevices(force: boolean): Promise<void> {
    await this.#how.snapshots?.hideAll(force);
    const goOn = await this.#how.copies?.halt();
    await this.#how.mirror?.sendRest();
    try {
      await stopCleanly(this.#device, force);
    } catch (error) {
      goOn?.();
      throw error;
    }
    await this.#how.mirror?.stop();
  }

  /** Throws ENOENT where there are none. */
  get snapshots(): Snapshots {
    return this.#how.snapshots ?? this.#missStore();
  }

  /** Throws ENOENT where there are none. */
  get copies(): Copies {
    return this.#how.copies ?? this.#missStore();
  }

  /** Its part in what is taken of several volumes. */
  get group(): GroupPart<TakenRow> {
    return this.#how.group;
  }

  /** Throws ENOENT where there can be none. */
  get bulk(): BulkCopy {
    return this.#how.bulk ?? this.#missStore();
  }

  /** Throws ENOENT where there is none. */
  get mirror(): Mirror {
    const { mirror } = this.#how;
    if (mirror !== null) return mirror;
    throw new UblkError(
      "ENOENT",
      `Volume ${this.#config.name} has no mirror: add [mirror] to its configuration, stop it, and start it anew`,
    );
  }

  #missStore(): never {
    throw new UblkError(
      "ENOENT",
      `Volume ${this.#config.name} has no store for originals: add [snapshots] to its configuration, and start it anew`,
    );
  }

  async resize(sizeBytes: number | undefined): Promise<number> {
    const { backing, record, snapshots } = this.#spec;
    if (snapshots !== null) {
      throw new UblkError(
        "EOPNOTSUPP",
        "A volume with snapshots cannot be resized while it runs: stop it and start it",
      );
    }
    if (record !== null) {
      throw new UblkError("EOPNOTSUPP", "A volume with a record cannot be resized while it runs: stop it and start it");
    }
    if (backing.kind === "appended") {
      throw new UblkError("EOPNOTSUPP", "An appended image has the size that its volume had: it cannot be resized");
    }
    if (backing.kind === "memory") {
      throw new UblkError("EOPNOTSUPP", "A memory volume cannot be resized: stop it and start it with its new size");
    }
    const wanted = sizeBytes ?? (await this.#volume.measure());
    if (backing.kind === "file") {
      const availableBytes = await storeBytes(backing.path);
      if (wanted > availableBytes) {
        throw new UblkError(
          "ESIZE",
          `${backing.path} has ${availableBytes} bytes, less than the ${wanted} that are wanted: grow it first`,
        );
      }
    }
    await this.#device.resize(wanted);
    log("info", `Resized to ${formatSize(wanted)}`);
    return wanted;
  }

  /** What is configured otherwise than it runs: a recovered device keeps what it was made with. */
  #pending(): string[] {
    const { queues, depth, volume } = this.#config;
    const { limits } = this.#device;
    const differ: string[] = [];
    const compare = (what: string, runs: unknown, configured: unknown): void => {
      if (runs === configured) return;
      differ.push(
        `${what} is ${String(runs)}, configured is ${String(configured)}: takes effect at the next clean start`,
      );
    };
    if (!sameStore(this.#spec.backing, volume.backing)) {
      compare("the store", describeBacking(this.#spec.backing), describeBacking(volume.backing));
    }
    compare("record.nvram", this.#spec.record?.path ?? "none", volume.record?.path ?? "none");
    compare("record.limit", this.#spec.record?.limitBytes ?? "none", volume.record?.limitBytes ?? "none");
    compare("snapshots.store", this.#spec.snapshots?.path ?? "none", volume.snapshots?.path ?? "none");
    compare("mirror", this.#spec.mirror === null ? "none" : "there", volume.mirror === null ? "none" : "there");
    compare("queue_depth", this.#device.depth, depth);
    if (this.#device.queues > queues) compare("queues", this.#device.queues, queues);
    compare("logical_block_size", limits.logicalBlockBytes, volume.logicalBlockBytes);
    compare("read_only", limits.readOnly, volume.readOnly);
    const configuredBytes = "sizeBytes" in volume.backing ? volume.backing.sizeBytes : volume.sizeBytes;
    if (this.#how.recovered && configuredBytes !== null) compare("size", limits.sizeBytes, configuredBytes);
    return differ;
  }

  recordMap(): RecordMap {
    const { record } = this.#volume;
    if (record === null) throw new UblkError("ENOENT", `Volume ${this.#config.name} has no record`);
    return recordMap(record);
  }

  status(): VolumeStatus {
    const device = this.#device;
    return {
      name: this.#config.name,
      version: this.#version,
      config: this.#config.file,
      state: this.#stopping === undefined ? "live" : "stopping",
      device: { id: device.id, path: device.path, link: linkPath(this.#config.name) },
      sizeBytes: device.limits.sizeBytes,
      logicalBlockBytes: device.limits.logicalBlockBytes,
      readOnly: device.limits.readOnly,
      queues: device.queues,
      depth: device.depth,
      target: describeTarget(this.#spec),
      backing: this.#volume.explain,
      pid: process.pid,
      since: this.#since,
      recovered: this.#how.recovered,
      memory: {
        residentBytes: process.memoryUsage.rss(),
        buffersLocked: this.#how.ioFlusher,
        ioFlusher: this.#how.ioFlusher,
      },
      statistics: device.statistics(),
      record: this.#volume.record === null ? null : recordStatus(this.#volume.record),
      snapshots: this.#how.snapshots?.store.status() ?? null,
      copies: this.#how.copies?.list() ?? null,
      mirror: this.#how.mirror?.status() ?? null,
      pending: this.#pending(),
    };
  }
}

function describeTarget({ backing, filters }: VolumeSpec): string {
  return [...filters.map((filter) => filter.kind), describeBacking(backing)].join(" over ");
}

function describeBacking(backing: BackingSpec): string {
  return "sizeBytes" in backing ? backing.kind : `${backing.kind} ${backing.path}`;
}
