/**
 * Makes a volume that was written here one that is kept for a source elsewhere: while nobody serves it.
 *
 * Invariant: what was written here is not forgotten. The record stays where it is, and the receiver asks a source for all that it
 * tells of; where the record does not know all, the generations say so. What counts is the receiver's note, written last.
 */
import { existsSync } from "node:fs";
import { ControlPlane } from "../ublk/control.ts";
import { isServed, listDevices } from "../ublk/devices.ts";
import { codeOf, UblkError } from "../ublk/errors.ts";
import { NO_GENERATION, wentUnrecorded } from "../replication/generations.ts";
import { freshGeneration, SourceStateFile, type SourceState } from "../replication/source-state.ts";
import { examineNvramBacking } from "../targets/nvram-backing.ts";
import { readConfig, type VolumeConfig } from "./config.ts";
import { ownerOf, volumeMark } from "./identity.ts";
import { checkSameFiles, roleOf } from "./mirror-role.ts";
import { mirrorStatePath, receiveStatePath, rollbackPath } from "./paths.ts";
import { readReceiveConfig, specOf, type ReceivedSpec } from "./receive-config.ts";
import { lastKept, renewLog } from "./receive-files.ts";
import { readNote, writeNote, type ReceiverNote } from "./receive-state.ts";
import type { RecordNote } from "./recorded-runs.ts";
import { storeBytes } from "./store-size.ts";
import { lockVolume } from "./volume-lock.ts";

/** Of a log that has to be made. */
const LOG_BYTES = 256 * 2 ** 20;

export interface Demoted {
  /** The record knows all that was written here alone: no more than that is copied. */
  readonly isRecorded: boolean;
  /** The other side has all that was written here. */
  readonly hasAll: boolean;
}

/**
 * `isGivenUp`: what only this side has may be overwritten. Throws ERUNNING while it is served, EMIRROR where it is a target
 * already, was never mirrored, or has other files at the receiver; and ConfigError.
 */
export async function demote(name: string, isGivenUp: boolean): Promise<Demoted> {
  const config = await readConfig(name);
  const spec = specOf(await readReceiveConfig(), name);
  checkSameFiles(config, spec);
  const lock = await lockVolume(name);
  try {
    await refuseDevice(name);
    return (await roleOf(name)) === "source"
      ? await becomeTarget(config, spec, isGivenUp)
      : await staysTarget(name, isGivenUp);
  } finally {
    await lock.close();
  }
}

/** Throws EBEHIND for one that nobody serves, and of which the other side may lack something. */
export async function refuseUnsent({ name, ...config }: VolumeConfig, volumeBytes: number): Promise<void> {
  const { state } = await SourceStateFile.open(mirrorStatePath(name));
  const record = await recordOf({ name, ...config }, state, volumeBytes);
  if (record !== null && state.generations.bitmap === NO_GENERATION) return;
  throw new UblkError(
    "EBEHIND",
    `Volume ${name} has writes that the other side may lack: it has to be served until "sluice mirror wait ${name}" returns`,
  );
}

async function becomeTarget(config: VolumeConfig, spec: ReceivedSpec, isGivenUp: boolean): Promise<Demoted> {
  const { name } = spec;
  refuseRollback(name);
  const { state } = await SourceStateFile.open(mirrorStatePath(name));
  const volumeBytes = await storeBytes(spec.path);
  const record = await recordOf(config, state, volumeBytes);
  const generations = record === null ? wentUnrecorded(state.generations, freshGeneration()) : state.generations;
  const point = Math.max(await lastKept(spec.store, name), state.lastPoint) + 1;
  await renewLog(spec, LOG_BYTES, { committed: point, applied: point });
  const { incarnation, connection } = await readNote(receiveStatePath(name));
  const base = { point, createdMs: Date.now() };
  const note = { role: "target", generations, incoming: null, incarnation, connection, base, record, isGivenUp };
  await writeNote(receiveStatePath(name), note as ReceiverNote);
  return { isRecorded: record !== null, hasAll: record !== null && generations.bitmap === NO_GENERATION };
}

/** Of one that is a target already: it can be given up. */
async function staysTarget(name: string, isGivenUp: boolean): Promise<Demoted> {
  if (!existsSync(receiveStatePath(name))) {
    throw new UblkError("EMIRROR", `Volume ${name} was never mirrored: there is nobody who could have it instead`);
  }
  if (!isGivenUp) {
    throw new UblkError("EMIRROR", `Volume ${name} is mirrored to here already: see "sluice receive status"`);
  }
  const note = await readNote(receiveStatePath(name));
  await writeNote(receiveStatePath(name), { ...note, isGivenUp: true });
  return { isRecorded: note.record !== null, hasAll: false };
}

/** What is still to be put back is no state of the volume that anybody could go on from. Throws EBUSY. */
function refuseRollback(name: string): void {
  if (!existsSync(rollbackPath(name))) return;
  throw new UblkError("EBUSY", `Volume ${name} is to be rolled back: "sluice up ${name}" does it, then try again`);
}

/** The record that knows all that was written here without the other side; null where there is none. */
async function recordOf(
  { name, volume }: VolumeConfig,
  state: SourceState,
  volumeBytes: number,
): Promise<RecordNote | null> {
  if (volume.record === null) return null;
  const nvram = volume.record.path;
  const { salt } = await examineNvramBacking(nvram, { ...ownerOf(name), volumeBytes });
  return salt === state.record ? { nvram, salt } : null;
}

/** The device of a daemon that died holds requests of the host that are still to be served. Throws EBUSY. */
async function refuseDevice(name: string): Promise<void> {
  let control: ControlPlane;
  try {
    control = ControlPlane.open();
  } catch (error) {
    // No driver, no device.
    if (codeOf(error) === "ENODRIVER") return;
    throw error;
  }
  using opened = control;
  for (const device of await listDevices(opened)) {
    if (device.mark !== volumeMark(name) || (await isServed(device))) continue;
    throw new UblkError(
      "EBUSY",
      `Volume ${name} has a device, /dev/ublkb${device.id}, that waits for its daemon: "sluice up ${name}", then try again`,
    );
  }
}
