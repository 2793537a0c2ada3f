/**
 * One question to the other side of a mirror, over a connection of its own.
 *
 * Invariant: a source that asks is no source by that: it says what it is, hears what the other side says to it, and goes again.
 */
import { Connection } from "../replication/connection.ts";
import { FRAME, type FrameType } from "../replication/frame.ts";
import { encodeHello, type Role } from "../replication/handshake.ts";
import type { SourceState } from "../replication/source-state.ts";
import type { VolumeConfig } from "./config.ts";
import { volumeMark } from "./identity.ts";
import { openTransport } from "./transport-config.ts";

/** The other side may be gone for good. */
const CONNECT_MS = 5_000;

export interface Asking {
  readonly type: typeof FRAME.HELLO | typeof FRAME.TAKE_OVER;
  readonly role: Role;
  readonly state: SourceState;
  readonly volumeBytes: number;
  /** Who says nothing for so long is not there. */
  readonly silenceMs: number;
}

export interface Answer {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

/** Undefined where it had nothing to say, or there is nobody to be asked. Throws where it cannot be asked. */
export async function askOtherSide(config: VolumeConfig, asking: Asking): Promise<Answer | undefined> {
  const { mirror } = config;
  const blockBytes = config.volume.mirror?.blockBytes;
  if (mirror === null || blockBytes === undefined) return undefined;
  const transport = await openTransport(mirror.transport, [mirror.receiver]);
  const stream = await transport.connect(mirror.to, AbortSignal.timeout(CONNECT_MS));
  const answer = Promise.withResolvers<Answer | undefined>();
  const connection = new Connection(stream, asking.silenceMs, {
    onFrame: (type, payload) => {
      answer.resolve({ type, payload: payload.slice() });
    },
    onEnd: (error) => {
      if (error === undefined) answer.resolve(undefined);
      else answer.reject(error);
    },
  });
  const { role, volumeBytes } = asking;
  const { generations, incarnation, lastPoint } = asking.state;
  const hello = encodeHello({
    ...{ role, volume: config.name, mark: volumeMark(config.name), mode: mirror.mode, policy: mirror.policy },
    ...{ volumeBytes, blockBytes, generations, incarnation, lastPoint },
    // The first one of the life that ended: whatever comes of it, the connections of the next life are newer.
    connection: 0,
  });
  connection.send(asking.type, hello);
  if (asking.type === FRAME.TAKE_OVER) connection.giveSigns();
  try {
    return await answer.promise;
  } finally {
    connection.close();
  }
}
