/**
 * What the record of a volume that is not served tells of: the places that may differ from what the other side of its mirror has.
 *
 * Invariant: all of them, in whole blocks of points; what is damaged in the record counts as recorded.
 */
import { open } from "node:fs/promises";
import { linesBytes, RecordLines } from "../nvram/record-lines.ts";
import { RUN_BLOCKS_MAX, RUN_KIND, type PointRun } from "../replication/point-items.ts";
import { examineNvramBacking } from "../targets/nvram-backing.ts";
import { UblkError } from "../ublk/errors.ts";
import { ownerOf } from "./identity.ts";

/** A record, known by the salt of its file. */
export interface RecordNote {
  readonly nvram: string;
  readonly salt: number;
}

/** Runs without data. Throws ENVRAM where it is another record by now, and what reading it throws. */
export async function recordedRuns(
  name: string,
  { nvram, salt }: RecordNote,
  volumeBytes: number,
  blockBytes: number,
): Promise<PointRun[]> {
  const place = await examineNvramBacking(nvram, { ...ownerOf(name), volumeBytes });
  if (place.salt !== salt) {
    throw new UblkError("ENVRAM", `NVRAM file ${nvram}: it is another one than the record of what differs was in`);
  }
  const bytes = new Uint8Array(linesBytes(place.chunks));
  await using handle = await open(nvram, "r");
  await handle.read(bytes, 0, bytes.length, place.offset);
  const blocks = Math.ceil(volumeBytes / blockBytes);
  const spans: { readonly first: number; end: number }[] = [];
  new RecordLines(bytes, place.chunks, salt).read((chunk) => {
    const first = Math.floor((chunk * place.chunkBytes) / blockBytes);
    const end = Math.min(blocks, Math.ceil(((chunk + 1) * place.chunkBytes) / blockBytes));
    const last = spans.at(-1);
    if (last !== undefined && first <= last.end) last.end = end;
    else spans.push({ first, end });
  });
  return spans.flatMap(({ first, end }) =>
    Array.from({ length: Math.ceil((end - first) / RUN_BLOCKS_MAX) }, (_, index) => {
      const block = first + index * RUN_BLOCKS_MAX;
      const count = Math.min(end - block, RUN_BLOCKS_MAX);
      return { kind: RUN_KIND.ZEROES, block, blocks: count, transfer: 0, place: 0 };
    }),
  );
}
