/**
 * Asks the other side of a mirror, before the volume is written here, whether it is written there.
 *
 * Invariant: what either side has does not change: a source says what it is, and goes again. Who cannot be asked has not said
 * anything: the volume is served then, as its policy says, and what both have written alone is found when they meet.
 */
import { FRAME } from "../replication/frame.ts";
import { decodeReason, type Reason } from "../replication/messages.ts";
import { SourceStateFile, type SourceState } from "../replication/source-state.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import type { VolumeConfig } from "./config.ts";
import { log } from "./log.ts";
import { askOtherSide } from "./other-side.ts";
import { mirrorStatePath } from "./paths.ts";

/** The other side may be gone for good, and the host waits for its volume. */
const PATIENCE_MS = 5_000;
/** The other side has all that is here, and more: with any other answer this side has something of its own. */
const WRITTEN_THERE = "EAHEAD";

/** Throws EMIRROR where the volume is written at the other side. */
export async function refuseWrittenThere(config: VolumeConfig, volumeBytes: number): Promise<void> {
  const state = await stateOf(config.name);
  if (config.mirror === null || state === undefined) return;
  let reason: Reason | undefined;
  try {
    reason = await refusalOf(config, state, volumeBytes);
  } catch (error) {
    log("warning", `The other side of the mirror cannot be asked whether it is written there: ${messageOf(error)}`);
  }
  if (reason?.code !== WRITTEN_THERE) return;
  throw new UblkError(
    "EMIRROR",
    `The other side says: ${reason.text} (${reason.code}). To follow it: "sluice mirror demote ${config.name}"`,
  );
}

async function stateOf(name: string): Promise<SourceState | undefined> {
  try {
    return (await SourceStateFile.open(mirrorStatePath(name))).state;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Why the receiver would refuse this source; undefined where it would not, or had nothing to say. Throws where it cannot be asked. */
async function refusalOf(config: VolumeConfig, state: SourceState, volumeBytes: number): Promise<Reason | undefined> {
  const asking = { type: FRAME.HELLO, role: "source", state, volumeBytes, silenceMs: PATIENCE_MS } as const;
  const answer = await askOtherSide(config, asking);
  return answer?.type === FRAME.REFUSED ? decodeReason(answer.payload) : undefined;
}
