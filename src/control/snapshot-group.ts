/** A snapshot of several running volumes at one instant. */
import { askSnapshotDelete, askSnapshotPrepare } from "./client.ts";
import { takeOf } from "./one-instant.ts";
import type { SnapshotRow } from "./snapshot-status.ts";

export interface GroupRow extends SnapshotRow {
  readonly volume: string;
}

/** Takes a snapshot of this name of each volume: all have it in the end, or none. Throws as takeOf. */
export function takeGroup(volumes: readonly string[], snapshot: string): Promise<readonly GroupRow[]> {
  return takeOf<SnapshotRow>({
    volumes,
    what: `snapshot "${snapshot}"`,
    prepare: (volume) => askSnapshotPrepare(volume, snapshot),
    undo: (volume) => askSnapshotDelete(volume, snapshot),
  });
}
