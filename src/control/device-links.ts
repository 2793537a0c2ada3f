/**
 * The name of a device for people and fstab: /dev/sluice/NAME. Where udev runs, its rule makes the link, from a file that
 * is there before the device is; elsewhere the daemon makes it.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { mkdir, rename, rm, symlink } from "node:fs/promises";
import { dirname } from "node:path";
import { devicePropertiesPath, linkPath } from "./paths.ts";

function udevRuns(): boolean {
  return existsSync("/run/udev/control");
}

/** To be called between the device's making and its start. */
export function announceDevice(name: string, id: number): void {
  const path = devicePropertiesPath(id);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, `SLUICE_NAME=${name}\n`);
}

export async function linkDevice(name: string, id: number): Promise<void> {
  if (udevRuns()) return;
  const path = linkPath(name);
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await rm(`${path}.new`, { force: true });
  await symlink(`../ublkb${id}`, `${path}.new`);
  await rename(`${path}.new`, path);
}

export async function unlinkDevice(name: string, id: number): Promise<void> {
  await rm(devicePropertiesPath(id), { force: true });
  if (!udevRuns()) await rm(linkPath(name), { force: true });
}
