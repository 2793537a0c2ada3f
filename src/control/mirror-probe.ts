/**
 * Asks the other side of a mirror, before the volume is written here, whether it is written there.
 *
 * Invariant: what either side has does not change: a source says what it is, and goes again. Who cannot be asked has not said
 * anything: the volume is served then, as its policy says, and what both have written alone is found when they meet.
 */
import { Connection } from "../replication/connection.ts";
import { FRAME } from "../replication/frame.ts";
import { encodeHello } from "../replication/handshake.ts";
import { decodeReason, type Reason } from "../replication/messages.ts";
import { SourceStateFile, type SourceState } from "../replication/source-state.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import type { VolumeConfig } from "./config.ts";
import { volumeMark } from "./identity.ts";
import { log } from "./log.ts";
import { mirrorStatePath } from "./paths.ts";
import { openTransport } from "./transport-config.ts";

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
async function refusalOf(
  { name, volume, mirror }: VolumeConfig,
  { generations, incarnation, lastPoint }: SourceState,
  volumeBytes: number,
): Promise<Reason | undefined> {
  if (mirror === null || volume.mirror === null) return undefined;
  const transport = await openTransport(mirror.transport, [mirror.receiver]);
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const stream = await transport.connect(mirror.to, patience);
  const answer = Promise.withResolvers<Reason | undefined>();
  const connection = new Connection(stream, PATIENCE_MS, {
    onFrame: (type, payload) => {
      answer.resolve(type === FRAME.REFUSED ? decodeReason(payload) : undefined);
    },
    onEnd: (error) => {
      if (error === undefined) answer.resolve(undefined);
      else answer.reject(error);
    },
  });
  const hello = encodeHello({
    ...{ role: "source", volume: name, mark: volumeMark(name), mode: mirror.mode, policy: mirror.policy },
    ...{ volumeBytes, blockBytes: volume.mirror.blockBytes, generations, incarnation, lastPoint },
    // The first one of the life that ended: whatever comes of it, the connections of the next life are newer.
    connection: 0,
  });
  connection.send(FRAME.HELLO, hello);
  try {
    return await answer.promise;
  } finally {
    connection.close();
  }
}
