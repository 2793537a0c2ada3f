/**
 * Takes something of several running volumes at one instant, each served by a daemon of its own (see group-part.ts).
 *
 * Invariants. No volume takes before all are held back, none goes on before all have taken, and none is told to keep what it
 * has taken before all have. Either all have it in the end, or none.
 */
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { ask } from "./client.ts";

export interface Group {
  readonly volumes: readonly string[];
  /** Such as: snapshot "monday". */
  readonly what: string;
  /** The first step for a volume; gives its ticket. */
  prepare(volume: string): Promise<string>;
  /** Undoes what a volume has kept. */
  undo(volume: string): Promise<void>;
}

/** Gives what each volume answered. Throws what the first volume said that could not, with its code. */
export async function takeOf<Row>(group: Group): Promise<readonly (Row & { readonly volume: string })[]> {
  const { volumes } = group;
  const tickets = new Map<string, string>();
  const taken = new Map<string, Row>();
  const step = (volume: string, action: "hold" | "take" | "finish", more: object = {}): Promise<string> =>
    ask(volume, "POST", `/v1/group/${action}`, { ticket: tickets.get(volume), ...more });
  try {
    await all(volumes, async (volume) => tickets.set(volume, await group.prepare(volume)));
    await all(volumes, (volume) => step(volume, "hold"));
    const createdMs = Date.now();
    await all(volumes, async (volume) => {
      taken.set(volume, JSON.parse(await step(volume, "take", { createdMs })) as Row);
    });
    await all(volumes, (volume) => step(volume, "finish", { keep: true }));
  } catch (cause) {
    // It has been taken of all, and is kept: what was at rest for it is not up again.
    if (codeOf(cause) === "EFREEZE" && taken.size === volumes.length) throw cause;
    await Promise.allSettled([...tickets.keys()].map((volume) => step(volume, "finish", { keep: false })));
    const remains = await Promise.allSettled([...taken.keys()].map((volume) => undone(group, volume)));
    const rest = remains.some(({ status }) => status === "rejected") ? "; delete what there is of it" : "";
    throw new UblkError(codeOf(cause) ?? "EGROUP", `No ${group.what}: ${messageOf(cause)}${rest}`, { cause });
  }
  return volumes.flatMap((volume) => {
    const row = taken.get(volume);
    return row === undefined ? [] : [{ volume, ...row }];
  });
}

/** What is not there need not be undone. */
async function undone(group: Group, volume: string): Promise<void> {
  try {
    await group.undo(volume);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

/** Asks all at the same time, and waits for all. Throws what the first of them said that could not. */
async function all(volumes: readonly string[], action: (volume: string) => Promise<unknown>): Promise<void> {
  for (const result of await Promise.allSettled(volumes.map(action)))
    if (result.status === "rejected") throw result.reason;
}
