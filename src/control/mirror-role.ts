/**
 * Which side of its mirror a volume is on this host: written here, or kept for a source elsewhere.
 *
 * Invariant: it is one of both at any time. What changes it is one durable write, of the receiver's note; where there is none,
 * a volume that has been the source of a mirror is written here.
 */
import { existsSync } from "node:fs";
import { UblkError } from "../ublk/errors.ts";
import type { VolumeConfig } from "./config.ts";
import { mirrorStatePath, receiveStatePath } from "./paths.ts";
import type { ReceivedSpec } from "./receive-config.ts";
import { readNote, type ReceiverNote } from "./receive-state.ts";

/** "promoting": no source is heard any more, and not all is done that it takes to be one. */
export type MirrorRole = ReceiverNote["role"];

export async function roleOf(name: string): Promise<MirrorRole> {
  const hasNote = existsSync(receiveStatePath(name));
  if (!hasNote && existsSync(mirrorStatePath(name))) return "source";
  return (await readNote(receiveStatePath(name))).role;
}

/** Throws EMIRROR for a volume that is kept here for a source elsewhere: nobody else may write to it. */
export async function refuseTarget(name: string): Promise<void> {
  if (!existsSync(receiveStatePath(name)) || (await roleOf(name)) === "source") return;
  throw new UblkError(
    "EMIRROR",
    `Volume ${name} is mirrored to here, and written elsewhere: to have it here, "sluice mirror promote ${name}"`,
  );
}

/**
 * A volume that changes sides is the same files on both. Throws EMIRROR where its own configuration and the receiver's do not
 * tell of the same ones.
 */
export function checkSameFiles({ file, volume }: VolumeConfig, spec: ReceivedSpec): void {
  const path = volume.backing.kind === "file" ? volume.backing.path : null;
  const store = volume.snapshots?.path ?? null;
  for (const [key, wanted, found] of [
    ["path", spec.path, path],
    ["snapshots.store", spec.store, store],
  ] as const) {
    if (wanted === found) continue;
    throw new UblkError(
      "EMIRROR",
      `${file}: ${key}: wanted "${wanted}", as the receiver has it for ${spec.name}, found ${found === null ? "none" : `"${found}"`}`,
    );
  }
}
