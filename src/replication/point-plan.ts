/**
 * The runs that a consistency point consists of, from what was written since the one before.
 *
 * Invariant: each block that was written is in exactly one run. References come first, by transfer and by place in it, so that
 * the receiver reads its log once, in order; then zeroes and data, by block.
 */
import { TRANSFER_SECTORS_MAX, TRANSFERS_MAX, type DirtyBlocks } from "../targets/mirror/dirty-blocks.ts";
import { UblkError } from "../ublk/errors.ts";
import { RUN_BLOCKS_MAX, RUN_KIND, type PointRun, type RunKind } from "./point-items.ts";

/** Behind a key comes the entry it belongs to, in so many numbers: sorted as numbers, without comparing entries. */
const ENTRIES = 2 ** 20;
const PLACES = 2 ** 13;

/** `firstTransfer`: none that is referred to has a smaller number. `dataBlocksMax`: in one run of data. Throws ESPAN where transfers are too far apart. */
export function* planPoint(
  dirty: DirtyBlocks,
  firstTransfer: number,
  dataBlocksMax: number,
): Generator<PointRun, void, undefined> {
  yield* runsOf(dirty, RUN_KIND.REFERENCE, RUN_BLOCKS_MAX, (entry) => {
    const age = dirty.transferOf(entry) - firstTransfer;
    if (age < 0 || age >= TRANSFERS_MAX) {
      throw new UblkError("ESPAN", `Transfer ${dirty.transferOf(entry)} is out of reach of ${firstTransfer}`);
    }
    return age * PLACES + dirty.placeOf(entry);
  });
  yield* runsOf(dirty, RUN_KIND.ZEROES, RUN_BLOCKS_MAX, (entry) => dirty.blockOf(entry));
  yield* runsOf(dirty, RUN_KIND.DATA, dataBlocksMax, (entry) => dirty.blockOf(entry));
}

function* runsOf(
  dirty: DirtyBlocks,
  kind: RunKind,
  blocksMax: number,
  keyOf: (entry: number) => number,
): Generator<PointRun, void, undefined> {
  let run: PointRun | undefined;
  for (const entry of sorted(dirty, kind, keyOf)) {
    const next = runAt(dirty, kind, entry);
    if (run !== undefined && run.blocks < blocksMax && follows(run, next, dirty.blockSectors)) {
      run = { ...run, blocks: run.blocks + 1 };
      continue;
    }
    if (run !== undefined) yield run;
    run = next;
  }
  if (run !== undefined) yield run;
}

/** The entries of a kind, by their keys. */
function sorted(dirty: DirtyBlocks, kind: RunKind, keyOf: (entry: number) => number): Float64Array {
  const keys = new Float64Array(dirty.count);
  let count = 0;
  for (let entry = 0; entry < dirty.count; entry++) {
    if (kindOf(dirty, entry) === kind) keys[count++] = keyOf(entry) * ENTRIES + entry;
  }
  return keys
    .subarray(0, count)
    .sort()
    .map((key) => key % ENTRIES);
}

function kindOf(dirty: DirtyBlocks, entry: number): RunKind {
  if (dirty.isPartial(entry)) return RUN_KIND.DATA;
  return dirty.isZero(entry) ? RUN_KIND.ZEROES : RUN_KIND.REFERENCE;
}

function runAt(dirty: DirtyBlocks, kind: RunKind, entry: number): PointRun {
  const isReference = kind === RUN_KIND.REFERENCE;
  return {
    kind,
    block: dirty.blockOf(entry),
    blocks: 1,
    transfer: isReference ? dirty.transferOf(entry) : 0,
    place: isReference ? dirty.placeOf(entry) : 0,
  };
}

function follows(run: PointRun, next: PointRun, blockSectors: number): boolean {
  if (next.block !== run.block + run.blocks || next.transfer !== run.transfer) return false;
  if (run.kind !== RUN_KIND.REFERENCE) return true;
  const place = run.place + run.blocks * blockSectors;
  return next.place === place && place + blockSectors <= TRANSFER_SECTORS_MAX;
}
