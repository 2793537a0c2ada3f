/** Consistency points of several mirrored volumes at one instant. */
import type { CommittedPoint } from "../replication/sender.ts";
import { askMirrorCommitted, askMirrorPrepare } from "./client.ts";
import type { TakenPointRow } from "./mirror-status.ts";
import { takeOf } from "./one-instant.ts";

export interface MirrorGroupRow extends CommittedPoint {
  readonly volume: string;
}

/**
 * Cuts a point of each volume, all of one moment; gives them when all receivers have them. Throws as takeOf, and what the first
 * volume said whose receiver has not got its point.
 */
export async function cutGroup(volumes: readonly string[]): Promise<readonly MirrorGroupRow[]> {
  const taken = await takeOf<TakenPointRow>({
    volumes,
    what: "consistency point at one instant",
    prepare: askMirrorPrepare,
    // A point of its own instant is none too many.
    undo: () => Promise.resolve(),
  });
  const committed = await Promise.allSettled(
    taken.map(async ({ volume, point }) => ({ volume, ...(await askMirrorCommitted(volume, point)) })),
  );
  return committed.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
