/**
 * The snapshots of a running volume: taken, listed, dropped, and shown as devices of their own.
 *
 * Points of a mirror that a receiver has kept before the volume was promoted are shown and dropped like snapshots. None is taken here.
 *
 * Invariants. A snapshot that is shown is not dropped. The device of one outlives the daemon as the volume's does: the next
 * daemon finds it by its mark and takes it over.
 */
import type { CowOrder, ViewBridge } from "../targets/cow/cow-orders.ts";
import type { Point } from "../targets/cow/catalog.ts";
import { closeView, newViewBridge, viewSource } from "../targets/cow/view-source.ts";
import type { CowView } from "../targets/volume.ts";
import type { ControlPlane, DeviceInfo } from "../ublk/control.ts";
import { DEFAULT_MAX_IO_BYTES, Device } from "../ublk/device.ts";
import { isServed, listDevices, removeDevice } from "../ublk/devices.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import type { Limits } from "../ublk/target.ts";
import { stopCleanly } from "./clean-stop.ts";
import { askCow } from "./cow-order.ts";
import { viewMark } from "./identity.ts";
import { log } from "./log.ts";
import { checkPointName } from "./point-name.ts";
import { atRest, type FreezeHook } from "./freeze-hook.ts";
import type { GroupEntry } from "./group-part.ts";
import { formatSize } from "./sizes.ts";
import { rangesOf } from "./changed-ranges.ts";
import type { SnapshotDiff, SnapshotList, SnapshotRow } from "./snapshot-status.ts";
import { StoreWatch } from "./store-watch.ts";

const VIEW_DEPTH = 64;

interface Export {
  readonly device: Device;
  readonly bridge: ViewBridge;
}

export class Snapshots {
  readonly store: StoreWatch;
  readonly #volume: string;
  readonly #view: CowView;
  readonly #device: Device;
  readonly #freezeHook: FreezeHook | null;
  readonly #ioFlusher: boolean;
  /** By epoch. */
  readonly #exports = new Map<number, Export>();
  /** One thing at a time: names are checked before they are given. */
  #last: Promise<unknown> = Promise.resolve();
  #isFailed: (device: Device) => void;
  readonly #group: GroupEntry<SnapshotRow>;

  /** `group` is the volume's part in snapshots of several; `whenFailed` is told of each device that is made here, to watch over it. */
  constructor(
    volume: string,
    view: CowView,
    device: Device,
    freezeHook: FreezeHook | null,
    ioFlusher: boolean,
    group: GroupEntry<SnapshotRow>,
    whenFailed: (device: Device) => void,
  ) {
    this.#volume = volume;
    this.#view = view;
    this.store = new StoreWatch(view);
    this.#device = device;
    this.#freezeHook = freezeHook;
    this.#ioFlusher = ioFlusher;
    this.#isFailed = whenFailed;
    this.#group = group;
  }

  async #order(order: CowOrder): Promise<readonly Point[]> {
    const answer = await this.#ask(order);
    return "points" in answer ? answer.points.filter((point) => kindOf(point) !== null) : [];
  }

  #ask(order: CowOrder): ReturnType<typeof askCow> {
    return askCow(this.#volume, this.#device, order);
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #find(name: string): Promise<Point> {
    const found = (await this.#order({ kind: "list" })).find((point) => nameOf(point) === name);
    if (found === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume} has no snapshot "${name}"`);
    return found;
  }

  #row(point: Point): SnapshotRow {
    return {
      name: nameOf(point),
      kind: kindOf(point) ?? "snapshot",
      created: new Date(point.createdMs).toISOString(),
      sizeBytes: point.volumeBytes,
      state: point.state,
      device: this.#exports.get(point.epoch)?.device.path ?? null,
    };
  }

  async list(): Promise<SnapshotList> {
    const points = await this.#order({ kind: "list" });
    return { store: this.store.status(), snapshots: points.map((point) => this.#row(point)) };
  }

  /**
   * Takes a snapshot of this moment; it is durable when this resolves. Throws EEXIST, ENAME, ENOSPC, ESNAPSHOT, EBUSY, and
   * EFREEZE: then there is none, unless the program could not thaw.
   */
  create(name: string): Promise<SnapshotRow> {
    return this.#inTurn(async () => {
      this.#group.assertNone();
      await this.#checkNew(name);
      return atRest(this.#freezeHook, () => this.#take(name));
    });
  }

  async #checkNew(name: string): Promise<void> {
    checkPointName(name, "snapshot");
    if ((await this.#order({ kind: "list" })).some((point) => nameOf(point) === name)) {
      throw new UblkError("EEXIST", `Volume ${this.#volume} has a snapshot "${name}" already`);
    }
  }

  async #take(name: string): Promise<SnapshotRow> {
    const point = await this.#takePoint(name, Date.now());
    log("info", `Snapshot ${name} is taken`);
    return this.#row(point);
  }

  async #takePoint(name: string, createdMs: number): Promise<Point> {
    const [point] = await this.#order({ kind: "take", point: "snapshot", name, createdMs });
    if (point === undefined) throw new UblkError("ESNAPSHOT", "The snapshot was not taken");
    return point;
  }

  /** The first step of a snapshot of several volumes (see GroupPart); gives a ticket for the others. Throws as `create`. */
  prepare(name: string): Promise<string> {
    return this.#inTurn(() => {
      let point: Point | undefined;
      return this.#group.prepare({
        what: `Snapshot "${name}"`,
        prepare: async () => {
          await this.#checkNew(name);
          await this.#freezeHook?.freeze();
        },
        take: async (createdMs) => {
          point = await this.#takePoint(name, createdMs);
          return this.#row(point);
        },
        goOn: async () => this.#freezeHook?.thaw(),
        keep: () => {
          log("info", `Snapshot ${name} is taken, of this volume and others`);
          return Promise.resolve();
        },
        undo: async () => {
          if (point !== undefined) await this.#untake(point);
        },
      });
    });
  }

  #untake({ name, epoch }: Point): Promise<void> {
    return this.#inTurn(async () => {
      // Somebody has found it, and uses it.
      if (this.#exports.has(epoch)) return;
      await this.#order({ kind: "drop", epoch });
      log("info", `Snapshot ${name} is not taken, of this volume and others`);
    });
  }

  /** Drops a snapshot. Its room is free soon afterwards. Throws ENOENT, EBUSY while it is exported. */
  drop(name: string): Promise<void> {
    return this.#inTurn(async () => {
      const point = await this.#find(name);
      const shown = this.#exports.get(point.epoch);
      if (shown !== undefined) {
        throw new UblkError(
          "EBUSY",
          `Snapshot "${name}" is exported as ${shown.device.path}: take it back first (sluice snapshot unexport ${this.#volume} ${name})`,
        );
      }
      await this.#order({ kind: "drop", epoch: point.epoch });
      log("info", `Snapshot ${name} is deleted`);
    });
  }

  /**
   * The ranges that changed between two snapshots, or since one (`to` is undefined), in order. Throws ENOENT, EINVALID,
   * EORDER where `to` is the older one.
   */
  diff(fromName: string, toName: string | undefined): Promise<SnapshotDiff> {
    return this.#inTurn(async () => {
      const from = await this.findValid(fromName);
      const to = toName === undefined ? undefined : await this.findValid(toName);
      if (to !== undefined && to.epoch < from.epoch) {
        throw new UblkError("EORDER", `Snapshot "${toName}" is older than "${fromName}": name the older one first`);
      }
      const answer = await this.#ask({ kind: "diff", from: from.epoch, to: to?.epoch ?? Infinity });
      const blocks = "blocks" in answer ? answer.blocks.sort() : new Float64Array(0);
      const { blockBytes } = this.#view.geometry;
      const toBytes = to?.volumeBytes ?? this.#device.limits.sizeBytes;
      const ranges = rangesOf(blocks, blockBytes, from.volumeBytes, toBytes);
      return { from: fromName, to: toName ?? null, blockBytes, sizeBytes: toBytes, ranges };
    });
  }

  /** Throws ENOENT, and EINVALID for one that was given up. */
  async findValid(name: string): Promise<Point> {
    const point = await this.#find(name);
    if (point.state === "valid") return point;
    throw new UblkError("EINVALID", `Snapshot "${name}" is invalid (${point.state}): it can only be deleted`);
  }

  /** Shows a snapshot as a read-only device; gives its row. Throws ENOENT, EINVALID for one that was given up. */
  export(name: string): Promise<SnapshotRow> {
    return this.#inTurn(async () => {
      const point = await this.findValid(name);
      if (!this.#exports.has(point.epoch)) {
        await this.#show(point, (bridge) =>
          Device.create({
            depth: VIEW_DEPTH,
            limits: this.#limitsOf(point),
            source: viewSource(bridge),
            mark: viewMark(this.#volume, point.epoch),
            recoverable: true,
            protectMemory: this.#ioFlusher,
          }),
        );
      }
      return this.#row(point);
    });
  }

  #limitsOf(point: Point): Limits {
    const { limits } = this.#device;
    return {
      ...limits,
      sizeBytes: point.volumeBytes,
      readOnly: true,
      volatileCache: false,
      fua: false,
      discard: null,
      writeZeroesMaxBytes: null,
    };
  }

  async #show(point: Point, make: (bridge: ViewBridge) => Promise<Device>): Promise<void> {
    const bridge = newViewBridge(VIEW_DEPTH, DEFAULT_MAX_IO_BYTES);
    const { epoch } = point;
    try {
      await this.#order({ kind: "attach", epoch, view: bridge });
      const device = await make(bridge);
      this.#exports.set(epoch, { device, bridge });
      this.#isFailed(device);
      log("info", `Snapshot ${nameOf(point)} is exported as ${device.path}, ${formatSize(point.volumeBytes)}`);
    } catch (error) {
      await this.#detach(epoch, bridge);
      throw error;
    }
  }

  async #detach(epoch: number, bridge: ViewBridge): Promise<void> {
    await this.#order({ kind: "detach", epoch });
    closeView(bridge);
  }

  /** Takes the device of a snapshot away. Throws ENOENT, EBUSY while it is in use, unless forced. */
  unexport(name: string, force: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const point = await this.#find(name);
      const shown = this.#exports.get(point.epoch);
      if (shown === undefined) throw new UblkError("ENOENT", `Snapshot "${name}" is not exported`);
      await this.#hide(point.epoch, shown, force);
      log("info", `Snapshot ${name} is not exported any more`);
    });
  }

  async #hide(epoch: number, { device, bridge }: Export, force: boolean): Promise<void> {
    await stopCleanly(device, force);
    this.#exports.delete(epoch);
    await this.#detach(epoch, bridge);
  }

  /** Before the volume is stopped: its snapshots are served by it. Throws EBUSY while one is in use, unless forced. */
  hideAll(force: boolean): Promise<void> {
    return this.#inTurn(async () => {
      for (const [epoch, shown] of [...this.#exports]) await this.#hide(epoch, shown, force);
    });
  }

  /** Takes over the devices that the daemon before this one showed snapshots with. */
  recoverExports(control: ControlPlane): Promise<void> {
    return this.#inTurn(async () => {
      const points = await this.#order({ kind: "list" });
      for (const info of await listDevices(control)) {
        const point = points.find(({ epoch }) => viewMark(this.#volume, epoch) === info.mark);
        if (point !== undefined) await this.#recoverExport(control, info, point);
      }
    });
  }

  async #recoverExport(control: ControlPlane, info: DeviceInfo, point: Point): Promise<void> {
    if (await isServed(info)) return;
    try {
      if (info.state === "dead" || point.state !== "valid") throw new UblkError("EGONE", "it cannot be served");
      await this.#show(point, (bridge) =>
        Device.recover(info.id, { source: viewSource(bridge), protectMemory: this.#ioFlusher }),
      );
    } catch (error) {
      log("warning", `Removing device ${info.id} of snapshot ${nameOf(point)}: ${messageOf(error)}`);
      await removeDevice(control, info.id);
    }
  }
}

/** Null for what belongs to copies. */
function kindOf({ kind }: Point): SnapshotRow["kind"] | null {
  return kind === "snapshot" || kind === "mirror" ? kind : null;
}

/** No snapshot's own name begins with "@". */
function nameOf({ kind, name }: Point): string {
  return kind === "mirror" ? `@${name}` : name;
}
