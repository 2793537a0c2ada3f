/** What `sluice mirror reverse` does, and its two halves, `promote` and `demote`: a volume moves from one host to the other. */
import { demote } from "../control/demotion.ts";
import { askFollow, askPromote, askReceiveStatus } from "../control/receive-client.ts";
import type { Promoted, ReceivedStatus } from "../control/receive-status.ts";
import { askMirror, askStatus } from "../control/client.ts";
import { askTakeOver, hasGivenUp, refuseLeft } from "../control/reversal.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { print } from "./output.ts";
import { startService, stopService } from "./service.ts";

/** How long a volume that is promoted may take until it serves: it may have to be rolled back first. */
const START_MS = 10 * 60_000;

/** Throws what the receiver answers, and what the start of the volume does: it is promoted then all the same. */
export async function promoteVolume(name: string, force: boolean, json: boolean): Promise<void> {
  const promoted = await askPromote(name, force);
  const { device } = await startService(name, START_MS);
  print(json, { ...promoted, device: device.path }, () => `${describe(name, promoted)}, served as ${device.path}`);
}

function describe(name: string, { point: { point, created }, isRolledBack }: Promoted): string {
  const of = created === null ? "" : ` of ${created}`;
  return `${name} is promoted: ${isRolledBack ? "put back to" : "it is"} point ${point}${of}`;
}

/** Throws EBUSY while it is in use, and what `demote` throws. */
export async function demoteVolume(name: string, discardMine: boolean, json: boolean): Promise<void> {
  if (await isRunning(name)) await stopService(name, false, 0);
  const { isRecorded, hasAll } = await demote(name, discardMine);
  const isFollowing = await follow(name);
  print(json, { isRecorded, hasAll, isFollowing }, () => {
    const copied = isRecorded
      ? "it may have writes that the other side does not have: they are at the places of its record"
      : "no record knows what was written here: all of it is copied to here";
    const rest = isFollowing ? "" : '\nThe receiver is not running: "systemctl start sluice-receive"';
    return `${name} is demoted: ${hasAll ? "the other side has all that was written here" : copied}${rest}`;
  });
}

/**
 * The two sides change places. Throws what keeps them from it: nothing has changed then, or the volume is given up here, which the
 * words say, and the other side can still be told.
 */
export async function reverseVolume(name: string, json: boolean): Promise<void> {
  const wasGivenUp = await hasGivenUp(name);
  await refuseUnheard(name);
  if (!wasGivenUp) await giveUp(name);
  await askTakeOver(name, "target").catch((cause: unknown) => {
    const again = `run it again, or "sluice mirror promote ${name}" here, if "sluice receive status" there shows it as not promoted`;
    throw new UblkError(codeOf(cause) ?? "EIO", `${messageOf(cause)}. It is given up here: ${again}`, { cause });
  });
  if ((await receivedState(name)) === "promoted") await askFollow(name);
  print(json, { name }, () => `${name} is written at the other side from now on: "sluice up ${name}" there`);
}

async function receivedState(name: string): Promise<ReceivedStatus["state"] | undefined> {
  return (await askReceiveStatus()).volumes.find((volume) => volume.name === name)?.state;
}

/** Throws ENOTRUNNING, ENOENT where this host has no receiver that would keep it. */
async function refuseUnheard(name: string): Promise<void> {
  if ((await receivedState(name)) !== undefined) return;
  throw new UblkError("ENOENT", `The receiver of this host was not started with volume ${name}: restart it`);
}

/** Throws why it is not: then it is served again, where it was. */
async function giveUp(name: string): Promise<void> {
  if (!(await isRunning(name))) {
    await refuseLeft(name);
    await askTakeOver(name, "source");
    await demote(name, false);
    return;
  }
  const { state } = await askMirror(name);
  if (state !== "in step")
    throw new UblkError("EBEHIND", `The mirror of ${name} is not in step, but ${state}: "sluice mirror wait ${name}"`);
  await askTakeOver(name, "source");
  await stopService(name, false, 0);
  try {
    await refuseLeft(name);
    await askTakeOver(name, "source");
    await demote(name, false);
  } catch (error) {
    await startService(name, START_MS).catch((cause: unknown) => {
      const message = `${messageOf(error)}; and it does not start again: ${messageOf(cause)}`;
      throw new UblkError(codeOf(error) ?? "EIO", message, { cause });
    });
    throw error;
  }
}

async function isRunning(name: string): Promise<boolean> {
  try {
    await askStatus(name);
    return true;
  } catch (error) {
    if (codeOf(error) === "ENOTRUNNING" || codeOf(error) === "EGONE") return false;
    throw error;
  }
}

/** False where there is no receiver that could. */
async function follow(name: string): Promise<boolean> {
  try {
    await askFollow(name);
    return true;
  } catch (error) {
    if (codeOf(error) === "ENOTRUNNING") return false;
    throw error;
  }
}
