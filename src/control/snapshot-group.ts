/**
 * A snapshot of several running volumes at one instant, each served by a daemon of its own (see group-part.ts).
 *
 * Invariants. No volume takes its snapshot before all are held back, and none goes on before all have taken it. Either all
 * have it in the end, or none.
 */
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { ask, askSnapshotDelete } from "./client.ts";
import type { SnapshotRow } from "./snapshot-status.ts";

export interface GroupRow extends SnapshotRow {
  readonly volume: string;
}

/** Takes a snapshot of this name of each volume. Throws what the first volume said that could not, with its code. */
export async function takeGroup(volumes: readonly string[], snapshot: string): Promise<readonly GroupRow[]> {
  const tickets = new Map<string, string>();
  const taken = new Map<string, GroupRow>();
  const step = (volume: string, action: "hold" | "take" | "finish"): Promise<string> =>
    ask(volume, "POST", `/v1/snapshots/${action}`, { ticket: tickets.get(volume) });
  try {
    await all(volumes, async (volume) => {
      const answer = await ask(volume, "POST", "/v1/snapshots/prepare", { name: snapshot });
      tickets.set(volume, (JSON.parse(answer) as { ticket: string }).ticket);
    });
    await all(volumes, (volume) => step(volume, "hold"));
    await all(volumes, async (volume) => {
      taken.set(volume, { volume, ...(JSON.parse(await step(volume, "take")) as SnapshotRow) });
    });
  } catch (cause) {
    await Promise.allSettled([...tickets.keys()].map((volume) => step(volume, "finish")));
    const remains = await Promise.allSettled([...taken.keys()].map((volume) => askSnapshotDelete(volume, snapshot)));
    const rest = remains.some(({ status }) => status === "rejected") ? "; delete what there is of it" : "";
    throw new UblkError(codeOf(cause) ?? "ESNAPSHOT", `No snapshot "${snapshot}": ${messageOf(cause)}${rest}`, {
      cause,
    });
  }
  await all(volumes, (volume) => step(volume, "finish"));
  return volumes.flatMap((volume) => taken.get(volume) ?? []);
}

/** Asks all at the same time, and waits for all. Throws what the first of them said that could not. */
async function all(volumes: readonly string[], action: (volume: string) => Promise<unknown>): Promise<void> {
  for (const result of await Promise.allSettled(volumes.map(action)))
    if (result.status === "rejected") throw result.reason;
}
