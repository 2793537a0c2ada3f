/** What `sluice mirror promote` and `demote` do: the two halves of moving a volume from one host to the other. */
import { demote } from "../control/demotion.ts";
import { askFollow, askPromote } from "../control/receive-client.ts";
import type { Promoted } from "../control/receive-status.ts";
import { askStatus } from "../control/client.ts";
import { codeOf } from "../ublk/errors.ts";
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
