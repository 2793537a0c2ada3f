/** Which parts of a volume a bulk copy is of, in bytes and in blocks. */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { BlockRun } from "../targets/cow/points.ts";
import { UblkError } from "../ublk/errors.ts";

/** In order, each apart from the next. Throws ERANGE for one that does not lie in the volume. */
export function mergeRanges(ranges: readonly ByteRange[], volumeBytes: number): ByteRange[] {
  const merged: { offset: number; length: number }[] = [];
  for (const { offset, length } of ranges.toSorted((one, other) => one.offset - other.offset)) {
    if (length === 0 || offset + length > volumeBytes) {
      throw new UblkError(
        "ERANGE",
        `${offset}+${length} is no range of a volume of ${volumeBytes} bytes: wanted one that lies in it`,
      );
    }
    const last = merged.at(-1);
    if (last === undefined || offset > last.offset + last.length) merged.push({ offset, length });
    else last.length = Math.max(last.length, offset + length - last.offset);
  }
  return merged;
}

/** The blocks that merged ranges touch. */
function runsOf(ranges: readonly ByteRange[], blockBytes: number): BlockRun[] {
  return ranges.map(({ offset, length }) => ({
    first: Math.floor(offset / blockBytes),
    end: Math.ceil((offset + length) / blockBytes),
  }));
}

/** The blocks that merged ranges do not touch. */
export function blocksOutside(ranges: readonly ByteRange[], blockBytes: number, volumeBytes: number): BlockRun[] {
  const outside: BlockRun[] = [];
  let next = 0;
  for (const { first, end } of [
    ...runsOf(ranges, blockBytes),
    { first: Math.ceil(volumeBytes / blockBytes), end: 0 },
  ]) {
    if (first > next) outside.push({ first: next, end: first });
    next = Math.max(next, end);
  }
  return outside;
}

/** Of ascending blocks those that merged ranges touch. */
export function blocksWithin(blocks: Float64Array, ranges: readonly ByteRange[], blockBytes: number): Float64Array {
  const runs = runsOf(ranges, blockBytes);
  let run = 0;
  return blocks.filter((block) => {
    while (run < runs.length && (runs[run] as BlockRun).end <= block) run++;
    return run < runs.length && (runs[run] as BlockRun).first <= block;
  });
}
