/**
 * Closed points of a volume that is mirrored to here, shown as read-only devices while it goes on being mirrored.
 *
 * Invariants. A point that is shown is not dropped; where its room is wanted it is given up, and reads of it fail. A device goes
 * before the thread that serves it; where that has ended by itself, whoever reads gets errors and does not wait. No device
 * outlives the receiver.
 */
import type { KeptPoint } from "../replication/receive-orders.ts";
import type { ReceiveThread } from "../replication/receive-thread.ts";
import type { ViewBridge } from "../targets/cow/cow-orders.ts";
import { closeView, endView, newViewBridge, viewSource } from "../targets/cow/view-source.ts";
import { readsBlocks, type FileBacking } from "../targets/file-backing.ts";
import { ControlPlane } from "../ublk/control.ts";
import { DEFAULT_MAX_IO_BYTES, Device } from "../ublk/device.ts";
import { isServed, listDevices } from "../ublk/devices.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import type { Limits } from "../ublk/target.ts";
import { stopCleanly } from "./clean-stop.ts";
import { readConfig } from "./config.ts";
import { ConfigError } from "./config-name.ts";
import { isReceivedView, receivedViewMark } from "./identity.ts";
import { log } from "./log.ts";

const VIEW_DEPTH = 64;
/** What a volume has whose configuration says nothing else. */
const BLOCK_BYTES = 512;

/** A point and the device that shows it. */
export interface ExportedPoint {
  readonly point: KeptPoint;
  /** /dev/ublkbN. */
  readonly device: string;
}

interface Export extends ExportedPoint {
  readonly served: Device;
  readonly view: ViewBridge;
}

export class ReceivedExports {
  readonly #volume: string;
  readonly #thread: ReceiveThread;
  readonly #image: FileBacking;
  /** By the number of the point. */
  readonly #exports = new Map<number, Export>();
  /** One thing at a time. */
  #last: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  #hasThreadEnded = false;

  constructor(volume: string, thread: ReceiveThread, image: FileBacking) {
    this.#volume = volume;
    this.#thread = thread;
    this.#image = image;
    void thread.exited.then(() => {
      this.#hasThreadEnded = true;
      for (const { view } of this.#exports.values()) endView(view);
    });
  }

  get all(): readonly ExportedPoint[] {
    return [...this.#exports.values()];
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /**
   * Shows a closed point, null for the last one, as a read-only device: it waits until the image has been brought to the point. One
   * that is shown already keeps its device. Throws what ReceiveThread.hold and making a device throw.
   */
  export(point: number | null): Promise<ExportedPoint> {
    return this.#inTurn(async () => {
      if (this.#isClosing)
        throw new UblkError("ECANCELED", `Volume ${this.#volume}: its points are about to be shown no more`);
      const held = await this.#thread.hold(point).catch((cause: unknown) => {
        throw new UblkError(codeOf(cause) ?? "EIO", `Volume ${this.#volume}: ${messageOf(cause)}`, { cause });
      });
      const known = this.#exports.get(held.point);
      if (known !== undefined) return known;
      try {
        return await this.#show(held);
      } catch (error) {
        this.#thread.letGo(held.point);
        throw error;
      }
    });
  }

  async #show(point: KeptPoint): Promise<ExportedPoint> {
    const limits = await this.#limits();
    const view = newViewBridge(VIEW_DEPTH, DEFAULT_MAX_IO_BYTES);
    await this.#thread.show(point.point, view);
    let served: Device;
    try {
      served = await Device.create({
        depth: VIEW_DEPTH,
        limits,
        source: viewSource(view),
        mark: receivedViewMark(this.#volume, point.point),
      });
    } catch (error) {
      closeView(view);
      throw error;
    }
    endWith(served);
    const shown = { point, device: served.path, served, view };
    this.#exports.set(point.point, shown);
    if (this.#hasThreadEnded) endView(view);
    log("info", `Volume ${this.#volume}: point ${point.point} is exported as ${served.path}`);
    return shown;
  }

  async #limits(): Promise<Limits> {
    const { handle, limits } = this.#image;
    const blockBytes = await blockBytesOf(this.#volume);
    const isFit = limits.sizeBytes % blockBytes === 0 && (await readsBlocks(handle, blockBytes));
    const logicalBlockBytes = isFit ? blockBytes : limits.logicalBlockBytes;
    return {
      ...{ sizeBytes: limits.sizeBytes, logicalBlockBytes, rotational: limits.rotational },
      physicalBlockBytes: Math.max(limits.physicalBlockBytes, logicalBlockBytes),
      ...{ readOnly: true, volatileCache: false, fua: false, discard: null, writeZeroesMaxBytes: null },
    };
  }

  /** Takes the device of a point away. Throws ENOENT, and EBUSY while it is in use, unless forced. */
  unexport(point: number, force: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const shown = this.#exports.get(point);
      if (shown === undefined) throw new UblkError("ENOENT", `Volume ${this.#volume}: point ${point} is not exported`);
      await this.#hide(shown, force);
      log("info", `Volume ${this.#volume}: point ${point} is not exported any more`);
    });
  }

  async #hide({ point: { point }, served, view }: Export, force: boolean): Promise<void> {
    await stopCleanly(served, force);
    this.#exports.delete(point);
    this.#thread.letGo(point);
    closeView(view);
  }

  /** Takes all devices away, and refuses who waits for one. Throws EBUSY while one is in use, unless forced. */
  async hideAll(force: boolean): Promise<void> {
    this.#isClosing = true;
    this.#thread.endAwaiting();
    await this.#inTurn(async () => {
      try {
        for (const shown of [...this.#exports.values()]) await this.#hide(shown, force);
      } finally {
        this.#isClosing = false;
      }
    });
  }
}

/** Of a block of the volume: partition tables are found by it. Its configuration may be here as well, for the day of its promotion. */
async function blockBytesOf(volume: string): Promise<number> {
  try {
    return (await readConfig(volume)).volume.logicalBlockBytes;
  } catch (error) {
    if (error instanceof ConfigError) return BLOCK_BYTES;
    throw error;
  }
}

/** A queue that is lost or stuck cannot be repaired from within: with the process, nobody waits for it any more. */
function endWith(device: Device): void {
  device.failure.catch((error: unknown) => {
    log("error", `${messageOf(error)}: ending`);
    process.kill(process.pid, "SIGKILL");
  });
}

/** Removes what a receiver that was killed has left of its devices: nobody serves them again. */
export async function removeLeftExports(): Promise<void> {
  try {
    using control = ControlPlane.open();
    for (const device of await listDevices(control)) {
      if (!isReceivedView(device.mark) || (await isServed(device))) continue;
      await control.stop(device.id);
      // Who has it open still may have it so for long.
      await control.removeLater(device.id);
    }
  } catch (error) {
    if (codeOf(error) === "ENODRIVER") return;
    log("warning", `Devices of a receiver before this one may be left: ${messageOf(error)}`);
  }
}
