/** What a daemon finds of the copy jobs of the one before it: each record is put together with its point, or told apart from it. */
import { copiedBytesOf, type CopyRecord } from "../copy/copy-record.ts";
import type { Destination } from "../copy/destination.ts";
import type { Point } from "../targets/cow/catalog.ts";
import { UblkError } from "../ublk/errors.ts";
import { openAgain } from "./copy-destinations.ts";

/** Nothing but that its point goes was still to be done. */
export function isCopied(record: CopyRecord): boolean {
  return copiedBytesOf(record) === record.volumeBytes;
}

/** The records with their points, and the points that belong to none. */
export function matchPoints(
  records: readonly CopyRecord[],
  points: readonly Point[],
): { matched: { record: CopyRecord; point: Point | undefined }[]; strays: Point[] } {
  const byName = new Map(points.map((point) => [point.name, point]));
  const matched = records.map((record) => ({ record, point: byName.get(record.name) }));
  for (const { name } of records) byName.delete(name);
  return { matched, strays: [...byName.values()] };
}

/** What a job needs to go on. Throws ECOPY where its point is worth nothing any more, and as openAgain. */
export async function takeUp(
  volume: string,
  record: CopyRecord,
  point: Point | undefined,
): Promise<{ epoch: number; destinations: Destination[] }> {
  if (point === undefined || point.epoch !== record.epoch) throw new UblkError("ECOPY", "its point is gone");
  if (point.state !== "valid") throw new UblkError("ECOPY", `what it needs was given up (${point.state})`);
  return { epoch: point.epoch, destinations: await openAgain(volume, record) };
}
