/** `sluice list`: configured volumes, running volumes, and the ublk devices of this machine, put together. */
import { askStatus } from "../control/client.ts";
import { configuredVolumes, startedVolumes } from "../control/config-name.ts";
import { isReceivedView, isViewOf, volumeMark } from "../control/identity.ts";
import { ControlPlane } from "../ublk/control.ts";
import { isServed, listDevices } from "../ublk/devices.ts";
import { codeOf } from "../ublk/errors.ts";

export interface InventoryRow {
  /** Name of the volume; null for a device that is none of sluice's, or whose configuration is gone. */
  readonly volume: string | null;
  readonly state:
    | "running"
    | "stopped"
    | "waiting for its daemon"
    | "orphan"
    | "of another server"
    | "shows a snapshot"
    | "shows a received point";
  readonly device: number | null;
  readonly sizeBytes: number | null;
  readonly pid: number | null;
}

/** Without a ublk driver there are no devices, and the volumes are still listed. */
export async function takeInventory(): Promise<InventoryRow[]> {
  const volumes = new Set([...configuredVolumes(), ...startedVolumes()]);
  const devices = await allDevices();
  const rows: InventoryRow[] = [];
  for (const volume of [...volumes].toSorted()) {
    const device = devices.find(({ mark }) => mark === volumeMark(volume));
    const status = await askStatus(volume).catch(() => undefined);
    rows.push({
      volume,
      state: status !== undefined ? "running" : device !== undefined ? "waiting for its daemon" : "stopped",
      device: device?.id ?? null,
      sizeBytes: status?.sizeBytes ?? null,
      pid: status?.pid ?? null,
    });
  }
  for (const device of devices) {
    if (rows.some((row) => row.device === device.id)) continue;
    const served = await isServed(device);
    const shown = rows.find((row) => row.volume !== null && isViewOf(row.volume, device.mark));
    if (shown !== undefined) {
      rows.push({
        volume: shown.volume,
        state: served ? "shows a snapshot" : "waiting for its daemon",
        device: device.id,
        sizeBytes: null,
        pid: served ? device.pid : null,
      });
      continue;
    }
    rows.push({
      volume: null,
      state: !served ? "orphan" : isReceivedView(device.mark) ? "shows a received point" : "of another server",
      device: device.id,
      sizeBytes: null,
      pid: served ? device.pid : null,
    });
  }
  return rows;
}

async function allDevices(): ReturnType<typeof listDevices> {
  try {
    using control = ControlPlane.open();
    return await listDevices(control);
  } catch (error) {
    if (codeOf(error) === "ENODRIVER") return [];
    throw error;
  }
}
