/** A copy of several running volumes as they are at one instant: a job of each, all with the same name. */
import { askCopies, askCopyCancel, askCopyPrepare } from "./client.ts";
import type { CopyRow } from "./copy-status.ts";
import type { NewCopy } from "./new-copy.ts";
import { takeOf } from "./one-instant.ts";

export interface CopyGroupRow extends CopyRow {
  readonly volume: string;
}

/** What is asked of each volume; what is left out differs between them. */
export type NewCopies = Omit<NewCopy, "destinations">;

/** Begins a job of each volume, at `destinationsOf` it: all have begun in the end, or none. Throws as takeOf. */
export async function startCopies(
  volumes: readonly string[],
  wanted: NewCopies,
  destinationsOf: (volume: string) => readonly string[],
): Promise<readonly CopyGroupRow[]> {
  const name = wanted.name ?? (await freeName(volumes));
  return takeOf<CopyRow>({
    volumes,
    what: `copy job "${name}"`,
    prepare: (volume) => askCopyPrepare(volume, { ...wanted, name, destinations: destinationsOf(volume) }),
    undo: (volume) => askCopyCancel(volume, name),
  });
}

/** One that none of the volumes has given a job. */
async function freeName(volumes: readonly string[]): Promise<string> {
  const rows = await Promise.all(volumes.map((volume) => askCopies(volume)));
  const names = new Set(rows.flat().map(({ name }) => name));
  let number = 1;
  while (names.has(`copy-${number}`)) number++;
  return `copy-${number}`;
}
