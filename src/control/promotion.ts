/**
 * What makes the volume that a receiver has kept one that is written here: a new life of it begins, with a record that knows all
 * that will differ from the other side.
 *
 * Invariant: all of it can be done again from the beginning, until the receiver's note says "source": what is made here counts
 * from then on.
 */
import { created, NO_GENERATION, type Generations } from "../replication/generations.ts";
import { freshGeneration, SourceStateFile } from "../replication/source-state.ts";
import { emptyNvramBacking } from "../targets/nvram-backing.ts";
import type { VolumeConfig } from "./config.ts";
import { ownerOf } from "./identity.ts";
import { mirrorStatePath } from "./paths.ts";
import type { RecordNote } from "./recorded-runs.ts";
import { noteRollback } from "./rollback.ts";

export interface NewSource {
  readonly generations: Generations;
  /** The largest one that was heard of here. */
  readonly incarnation: number;
  readonly volumeBytes: number;
  /** Of what was written here before it was demoted, and may still be missing at the other side; null where there is nothing. */
  readonly unsettled: RecordNote | null;
  /** What the volume is put back to at its next start: the image is on its way away from it. Null where it is whole. */
  readonly rollBack: { readonly point: number; readonly epoch: number } | null;
}

/** Throws what making the files throws. */
export async function becomeSource({ name, volume }: VolumeConfig, source: NewSource): Promise<void> {
  const { generations, incarnation, rollBack } = source;
  await SourceStateFile.adopt(mirrorStatePath(name), {
    generations: generations.current === NO_GENERATION ? created(freshGeneration()) : generations,
    incarnation,
    record: volume.record === null ? null : await saltOf(name, volume.record.path, source),
  });
  if (rollBack !== null) noteRollback(name, { snapshot: String(rollBack.point), epoch: rollBack.epoch });
}

/** Of a record that knows all that differs from the other side, but what that has written itself; null where there is none. */
async function saltOf(name: string, path: string, { volumeBytes, unsettled }: NewSource): Promise<number | null> {
  if (unsettled === null) return emptyNvramBacking(path, { ...ownerOf(name), volumeBytes });
  return unsettled.nvram === path ? unsettled.salt : null;
}
