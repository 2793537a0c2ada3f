/**
 * Taking a device away without losing anything.
 *
 * Invariant: without force, a device is stopped only while nobody has it open, and after the page cache has been written
 * back: the kernel fails dirty pages of a recoverable device when it is stopped. With force, whoever has it open gets
 * errors, but what was written is written back first.
 */
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Device } from "../ublk/device.ts";
import { openers, syncBlockDevice, type Opener } from "../ublk/devices.ts";
import { codeOf, UblkError } from "../ublk/errors.ts";

const execute = promisify(execFile);

/** Programs that open a device for a moment only. */
const PASSERS_BY = /^(\(udev-worker\)|systemd-udevd|udevadm|blkid|partx)$/;
/** How long they may take before they are users like any other. */
const PASSING_MS = 5_000;
const RETRY_MS = 50;

/** "mounted at /mnt, open in process 12 (dd)". */
export function describeOpeners(found: readonly Opener[]): string {
  return found
    .map((opener) => {
      switch (opener.kind) {
        case "mount":
          return `mounted at ${opener.where}`;
        case "holder":
          return `held by ${opener.name}`;
        case "swap":
          return "in use as swap";
        case "process":
          return `open in process ${opener.pid} (${opener.command})`;
      }
    })
    .join(", ");
}

function inUse(device: Device, found: readonly Opener[]): UblkError {
  const who = found.length === 0 ? "somebody has it open" : describeOpeners(found);
  return new UblkError("EBUSY", `${device.path} is in use: ${who}`);
}

/** Throws EBUSY, naming who uses the device, while it is in use and not forced. */
export async function stopCleanly(device: Device, force: boolean): Promise<void> {
  if (force) {
    for (const opener of await openers(device.id)) {
      if (opener.kind === "mount") await execute("sync", ["--file-system", opener.where]);
    }
    await syncBlockDevice(device.id);
    // Who uses it may go on for long; removal would wait for that.
    await device.stop({ removeLater: true });
    return;
  }
  const found = await lastingOpeners(device.id);
  if (found.length > 0) throw inUse(device, found);
  await syncBlockDevice(device.id);
  if (device.features.has("SAFE_STOP_DEV")) await stopUnlessOpen(device);
  else await stopExclusively(device);
}

/** Who has the device open, once udev has looked at it: it does so whenever a device appears or was written to. */
async function lastingOpeners(id: number): Promise<Opener[]> {
  const deadline = performance.now() + PASSING_MS;
  for (;;) {
    const found = await openers(id);
    const onlyPassing = found.every((opener) => opener.kind === "process" && PASSERS_BY.test(opener.command));
    if (found.length === 0 || !onlyPassing || performance.now() > deadline) return found;
    await sleep(RETRY_MS);
  }
}

async function stopUnlessOpen(device: Device): Promise<void> {
  const deadline = performance.now() + PASSING_MS;
  for (;;) {
    try {
      await device.tryStop();
      return;
    } catch (error) {
      if (codeOf(error) !== "EBUSY") throw error;
      const found = await lastingOpeners(device.id);
      if (found.length > 0 || performance.now() > deadline) throw inUse(device, found);
    }
    await sleep(RETRY_MS);
  }
}

/** For kernels that cannot refuse by themselves: while we hold the device exclusively, nobody can mount it. */
async function stopExclusively(device: Device): Promise<void> {
  const hold = await open(device.path, constants.O_RDONLY | constants.O_EXCL).catch(async (error: unknown) => {
    throw codeOf(error) === "EBUSY" ? inUse(device, await openers(device.id)) : error;
  });
  try {
    await device.stop({ beforeRemoval: () => hold.close() });
  } catch (error) {
    await hold.close();
    throw error;
  }
}
