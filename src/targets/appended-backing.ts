/**
 * An image with originals behind it, opened and locked as a backing store is, and looked through: where its originals are.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { codeOf, UblkError } from "../ublk/errors.ts";
import type { Limits } from "../ublk/target.ts";
import { indexAppended, type Appended } from "./appended-originals.ts";
import type { AppendedOptions } from "./appended.ts";
import { ByteFile } from "./byte-file.ts";
import { openExclusively, PAGE_BYTES } from "./file-backing.ts";

/** 320 MiB of memory for the places of originals. */
const ORIGINALS_MAX = 2 ** 24;

export interface AppendedBacking extends AsyncDisposable {
  readonly limits: Limits;
  readonly options: AppendedOptions;
  readonly explain: readonly string[];
}

export interface AppendedBackingOptions {
  readonly path: string;
  readonly logicalBlockBytes: number;
  /** How long a lock may still be held by a process that is going away. */
  readonly lockWaitMs: number;
}

/** Opens, locks and looks through. Throws with one line that says what is wrong: ENOTFILE, EBLOCK, and as indexAppended. */
export async function openAppendedBacking(backing: AppendedBackingOptions): Promise<AppendedBacking> {
  const { path, logicalBlockBytes } = backing;
  await using opened = new AsyncDisposableStack();
  const { handle, stats, direct } = await openExclusively({ ...backing, sizeBytes: null, readOnly: true }).catch(
    (error: unknown) => {
      if (codeOf(error) !== "ENOENT") throw error;
      throw new UblkError(
        "ENOENT",
        `${path} does not exist: wanted an image with originals (sluice bulk finish --append)`,
      );
    },
  );
  opened.use(handle);
  if (!stats.isFile()) {
    throw new UblkError(
      "ENOTFILE",
      `${path} is a block device, which does not say where its originals end: wanted a file`,
    );
  }
  // The very same file, whatever has been put in its place meanwhile.
  const plain = opened.use(await open(`/proc/self/fd/${handle.fd}`, constants.O_RDONLY));
  const appended = indexAppended(new ByteFile(plain.fd), path, ORIGINALS_MAX);
  checkBlocks(appended, backing);
  const { start, originals } = appended;
  const held = opened.move();
  return {
    limits: {
      sizeBytes: start.volumeBytes,
      logicalBlockBytes,
      physicalBlockBytes: Math.max(Math.min(stats.blksize, PAGE_BYTES), logicalBlockBytes),
      readOnly: true,
      rotational: false,
      volatileCache: false,
      fua: false,
      discard: null,
      writeZeroesMaxBytes: null,
    },
    options: { fd: handle.fd, plainFd: plain.fd, originals: originals.table },
    explain: [
      `${start.volume} as it was at ${new Date(start.createdMs).toISOString()}`,
      `image: regular file, locked, ${direct}`,
      `originals: ${originals.bytes} bytes in ${originals.count} runs, through the page cache`,
    ],
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** No block of the device may lie partly in an original and partly in the image: that part could not be read directly. */
function checkBlocks({ start, originals }: Appended, { path, logicalBlockBytes }: AppendedBackingOptions): void {
  let isWhole = start.volumeBytes % logicalBlockBytes === 0;
  for (let index = 0; isWhole && index < originals.count; index++) {
    // A run that has no room in a record is cut at any sector, and goes on in the next.
    const isBehindAnother = index > 0 && originals.end(index - 1) === originals.offset(index);
    const isBeforeAnother = index + 1 < originals.count && originals.end(index) === originals.offset(index + 1);
    isWhole =
      (isBehindAnother || originals.offset(index) % logicalBlockBytes === 0) &&
      (isBeforeAnother || originals.end(index) % logicalBlockBytes === 0);
  }
  if (isWhole) return;
  throw new UblkError(
    "EBLOCK",
    `${path}: volume and originals are no multiples of blocks of ${logicalBlockBytes} bytes: set a smaller logical_block_size`,
  );
}
