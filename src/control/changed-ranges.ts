/** Ranges from blocks that changed. */
import type { ByteRange } from "../targets/cow/byte-range.ts";

/**
 * Blocks that follow one another are one range. `blocks` ascend, and may be told twice. The volume had `fromBytes`, and then
 * `toBytes`: what it has gained has changed.
 */
export function rangesOf(blocks: Float64Array, blockBytes: number, fromBytes: number, toBytes: number): ByteRange[] {
  const ranges: { offset: number; length: number }[] = [];
  const add = (offset: number, end: number): void => {
    const last = ranges.at(-1);
    if (last !== undefined && offset <= last.offset + last.length) {
      last.length = Math.max(last.length, end - last.offset);
    } else if (offset < end) ranges.push({ offset, length: end - offset });
  };
  for (const block of blocks) add(block * blockBytes, Math.min((block + 1) * blockBytes, toBytes));
  add(fromBytes, toBytes);
  return ranges;
}
