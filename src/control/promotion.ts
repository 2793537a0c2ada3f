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
import { noteRollback } from "./rollback.ts";

export interface NewSource {
  readonly generations: Generations;
  /** The largest one that was heard of here. */
  readonly incarnation: number;
  readonly volumeBytes: number;
  /** What the volume is put back to at its next start: the image is on its way away from it. Null where it is whole. */
  readonly rollBack: { readonly point: number; readonly epoch: number } | null;
}

/** Throws what making the files throws. */
export async function becomeSource({ name, volume }: VolumeConfig, source: NewSource): Promise<void> {
  const { generations, incarnation, volumeBytes, rollBack } = source;
  const { record } = volume;
  // Nothing differs from the other side but what it has written itself, and that its own record tells.
  const salt = record === null ? null : await emptyNvramBacking(record.path, { ...ownerOf(name), volumeBytes });
  await SourceStateFile.adopt(mirrorStatePath(name), {
    generations: generations.current === NO_GENERATION ? created(freshGeneration()) : generations,
    incarnation,
    record: salt,
  });
  if (rollBack !== null) noteRollback(name, { snapshot: String(rollBack.point), epoch: rollBack.epoch });
}
