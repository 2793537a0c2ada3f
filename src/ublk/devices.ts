/**
 * The ublk devices of this machine, whoever serves them: listing, who uses them, removing orphans.
 *
 * Nothing here may run in a thread that serves requests: all of it reads devices, or waits for those who do.
 */
import { open, readdir, readFile, readlink } from "node:fs/promises";
import type { CommandOptions, ControlPlane, DeviceInfo } from "./control.ts";
import { blockPath } from "./device-files.ts";
import { codeOf } from "./errors.ts";

const CHARACTER_CLASS = "/sys/class/ublk-char";

/** Somebody who has a device open. */
export type Opener =
  | { readonly kind: "mount"; readonly where: string }
  | { readonly kind: "holder"; readonly name: string }
  | { readonly kind: "swap" }
  | { readonly kind: "process"; readonly pid: number; readonly command: string };

/** Every device that the driver knows, by number. */
export async function listDevices(control: ControlPlane, options?: CommandOptions): Promise<DeviceInfo[]> {
  const names = await readdir(CHARACTER_CLASS).catch(() => []);
  const ids = names.map((name) => Number(name.replace("ublkc", ""))).filter(Number.isInteger);
  const devices: DeviceInfo[] = [];
  for (const id of ids.toSorted((a, b) => a - b)) {
    try {
      devices.push(await control.info(id, options));
    } catch (error) {
      if (codeOf(error) !== "ENODEV") throw error;
    }
  }
  return devices;
}

/** Whether a process exists that could still serve the device. */
export async function isServed(device: DeviceInfo): Promise<boolean> {
  if (device.pid === 0) return false;
  const state = await readFile(`/proc/${device.pid}/stat`, "utf8").catch(() => "");
  const letter = state.slice(state.lastIndexOf(")") + 2, state.lastIndexOf(")") + 3);
  return letter !== "" && letter !== "Z" && letter !== "X";
}

/** Stops and removes a device that nobody serves. Requests that wait for it fail with EIO. */
export async function removeDevice(control: ControlPlane, id: number, options?: CommandOptions): Promise<void> {
  await control.stop(id, options);
  await control.remove(id, options);
}

/** Writes back what the page cache holds of a device. */
export async function syncBlockDevice(id: number): Promise<void> {
  const file = await open(blockPath(id), "r+").catch(async (error: unknown) => {
    if (codeOf(error) === "EROFS" || codeOf(error) === "EACCES") return open(blockPath(id), "r");
    throw error;
  });
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Who has /dev/ublkbN or one of its partitions open. Needs root to see the files of other processes. */
export async function openers(id: number): Promise<Opener[]> {
  const numbers = await deviceNumbers(id);
  if (numbers.size === 0) return [];
  return [...(await mounts(id, numbers)), ...(await holders(id)), ...(await swaps(id)), ...(await processes(id))];
}

function systemPath(id: number): string {
  return `/sys/class/block/ublkb${id}`;
}

function isPartOf(id: number, name: string): boolean {
  return name === `ublkb${id}` || new RegExp(`^ublkb${id}p[0-9]+$`).test(name);
}

/** "259:3" of the device and its partitions. */
async function deviceNumbers(id: number): Promise<Set<string>> {
  const entries = await readdir(systemPath(id)).catch(() => []);
  const paths = [
    systemPath(id),
    ...entries.filter((name) => isPartOf(id, name)).map((name) => `${systemPath(id)}/${name}`),
  ];
  const numbers = await Promise.all(paths.map((path) => readFile(`${path}/dev`, "utf8").catch(() => "")));
  return new Set(numbers.map((text) => text.trim()).filter((text) => text !== ""));
}

/** Mounts that init sees and mounts that this process sees: they may live in different name spaces. */
async function mounts(id: number, numbers: ReadonlySet<string>): Promise<Opener[]> {
  const tables = await Promise.all(
    ["/proc/1/mountinfo", "/proc/self/mountinfo"].map((path) => readFile(path, "utf8").catch(() => "")),
  );
  const found = new Set<string>();
  for (const line of tables.join("\n").split("\n")) {
    const [, , number, , where] = line.split(" ");
    // btrfs shows a number of its own there; but its mount names the device as its source.
    const source = line.split(" - ")[1]?.split(" ")[1]?.replace("/dev/", "") ?? "";
    if (where === undefined || number === undefined) continue;
    if (numbers.has(number) || isPartOf(id, source)) found.add(unescapeMount(where));
  }
  return [...found].map((where) => ({ kind: "mount", where }));
}

function unescapeMount(where: string): string {
  return where.replaceAll(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

async function holders(id: number): Promise<Opener[]> {
  const names = await readdir(`${systemPath(id)}/holders`).catch(() => []);
  return names.map((name) => ({ kind: "holder", name }));
}

async function swaps(id: number): Promise<Opener[]> {
  const table = await readFile("/proc/swaps", "utf8").catch(() => "");
  const used = table.split("\n").some((line) => isPartOf(id, (line.split(/\s+/)[0] ?? "").replace("/dev/", "")));
  return used ? [{ kind: "swap" }] : [];
}

async function processes(id: number): Promise<Opener[]> {
  const found: Opener[] = [];
  const pids = (await readdir("/proc")).map(Number).filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  for (const pid of pids) {
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const link = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
      if (!link.startsWith("/dev/") || !isPartOf(id, link.slice("/dev/".length))) continue;
      const command = (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "?")).trim();
      found.push({ kind: "process", pid, command });
      break;
    }
  }
  return found;
}
