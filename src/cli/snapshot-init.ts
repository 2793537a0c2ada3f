/** `sluice snapshot init`: makes the store that a volume's snapshots need. */
import { readConfig } from "../control/config.ts";
import { ownerOf } from "../control/identity.ts";
import { roomBytes } from "../targets/cow/cleaner.ts";
import { BLOCK_BYTES_MAX, BLOCK_BYTES_MIN } from "../targets/cow/store-file.ts";
import { createStoreBacking, examineStore } from "../targets/store-backing.ts";
import { UblkError } from "../ublk/errors.ts";
import { sizeArgument } from "./page.ts";

const BLOCK_BYTES = 16 * 1024;

/** The size of a store's blocks, `--block`. Throws EUSAGE. */
export function blockArgument(text: string | undefined): number {
  const bytes = sizeArgument(text) ?? BLOCK_BYTES;
  if (bytes < BLOCK_BYTES_MIN || bytes > BLOCK_BYTES_MAX || !Number.isInteger(Math.log2(bytes))) {
    throw new UblkError("EUSAGE", `--block: wanted a power of two from 4KiB to 1MiB, found "${text ?? ""}"`);
  }
  return bytes;
}

export interface NewStore {
  readonly path: string;
  readonly blockBytes: number;
  /** Room for originals. */
  readonly sizeBytes: number;
}

/** Makes the store that the configuration of a volume names. Throws ENOENT where it names none. */
export async function initStore(nameOrPath: string, sizeBytes: number | null, blockBytes: number): Promise<NewStore> {
  const config = await readConfig(nameOrPath);
  const { snapshots } = config.volume;
  if (snapshots === null) {
    throw new UblkError(
      "ENOENT",
      `${config.file}: has no [snapshots]: say there where the store is to be (store = "/...")`,
    );
  }
  await createStoreBacking(snapshots.path, ownerOf(config.name), { sizeBytes, blockBytes });
  const { geometry } = await examineStore(snapshots.path);
  return { path: snapshots.path, blockBytes, sizeBytes: roomBytes(geometry) };
}
