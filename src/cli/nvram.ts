/** `sluice nvram`: making the NVRAM file of a volume, and looking into one. */
import { open } from "node:fs/promises";
import { readConfig } from "../control/config.ts";
import { ownerOf } from "../control/identity.ts";
import { formatSize } from "../control/sizes.ts";
import { REGION, VERSION } from "../nvram/header.ts";
import { CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, defaultChunkBytes, placeOf, readHeader } from "../nvram/nvram-file.ts";
import { RecordLines } from "../nvram/record-lines.ts";
import { ByteFile } from "../targets/byte-file.ts";
import { createNvramBacking } from "../targets/nvram-backing.ts";
import { openVolume } from "../targets/volume.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { sizeArgument } from "./page.ts";

export interface NvramInspection {
  readonly file: string;
  readonly version: number;
  readonly volume: string;
  readonly volumeBytes: number;
  readonly chunkBytes: number;
  readonly chunks: number;
  /** How often the header was written. */
  readonly sequence: number;
  readonly regions: readonly { readonly kind: string; readonly offset: number; readonly lengthBytes: number }[];
  readonly recordedChunks: number;
  readonly recordedBytes: number;
  /** Lines of the record whose checksum is wrong: all their chunks count as recorded. */
  readonly damagedLines: number;
}

const REGION_NAMES = Object.entries(REGION).map(([name, kind]) => [kind, name.toLowerCase()] as const);

/** The size of a record's chunks, `--chunk`; undefined where nothing is given. Throws EUSAGE. */
export function chunkArgument(text: string | undefined): number | undefined {
  const bytes = sizeArgument(text);
  if (bytes === undefined) return undefined;
  if (bytes < CHUNK_BYTES_MIN || bytes > CHUNK_BYTES_MAX || !Number.isInteger(Math.log2(bytes))) {
    throw new UblkError("EUSAGE", `--chunk: wanted a power of two from 4KiB to 4MiB, found "${text}"`);
  }
  return bytes;
}

/** Makes the NVRAM file that a volume's configuration names. Gives what it then holds. */
export async function createNvramFile(
  nameOrPath: string,
  inSync: boolean,
  chunkBytes: number | undefined,
): Promise<NvramInspection> {
  const config = await readConfig(nameOrPath);
  const { record } = config.volume;
  if (record === null) {
    throw new UblkError(
      "ENOENT",
      `${config.file}: has no [record]: say there where the NVRAM file is to be (nvram = "/...")`,
    );
  }
  await using volume = await openVolume({ ...config.volume, record: null, snapshots: null });
  const volumeBytes = volume.limits.sizeBytes;
  const owner = { ...ownerOf(config.name), volumeBytes };
  await createNvramBacking(record.path, owner, { inSync, chunkBytes: chunkBytes ?? defaultChunkBytes(volumeBytes) });
  return await inspectNvramFile(record.path);
}

/** Reads a file, which may be in use; changes nothing. */
export async function inspectNvramFile(path: string): Promise<NvramInspection> {
  const handle = await open(path, "r").catch((cause: unknown) => {
    throw new UblkError(codeOf(cause) ?? "EOPEN", `Cannot open ${path}: ${messageOf(cause)}`, { cause });
  });
  try {
    const storage = new ByteFile(handle.fd);
    const header = readHeader(storage);
    const place = placeOf(storage, header);
    const lines = new RecordLines(storage.read(place.offset, place.lengthBytes), place.chunks, place.salt);
    let recordedChunks = 0;
    const damagedLines = lines.read(() => recordedChunks++);
    return {
      file: path,
      version: VERSION,
      volume: header.volume,
      volumeBytes: header.volumeBytes,
      chunkBytes: header.chunkBytes,
      chunks: place.chunks,
      sequence: header.sequence,
      regions: header.regions.map(({ kind, offset, lengthBytes }) => ({
        kind: REGION_NAMES.find(([known]) => known === kind)?.[1] ?? `unknown (${kind})`,
        offset,
        lengthBytes,
      })),
      recordedChunks,
      recordedBytes: recordedChunks * header.chunkBytes,
      damagedLines,
    };
  } catch (cause) {
    throw new UblkError(codeOf(cause) ?? "ENVRAM", `${path}: ${messageOf(cause)}`, { cause });
  } finally {
    await handle.close();
  }
}

/** Rows for people. */
export function describeNvram(found: NvramInspection): [string, string][] {
  return [
    ["file", `${found.file}, format ${found.version}, header written ${found.sequence} times`],
    [
      "volume",
      `${found.volume}, ${formatSize(found.volumeBytes)} in ${found.chunks} chunks of ${formatSize(found.chunkBytes)}`,
    ],
    ...found.regions.map(({ kind, offset, lengthBytes }): [string, string] => [
      "region",
      `${kind}, ${formatSize(lengthBytes)} at ${offset}`,
    ]),
    ["recorded", `${found.recordedChunks} chunks, ${formatSize(found.recordedBytes)} that may differ from the remote`],
    ["damage", found.damagedLines === 0 ? "none" : `${found.damagedLines} lines, read as recorded all through`],
  ];
}
