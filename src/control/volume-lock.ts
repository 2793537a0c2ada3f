/** One daemon a volume: whoever serves it, or does with its files what nobody else may do meanwhile, holds its lock. */
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { lockPath, runtimeDirectory } from "./paths.ts";

/** How long the lock of a daemon that was killed may live on. */
const WAIT_MS = 2_000;
const RETRY_MS = 50;

/** The lock goes with the process. Throws ERUNNING. */
export async function lockVolume(name: string): Promise<FileHandle> {
  await mkdir(runtimeDirectory(), { recursive: true, mode: 0o700 });
  const handle = await open(lockPath(name), "a", 0o600);
  const deadline = performance.now() + WAIT_MS;
  while (!native.lockFile(handle.fd)) {
    if (performance.now() > deadline) {
      await handle.close();
      throw new UblkError("ERUNNING", `Volume ${name} is running already: see "sluice status ${name}"`);
    }
    await sleep(RETRY_MS);
  }
  return handle;
}
