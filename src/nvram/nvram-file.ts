/**
 * The NVRAM file of a volume, as a whole: made, opened and checked, grown. What happens here happens before requests are
 * served, in plain steps, each durable before the next.
 *
 * Invariants. A region is whole and durable before a header names it. A file that belongs to another volume, or is damaged
 * where nothing can be told any more, is refused and left as it is.
 */
import { UblkError } from "../ublk/errors.ts";
import type { ByteStorage } from "./byte-storage.ts";
import {
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  REGION,
  REGIONS_OFFSET,
  SLOT_OFFSETS,
  type Header,
  type Region,
} from "./header.ts";
import { linesBytes, RecordLines } from "./record-lines.ts";

const ALIGNMENT_BYTES = 4096;
export const CHUNK_BYTES_MIN = 4096;
export const CHUNK_BYTES_MAX = 4 * 2 ** 20;
/** The record keeps some bytes in memory for each chunk. */
export const CHUNKS_MAX = 2 ** 24;
const CHUNKS_BY_DEFAULT_MAX = 2 ** 22;
const CHUNK_BYTES_DEFAULT_MIN = 65_536;

/** Whose file it is to be. */
export interface NvramOwner {
  readonly volume: string;
  readonly mark: bigint;
  readonly volumeBytes: number;
}

/** What the record of an open file is. */
export interface RecordPlace {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly chunkBytes: number;
  readonly chunks: number;
  readonly salt: number;
}

/** The chunk that a volume gets unless it is told otherwise: 64 KiB, or what keeps the number of chunks bounded. */
export function defaultChunkBytes(volumeBytes: number): number {
  let bytes = CHUNK_BYTES_DEFAULT_MIN;
  while (bytes < CHUNK_BYTES_MAX && volumeBytes / bytes > CHUNKS_BY_DEFAULT_MAX) bytes *= 2;
  return bytes;
}

function chunksOf(volumeBytes: number, chunkBytes: number): number {
  if (!Number.isInteger(Math.log2(chunkBytes))) {
    throw new UblkError("ECHUNK", `It has chunks of ${chunkBytes} bytes, wanted a power of two`);
  }
  const chunks = Math.ceil(volumeBytes / chunkBytes);
  if (chunks > CHUNKS_MAX) {
    throw new UblkError(
      "ECHUNK",
      `A volume of ${volumeBytes} bytes has ${chunks} chunks of ${chunkBytes}, more than ${CHUNKS_MAX}: set a larger chunk`,
    );
  }
  return chunks;
}

/** Bytes of a new file for a volume. */
export function nvramBytes(volumeBytes: number, chunkBytes: number): number {
  return REGIONS_OFFSET + roundUp(linesBytes(chunksOf(volumeBytes, chunkBytes)));
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** The newest whole header. Throws ENVRAM, EVERSION. */
export function readHeader(storage: ByteStorage): Header {
  let newest: Header | undefined;
  for (const offset of SLOT_OFFSETS) {
    if (storage.sizeBytes < offset + HEADER_BYTES) continue;
    const header = decodeHeader(storage.read(offset, HEADER_BYTES));
    if (header !== undefined && (newest === undefined || header.sequence > newest.sequence)) newest = header;
  }
  if (newest === undefined) {
    throw new UblkError("ENVRAM", "it has no whole header: it is no NVRAM file, or it is damaged beyond use");
  }
  return newest;
}

function writeHeader(storage: ByteStorage, header: Header): void {
  storage.write(SLOT_OFFSETS[header.sequence % 2] as number, encodeHeader(header));
  storage.sync();
}

export interface NewNvram {
  readonly chunkBytes: number;
  /** Any number: lines of another file do not pass for lines of this one. */
  readonly salt: number;
  /** Volume and remote are known to be equal. Otherwise every chunk may differ, and is in the record. */
  readonly inSync: boolean;
}

/** Nothing is recorded any more: volume and remote are known to be equal. It is durable when this returns. */
export function emptyRecord(storage: ByteStorage, { chunks, salt, offset, lengthBytes }: RecordPlace): void {
  const lines = new RecordLines(new Uint8Array(linesBytes(chunks)), chunks, salt);
  for (let line = 0; line < lines.lines; line++) lines.seal(line);
  writeLines(storage, { kind: REGION.RECORD, offset, lengthBytes }, lines);
}

/** Makes the file for a volume. */
export function createNvram(storage: ByteStorage, owner: NvramOwner, { chunkBytes, salt, inSync }: NewNvram): void {
  const chunks = chunksOf(owner.volumeBytes, chunkBytes);
  const region = { kind: REGION.RECORD, offset: REGIONS_OFFSET, lengthBytes: roundUp(linesBytes(chunks)) };
  const lines = new RecordLines(new Uint8Array(linesBytes(chunks)), chunks, salt);
  for (let line = 0; line < lines.lines; line++) {
    if (inSync) lines.seal(line);
    else lines.fill(line);
  }
  writeLines(storage, region, lines);
  writeHeader(storage, { ...owner, salt, chunkBytes, sequence: 1, regions: [region] });
}

function writeLines(storage: ByteStorage, region: Region, lines: RecordLines): void {
  const bytes = new Uint8Array(region.lengthBytes);
  bytes.set(lines.bytes);
  storage.write(region.offset, bytes);
  storage.sync();
}

/** The newest whole header, if the file is that of the volume. Throws ENVRAM, EVERSION, EOWNER, ESIZE. */
export function readOwnHeader(storage: ByteStorage, owner: NvramOwner): Header {
  const header = readHeader(storage);
  if (header.mark !== owner.mark) {
    throw new UblkError("EOWNER", `it belongs to volume ${header.volume}, wanted ${owner.volume}`);
  }
  if (header.volumeBytes > owner.volumeBytes) {
    throw new UblkError(
      "ESIZE",
      `it was made for a volume of ${header.volumeBytes} bytes, but the volume has ${owner.volumeBytes}`,
    );
  }
  return header;
}

/**
 * Checks the file, grows its record where the volume has grown, and says where the record is. All of it is durable then: a
 * process that was killed may have left in a cache what would now pass for durable. Throws as readOwnHeader.
 */
export function openNvram(storage: ByteStorage, owner: NvramOwner): RecordPlace {
  storage.sync();
  const header = readOwnHeader(storage, owner);
  const current = header.volumeBytes < owner.volumeBytes ? grow(storage, header, owner) : header;
  return placeOf(storage, current);
}

/** Where the record of a file is, by its header. Throws ENVRAM. */
export function placeOf(storage: ByteStorage, header: Header): RecordPlace {
  const region = header.regions.find(({ kind }) => kind === REGION.RECORD);
  const chunks = chunksOf(header.volumeBytes, header.chunkBytes);
  if (
    region === undefined ||
    region.lengthBytes < linesBytes(chunks) ||
    region.offset + region.lengthBytes > storage.sizeBytes
  ) {
    throw new UblkError("ENVRAM", `its record does not lie within its ${storage.sizeBytes} bytes: it was cut`);
  }
  const { chunkBytes, salt } = header;
  return { offset: region.offset, lengthBytes: linesBytes(chunks), chunkBytes, chunks, salt };
}

/** A larger record behind all regions; what the volume has gained may differ everywhere. */
function grow(storage: ByteStorage, header: Header, owner: NvramOwner): Header {
  const from = placeOf(storage, header);
  const chunks = chunksOf(owner.volumeBytes, header.chunkBytes);
  const lines = new RecordLines(new Uint8Array(linesBytes(chunks)), chunks, header.salt);
  for (let chunk = from.chunks; chunk < chunks; chunk++) lines.set(chunk, true);
  const old = new RecordLines(storage.read(from.offset, from.lengthBytes), from.chunks, header.salt);
  old.read((chunk) => lines.set(chunk, true));
  for (let line = 0; line < lines.lines; line++) lines.seal(line);
  const end = Math.max(...header.regions.map(({ offset, lengthBytes }) => offset + lengthBytes));
  const region = { kind: REGION.RECORD, offset: roundUp(end), lengthBytes: roundUp(linesBytes(chunks)) };
  writeLines(storage, region, lines);
  const regions = [...header.regions.filter(({ kind }) => kind !== REGION.RECORD), region];
  const grown = { ...header, ...owner, sequence: header.sequence + 1, regions };
  writeHeader(storage, grown);
  return grown;
}
