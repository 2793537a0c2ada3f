/**
 * What a consistency point consists of: for each block that was written since the point before, where its bytes are. Runs of
 * blocks of one kind travel as 16 bytes: that is all that a point costs where the remote has the data in its log already.
 * docs/protocol.md, "Consistency points: items".
 *
 * Invariant: what was decoded lies within the volume and within what a transfer can hold, and has as many data as it tells of.
 * Whether there is such a transfer is not known here.
 *
 *     0  4  number of runs         8  -  runs, 16 bytes each
 *     4  4  zero                   -  -  data of the runs that have some, one behind the other
 *
 *     run:  0  6  first block           8  4  number of the transfer         14  2  kind: 1 data, 2 zeroes, 3 reference
 *           6  2  blocks, 1 to 65,535  12  2  first sector in its data
 */
import { UblkError } from "../ublk/errors.ts";
import { TRANSFER_SECTORS_MAX } from "../targets/mirror/dirty-blocks.ts";
import { getUint48, SECTOR_BYTES, setUint48 } from "../targets/mirror/transfer.ts";

export const RUN_KIND = { DATA: 1, ZEROES: 2, REFERENCE: 3 } as const;
export type RunKind = (typeof RUN_KIND)[keyof typeof RUN_KIND];
export const RUN_BLOCKS_MAX = 0xffff;
/** In one frame. */
export const RUNS_MAX = 16_384;
export const ITEMS_DATA_BYTES_MAX = 2 ** 21;

const HEAD_BYTES = 8;
const RUN_BYTES = 16;

/** Blocks one behind the other. */
export interface PointRun {
  readonly kind: RunKind;
  readonly block: number;
  readonly blocks: number;
  /** Of a reference: the number of the transfer, and where in its data the first block lies, the others behind it; in sectors. */
  readonly transfer: number;
  readonly place: number;
}

/** What blocks of a volume are. */
export interface BlockGeometry {
  readonly volumeSectors: number;
  readonly blockSectors: number;
}

export interface PointItems {
  readonly runs: readonly PointRun[];
  /** Of the runs of that kind, one behind the other: a part of what was decoded. */
  readonly data: Uint8Array;
}

/** How long a run is; the last block of a volume may be a short one. */
export function runSectors({ block, blocks }: PointRun, { volumeSectors, blockSectors }: BlockGeometry): number {
  return Math.min((block + blocks) * blockSectors, volumeSectors) - block * blockSectors;
}

/** Bytes that lie before the data, for so many runs. */
function tableBytes(runs: number): number {
  return HEAD_BYTES + runs * RUN_BYTES;
}

/** What goes before the data, which follow it as they are. Throws ESIZE for more runs than a frame carries. */
export function encodeRuns(runs: readonly PointRun[]): Uint8Array {
  if (runs.length > RUNS_MAX) throw new UblkError("ESIZE", `${runs.length} runs are more than ${RUNS_MAX}`);
  const bytes = new Uint8Array(tableBytes(runs.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, runs.length, true);
  runs.forEach(({ kind, block, blocks, transfer, place }, index) => {
    const at = HEAD_BYTES + index * RUN_BYTES;
    setUint48(view, at, block);
    view.setUint16(at + 6, blocks, true);
    view.setUint32(at + 8, transfer, true);
    view.setUint16(at + 12, place, true);
    view.setUint16(at + 14, kind, true);
  });
  return bytes;
}

/** Throws EPROTOCOL where a payload does not fit together, or means what is not there. */
export function decodeItems(payload: Uint8Array, geometry: BlockGeometry): PointItems {
  if (payload.length < HEAD_BYTES) throw unfit(`${payload.length} bytes are too few`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const count = view.getUint32(0, true);
  if (count < 1 || count > RUNS_MAX) throw unfit(`${count} runs, wanted 1 to ${RUNS_MAX}`);
  const dataAt = tableBytes(count);
  if (payload.length < dataAt) throw unfit(`${payload.length} bytes are too few for ${count} runs`);
  const runs = Array.from({ length: count }, (_, index) => decodeRun(view, HEAD_BYTES + index * RUN_BYTES, geometry));
  const sectors = runs.reduce((sum, run) => sum + (run.kind === RUN_KIND.DATA ? runSectors(run, geometry) : 0), 0);
  const data = payload.subarray(dataAt);
  if (data.length !== sectors * SECTOR_BYTES) {
    throw unfit(`${data.length} bytes of data where ${sectors * SECTOR_BYTES} were told of`);
  }
  return { runs, data };
}

function decodeRun(view: DataView, at: number, geometry: BlockGeometry): PointRun {
  const run = {
    block: getUint48(view, at),
    blocks: view.getUint16(at + 6, true),
    transfer: view.getUint32(at + 8, true),
    place: view.getUint16(at + 12, true),
    kind: view.getUint16(at + 14, true) as RunKind,
  };
  const { kind, block, blocks, place } = run;
  if (!Object.values(RUN_KIND).includes(kind)) throw unfit(`a run of kind ${kind}`);
  const all = Math.ceil(geometry.volumeSectors / geometry.blockSectors);
  if (blocks < 1 || block + blocks > all) throw unfit(`blocks ${block} to ${block + blocks - 1} of ${all}`);
  if (kind === RUN_KIND.REFERENCE && place + runSectors(run, geometry) > TRANSFER_SECTORS_MAX) {
    throw unfit(`a reference to sectors from ${place} on, beyond what a transfer holds`);
  }
  return run;
}

function unfit(what: string): UblkError {
  return new UblkError("EPROTOCOL", `The items of a consistency point do not fit together: ${what}`);
}
