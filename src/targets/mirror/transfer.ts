/**
 * A transfer: a batch of the host's writes, in the order in which they took place, as it travels and as it lies in the
 * receiver's log. docs/protocol.md, "Transfers".
 *
 * Invariant: the data of a transfer lie behind its entries, and in their order. So the sender knows where a block will be found
 * (`place`, in sectors of the data) before the transfer is complete, and a log that keeps the transfer as it came finds it there.
 *
 *     0  4  incarnation of the source        12  4  number of entries       32  -  entries, 12 bytes each
 *     4  4  number of the transfer           16  8  sequence of the first    -  -  data
 *     8  4  sectors of data                  24  4  number of the log
 *                                            28  4  1: its source waits until it is in the memory of the receiver
 *
 *     entry:  0  6  sector of the volume      6  2  kind (1 data, 2 zeroes)   8  4  sectors
 */
import { UblkError } from "../../ublk/errors.ts";
import { TRANSFER_SECTORS_MAX } from "./dirty-blocks.ts";

export const SECTOR_BYTES = 512;
export const ENTRY_KIND = { DATA: 1, ZEROES: 2 } as const;
export type EntryKind = (typeof ENTRY_KIND)[keyof typeof ENTRY_KIND];
const HEAD_BYTES = 32;
const ENTRY_BYTES = 12;
/** Of a transfer: so many writes of 4 KiB fill its data. */
export const TRANSFER_ENTRIES_MAX = 1024;
export const TRANSFER_BYTES_MAX = tableBytes(TRANSFER_ENTRIES_MAX) + TRANSFER_SECTORS_MAX * SECTOR_BYTES;

export interface TransferEntry {
  readonly kind: EntryKind;
  /** Where on the volume, and how much, in sectors. */
  readonly sector: number;
  readonly sectors: number;
}

/** What stands in front of a transfer's data. */
export interface TransferTable {
  /** Of the source; with the number it makes an ID that no other transfer has. */
  readonly incarnation: number;
  readonly number: number;
  /** Of the first write; each has one more than the one before. */
  readonly sequence: number;
  /** Which log of this incarnation it is of: between transfers of one log that follow each other nothing is left out. */
  readonly log: number;
  /** Its source waits until it is in the receiver's memory, and not only until it is durable there. */
  readonly isAwaited: boolean;
  readonly entries: readonly TransferEntry[];
}

export interface Transfer extends TransferTable {
  /** Of all entries that have some, one behind the other: a part of what was decoded. */
  readonly data: Uint8Array;
}

/** Bytes that lie before the data, for so many entries. */
export function tableBytes(entries: number): number {
  return HEAD_BYTES + entries * ENTRY_BYTES;
}

export function dataSectorsOf(entries: readonly TransferEntry[]): number {
  return entries.reduce((sum, { kind, sectors }) => sum + (kind === ENTRY_KIND.DATA ? sectors : 0), 0);
}

/** Of a payload that was decoded once: how many sectors of data it has. */
export function dataSectorsIn(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(8, true);
}

/** Of a payload that was decoded once: which log of its incarnation it is of. */
export function logOf(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(24, true);
}

/** What goes before the data, which follow it as they are. Throws ESIZE where there is more than a transfer carries. */
export function encodeTable(table: TransferTable): Uint8Array {
  const { entries } = table;
  const dataSectors = dataSectorsOf(entries);
  if (entries.length > TRANSFER_ENTRIES_MAX || dataSectors > TRANSFER_SECTORS_MAX) {
    throw new UblkError("ESIZE", `${entries.length} writes with ${dataSectors} sectors are too much for a transfer`);
  }
  const bytes = new Uint8Array(tableBytes(entries.length));
  const view = new DataView(bytes.buffer);
  entries.forEach(({ kind, sector, sectors }, index) => {
    encodeEntry(view, 0, index, kind, sector, sectors);
  });
  encodeHead(bytes, table, entries.length, dataSectors);
  return bytes;
}

/** Writes an entry of a table that begins at `table`, by its index. Allocates nothing. */
export function encodeEntry(
  view: DataView,
  table: number,
  index: number,
  kind: EntryKind,
  sector: number,
  sectors: number,
): void {
  const at = table + HEAD_BYTES + index * ENTRY_BYTES;
  setUint48(view, at, sector);
  view.setUint16(at + 6, kind, true);
  view.setUint32(at + 8, sectors, true);
}

/** Completes a table of so many entries, which are in it already. */
export function encodeHead(
  table: Uint8Array,
  { incarnation, number, sequence, log, isAwaited }: Omit<TransferTable, "entries">,
  entries: number,
  dataSectors: number,
): void {
  const view = new DataView(table.buffer, table.byteOffset, HEAD_BYTES);
  view.setUint32(0, incarnation, true);
  view.setUint32(4, number, true);
  view.setUint32(8, dataSectors, true);
  view.setUint32(12, entries, true);
  view.setBigUint64(16, BigInt(sequence), true);
  view.setUint32(24, log, true);
  view.setUint32(28, isAwaited ? 1 : 0, true);
}

/**
 * Of a payload, for a volume of so many sectors. Throws EPROTOCOL where it does not fit together, or changes what is not
 * there: whoever sent it is no sluice, or has another volume.
 */
export function decodeTransfer(payload: Uint8Array, volumeSectors: number): Transfer {
  if (payload.length < HEAD_BYTES) throw unfit(`${payload.length} bytes are too few`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const dataSectors = view.getUint32(8, true);
  const count = view.getUint32(12, true);
  if (count < 1 || count > TRANSFER_ENTRIES_MAX) throw unfit(`${count} writes, wanted 1 to ${TRANSFER_ENTRIES_MAX}`);
  if (dataSectors > TRANSFER_SECTORS_MAX)
    throw unfit(`${dataSectors} sectors of data, more than ${TRANSFER_SECTORS_MAX}`);
  const dataAt = tableBytes(count);
  const wanted = dataAt + dataSectors * SECTOR_BYTES;
  if (payload.length !== wanted) throw unfit(`${payload.length} bytes where ${wanted} were told of`);
  const entries = Array.from({ length: count }, (_, index) =>
    decodeEntry(view, HEAD_BYTES + index * ENTRY_BYTES, volumeSectors),
  );
  const found = dataSectorsOf(entries);
  if (found !== dataSectors) throw unfit(`its writes have ${found} sectors of data, and it ${dataSectors}`);
  const sequence = view.getBigUint64(16, true);
  if (sequence > BigInt(Number.MAX_SAFE_INTEGER)) throw unfit(`write number ${sequence}`);
  const flags = view.getUint32(28, true);
  if (flags > 1) throw unfit(`flags ${flags}`);
  return {
    incarnation: view.getUint32(0, true),
    number: view.getUint32(4, true),
    sequence: Number(sequence),
    log: logOf(payload),
    isAwaited: flags === 1,
    entries,
    data: payload.subarray(dataAt),
  };
}

function decodeEntry(view: DataView, at: number, volumeSectors: number): TransferEntry {
  const sector = getUint48(view, at);
  const kind = view.getUint16(at + 6, true);
  const sectors = view.getUint32(at + 8, true);
  if (kind !== ENTRY_KIND.DATA && kind !== ENTRY_KIND.ZEROES) throw unfit(`a write of kind ${kind}`);
  if (sectors < 1 || sector + sectors > volumeSectors) {
    throw unfit(`a write to sectors ${sector} to ${sector + sectors - 1} of a volume of ${volumeSectors}`);
  }
  return { kind, sector, sectors };
}

function unfit(what: string): UblkError {
  return new UblkError("EPROTOCOL", `A transfer does not fit together: ${what}`);
}

/** Numbers of 48 bits, little-endian, as sectors and blocks have on the wire. */
export function setUint48(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint16(at + 4, Math.floor(value / 2 ** 32), true);
}

export function getUint48(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}
