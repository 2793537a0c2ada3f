/**
 * Appends a stream of originals to a raw image (targets/appended-originals.ts says how they lie in the file).
 *
 * Invariant: the end record is written when all before it is durable. So a stream that has its end is whole, and one that has
 * none is an append that was interrupted, which goes on behind its whole records.
 */
import type { ByteStorage } from "../nvram/byte-storage.ts";
import { findStream } from "../targets/appended-originals.ts";
import { CONTROL_BYTES, decodeHeader, RECORD_KIND, type StreamStart } from "../targets/stream-format.ts";
import { StreamReader } from "../targets/stream-reader.ts";
import { UblkError } from "../ublk/errors.ts";

/** Where a stream goes on that is to be appended. */
export interface AppendPlace {
  readonly at: number;
  /** Has taken what is there already. */
  readonly reader: StreamReader;
}

/** Takes the records that are there, from `at` on, as long as they are whole. */
function readLeading(file: ByteStorage, at: number, recordBytes: number): StreamReader {
  const reader = new StreamReader(recordBytes);
  try {
    for (let next = at; next < file.sizeBytes; next += recordBytes) reader.take(file.read(next, recordBytes));
  } catch (error) {
    if (!(error instanceof UblkError) || error.code !== "ESTREAM") throw error;
  }
  return reader;
}

/**
 * Where a stream is to be appended to an image, or goes on. Changes nothing. Throws ESIZE where the image is shorter than the
 * volume, EEXIST where another stream is there, or this one with records of another size.
 */
export function findAppendPlace(
  file: ByteStorage,
  name: string,
  { stream, volumeBytes }: Pick<StreamStart, "stream" | "volumeBytes">,
  recordBytes: number,
): AppendPlace {
  const { sizeBytes } = file;
  if (sizeBytes < volumeBytes) {
    throw new UblkError(
      "ESIZE",
      `${name} has ${sizeBytes} bytes, but the volume had ${volumeBytes}: wanted an image of all of it`,
    );
  }
  const complete = findStream(file);
  // What the image itself holds is no business of ours, even if it is such a file.
  const isBehindImage = complete !== undefined && complete.at >= volumeBytes;
  const first = isBehindImage ? complete.at : firstStart(file, volumeBytes, recordBytes);
  if (first === undefined) {
    return { at: roundUp(sizeBytes, recordBytes), reader: new StreamReader(recordBytes) };
  }
  const header = decodeHeader(file.read(first, CONTROL_BYTES));
  const isOurs = header?.stream.every((byte, index) => byte === stream[index]) === true;
  if (!isOurs) {
    throw new UblkError(
      "EEXIST",
      `${name} has originals of another bulk copy behind its image, from byte ${first} on: wanted an image alone; ` +
        `"truncate --size=${first}" makes it one, and they are lost`,
    );
  }
  if (header.recordBytes !== recordBytes) {
    throw new UblkError(
      "EEXIST",
      `${name}: these originals have been appended in part, in records of ${header.recordBytes} bytes: go on with that size`,
    );
  }
  return { at: first, reader: readLeading(file, first, recordBytes) };
}

/** The first place behind the image that a start record of any stream stands at. */
function firstStart(file: ByteStorage, volumeBytes: number, recordBytes: number): number | undefined {
  for (let at = roundUp(volumeBytes, recordBytes); at + CONTROL_BYTES <= file.sizeBytes; at += recordBytes) {
    if (decodeHeader(file.read(at, CONTROL_BYTES))?.kind === RECORD_KIND.START) return at;
  }
  return undefined;
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** Appends records as they come; durable when this resolves. Throws ESTREAM where the stream is damaged, or ends too early. */
export async function appendRecords(
  { file, cut }: { readonly file: ByteStorage; readonly cut: (length: number) => void },
  { at, reader }: AppendPlace,
  records: AsyncIterable<Uint8Array>,
  progress: (bytes: number) => void,
): Promise<void> {
  const end = (): number => at + reader.wholeRecords * reader.recordBytes;
  // What was written in part is gone before anything is written behind it.
  if (file.sizeBytes > end()) cut(end());
  for await (const record of records) {
    const place = end();
    const { kind } = reader.take(record);
    if (kind === "end") file.sync();
    file.write(place, record);
    progress(reader.payloadBytes);
  }
  reader.end();
  file.sync();
}
