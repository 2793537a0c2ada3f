/** What `sluice bulk finish` and `sluice bulk restore` do: this process writes, the daemon only reads. */
import { realpath, stat } from "node:fs/promises";
import { askBulk, askBulkAction, askBulkDrop, askBulkOriginals, askStatus } from "../control/client.ts";
import { appendRecords, findAppendPlace } from "../copy/appended-stream.ts";
import { checkRoom, openToRead, openToWrite, statIfThere, type OpenCopy } from "../copy/open-copy.ts";
import { recordsOf } from "../copy/originals-stream.ts";
import { overlayOriginals } from "../copy/overlay.ts";
import { restore, type RestoreCounts } from "../copy/restore.ts";
import { openRestoreTarget } from "../copy/restore-target.ts";
import { readAppended } from "../targets/appended-originals.ts";
import { UblkError } from "../ublk/errors.ts";
import { progressOf } from "./progress.ts";

/** What goes between daemon and overlay in one piece. */
const OVERLAY_RECORD_BYTES = 2 ** 20;

export interface FinishedCopy {
  readonly destination: string;
  /** Of the volume. */
  readonly sizeBytes: number;
  readonly originalBytes: number;
}

/** Lays the originals of a bulk copy over what the outside program has written, then drops them. */
export async function finishByOverlay(name: string, path: string): Promise<FinishedCopy> {
  const { sizeBytes } = await askBulk(name);
  await using to = await openToWrite(path, "resume");
  checkRoom(to, sizeBytes);
  await refuseVolumeItself(name, to);
  const { stream, originalBytes } = await askBulkAction(name, "end-cow");
  const records = recordsOf(askBulkOriginals(name, OVERLAY_RECORD_BYTES, 0), OVERLAY_RECORD_BYTES);
  await overlayOriginals(records, OVERLAY_RECORD_BYTES, to.file, progressOf("originals", originalBytes));
  await askBulkDrop(name, stream);
  return { destination: path, sizeBytes, originalBytes };
}

async function refuseVolumeItself(name: string, { kind, deviceNumber, path }: OpenCopy): Promise<void> {
  if (kind !== "device") return;
  const { device } = await askStatus(name);
  if ((await stat(device.path)).rdev !== deviceNumber) return;
  throw new UblkError("EINVALID", `${path} is the volume itself: what was written since would be lost; name the copy`);
}

/** Appends the originals to an image that the outside program has written, then drops them. Goes on where it was. */
export async function finishByAppend(name: string, path: string, recordBytes: number): Promise<FinishedCopy> {
  const { sizeBytes, stream } = await askBulk(name);
  await using to = await openToWrite(path, "resume");
  if (to.kind === "device") {
    throw new UblkError("ENOTFILE", `${path} is a block device, which has no end to append to: wanted a file`);
  }
  const id = { stream: Buffer.from(stream, "hex"), volumeBytes: sizeBytes };
  const place = findAppendPlace(to.file, path, id, recordBytes);
  const { originalBytes } = await askBulkAction(name, "end-cow");
  const records = recordsOf(askBulkOriginals(name, recordBytes, place.reader.wholeRecords), recordBytes);
  await appendRecords(to, place, records, progressOf("originals", originalBytes));
  await askBulkDrop(name, stream);
  return { destination: path, sizeBytes, originalBytes };
}

export interface RestoredCopy extends RestoreCounts {
  readonly volume: string;
  /** ISO 8601: what the volume was then. */
  readonly time: string;
}

/**
 * Writes an image with its originals over it to a device, or to a new file; to one that is there if `force` says so. Throws as
 * openRestoreTarget, EINVAL where it is the image itself.
 */
export async function restoreAppended(path: string, destination: string, force: boolean): Promise<RestoredCopy> {
  await using from = await openToRead(path);
  const appended = readAppended(from.file, path);
  const { volume, volumeBytes, createdMs } = appended.start;
  if ((await statIfThere(destination)) !== undefined && (await realpath(path)) === (await realpath(destination))) {
    throw new UblkError("EINVAL", `${destination} is the file itself: name another one`);
  }
  await using to = await openRestoreTarget(destination, force);
  to.fit(volumeBytes);
  const counts = restore(from.file, appended, to.file, progressOf("restored", volumeBytes));
  await to.finish();
  return { volume, time: new Date(createdMs).toISOString(), ...counts };
}
