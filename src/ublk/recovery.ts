/**
 * Beginning to recover a device: waiting until its dead server is gone altogether, and telling the kernel.
 *
 * Invariant: until the first fetch, whoever dies here leaves the device as it was, for the next to recover.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { CommandOptions, ControlPlane, DeviceInfo } from "./control.ts";
import { codeOf, UblkError } from "./errors.ts";

/** How long the remains of a dead server may take to disappear. */
const REMAINS_DEADLINE_MS = 60_000;
const RETRY_MS = 20;

export async function awaitQuiesced(control: ControlPlane, id: number, options: CommandOptions): Promise<DeviceInfo> {
  const deadline = performance.now() + REMAINS_DEADLINE_MS;
  for (;;) {
    const info = await control.info(id, options);
    if (!info.features.has("USER_RECOVERY")) {
      throw new UblkError("ENOTRECOVERABLE", `Device ${id} was not made recoverable`);
    }
    if (info.state === "quiesced" || info.state === "failing") return info;
    if (info.state === "dead") throw new UblkError("ENEVERSTARTED", `Device ${id} was never started: remove it`);
    if (performance.now() > deadline) {
      throw new UblkError("EBUSY", `Device ${id} is still served by process ${info.pid}`);
    }
    await sleep(RETRY_MS);
  }
}

export async function beginRecovery(control: ControlPlane, id: number, options: CommandOptions): Promise<void> {
  const deadline = performance.now() + REMAINS_DEADLINE_MS;
  for (;;) {
    try {
      await control.startRecovery(id, options);
      return;
    } catch (error) {
      // EINVAL for a device that is recoverable: a server began to recover it and died before it had fetched anything.
      // The kernel has forgotten the one before already.
      if (codeOf(error) === "EINVAL") return;
      if (codeOf(error) !== "EBUSY" || performance.now() > deadline) throw error;
    }
    await sleep(RETRY_MS);
  }
}
