/**
 * The destinations of a copy job, as its record names them.
 *
 * Invariant: they are opened all, or none is.
 */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import { copiedBytesOf, type CopyRecord, type RecordedDestination } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import { openImage } from "../copy/file-destination.ts";
import { alreadyThere, type DestinationUse } from "../copy/open-copy.ts";
import { openStream } from "../copy/stream-destination.ts";
import { STREAM_ID_BYTES } from "../targets/stream-format.ts";

/** A stream where `recordBytes` is not null, else an image. */
export function newDestination(path: string, recordBytes: number | null): RecordedDestination {
  const id = randomBytes(STREAM_ID_BYTES).toString("hex");
  return { path, stream: recordBytes === null ? null : { id, recordBytes, records: 0, payloadBytes: 0 } };
}

export function pathsOf({ destinations }: CopyRecord): string {
  return destinations.map(({ path }) => path).join(", ");
}

/** How far the streams are, beside what is copied. */
export function withMarks({ destinations }: CopyRecord, opened: readonly Destination[]): RecordedDestination[] {
  return destinations.map((recorded, index) => {
    const mark = opened[index]?.mark ?? null;
    if (recorded.stream === null || mark === null) return recorded;
    return { ...recorded, stream: { ...recorded.stream, ...mark } };
  });
}

/** Sees, as well as can be seen, that they can be opened when the job begins. Throws EEXIST. */
export async function checkDestinations({ destinations, overwrites }: CopyRecord): Promise<void> {
  for (const { path } of destinations) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() === true && !overwrites) throw alreadyThere(path);
  }
}

/** Opens them for a job that is to begin: nothing that is there is changed. Throws as openToWrite, and ESIZE. */
export function openNew(volume: string, record: CopyRecord): Promise<Destination[]> {
  return openAll(volume, record, record.overwrites ? "replace" : "new");
}

/** Opens them for a job that an earlier process has begun. Throws as openToWrite, and ESIZE. */
export async function openAgain(volume: string, record: CopyRecord): Promise<Destination[]> {
  const opened = await openAll(volume, record, "resume");
  try {
    // As long as nothing counts, it does not matter how far the earlier process came.
    const hasBegun = copiedBytesOf(record) > 0;
    for (const destination of opened) await (hasBegun ? destination.goOn() : destination.begin(record.createdMs));
    return opened;
  } catch (error) {
    await closeAll(opened);
    throw error;
  }
}

async function openAll(volume: string, record: CopyRecord, use: DestinationUse): Promise<Destination[]> {
  const opened: Destination[] = [];
  try {
    for (const { path, stream } of record.destinations) {
      const { volumeBytes } = record;
      if (stream === null) opened.push(await openImage(path, volumeBytes, use));
      else {
        const id = Buffer.from(stream.id, "hex");
        const start = { stream: id, volume, volumeBytes, content: "copy" } as const;
        opened.push(await openStream(path, use, start, stream.recordBytes, stream));
      }
    }
    return opened;
  } catch (error) {
    await takeBackAll(opened);
    throw error;
  }
}

/** The job has not begun, and will not: what was made for it goes. */
export async function takeBackAll(destinations: readonly Destination[]): Promise<void> {
  for (const destination of destinations) await destination.takeBack();
}

export async function closeAll(destinations: readonly Destination[]): Promise<void> {
  for (const destination of destinations) await destination[Symbol.asyncDispose]();
}
