/**
 * The rollback of a volume to a snapshot: asked for while it runs, which stops it, and done at the next start.
 *
 * Invariants. It is done while there is no device, so nobody sees a volume that is neither the one nor the other. What is to be
 * done is noted durably, from when the device is gone until all of it is durable: a daemon that dies meanwhile is followed
 * by one that begins again.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { StackOptions } from "../targets/stack.ts";
import type { OpenVolume } from "../targets/volume.ts";
import { codeOf, ERRNO, errnoText, UblkError } from "../ublk/errors.ts";
import { log } from "./log.ts";
import { rollbackPath } from "./paths.ts";
import { notifyManager } from "./service-manager.ts";

/** How often the service manager is asked for more time, and for how much. */
const NOTIFY_MS = 10_000;
const EXTENSION_US = 120_000_000;

export interface WantedRollback {
  readonly snapshot: string;
  readonly epoch: number;
}

/** It is durable when this returns. */
export function noteRollback(volume: string, wanted: WantedRollback): void {
  const path = rollbackPath(volume);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fd = openSync(`${path}.new`, "w", 0o600);
  writeSync(fd, `${JSON.stringify(wanted)}\n`);
  fsyncSync(fd);
  closeSync(fd);
  renameSync(`${path}.new`, path);
  const directory = openSync(dirname(path), "r");
  fsyncSync(directory);
  closeSync(directory);
}

async function readNote(volume: string): Promise<WantedRollback | undefined> {
  try {
    return JSON.parse(await readFile(rollbackPath(volume), "utf8")) as WantedRollback;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Does what has been asked for, before there is a device. Throws EROLLBACK, and says what the volume is then. */
export async function finishRollback(name: string, volume: OpenVolume): Promise<void> {
  const wanted = await readNote(name);
  if (wanted === undefined) return;
  const { snapshot } = wanted;
  log("info", `Rolling back to snapshot ${snapshot}`);
  // Most starts need nothing of this.
  const { rollBackVolume } = await import("../targets/volume-rollback.ts");
  let toldMs = 0;
  const result = rollBackVolume(volume.source.options as StackOptions, volume.limits, wanted, () => {
    if (performance.now() - toldMs < NOTIFY_MS) return;
    toldMs = performance.now();
    notifyManager(`EXTEND_TIMEOUT_USEC=${EXTENSION_US}`, `STATUS=rolling back to snapshot ${snapshot}`);
  });
  if (result !== "done" && result.failed === "incomplete") {
    throw new UblkError(
      "EROLLBACK",
      `Volume ${name} is rolled back to snapshot "${snapshot}" in part only: ${errnoText(result.errno)}. ` +
        `The next start begins again; to have the volume as it is, remove ${rollbackPath(name)}`,
    );
  }
  await rm(rollbackPath(name));
  if (result === "done") log("info", `Rolled back to snapshot ${snapshot}`);
  else {
    throw new UblkError(
      "EROLLBACK",
      `Volume ${name} is as it was, and stopped: it cannot be rolled back to snapshot "${snapshot}": ${reasonOf(result.errno)}`,
    );
  }
}

function reasonOf(errno: number): string {
  if (errno === ERRNO.ENOENT) return "it is not there any more, or the volume has become smaller";
  if (errno === ERRNO.ENOSPC) return "its store has no room for what other snapshots want to keep: delete some of them";
  return `not all of it can be read (${errnoText(errno)})`;
}
