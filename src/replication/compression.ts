/**
 * Payloads of frames, made smaller by zstd.
 *
 * Invariant: a payload is never made larger, and never takes more memory than it was told to be, whatever its bytes say.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { PAYLOAD_MAX } from "./frame.ts";

/** How payloads travel: as they are, or made smaller where that pays. */
export const COMPRESSIONS = ["none", "zstd"] as const;
export type Compression = (typeof COMPRESSIONS)[number];

/** Smaller ones are sent as they are. */
const BYTES_MIN = 512;
/** It has to become smaller by this part at least: else the other side would unpack for nothing. */
const GAIN_MIN = 1 / 16;
/** The fastest of the usual levels: what is waited for is a link, and not a disk. */
const PACKING = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** A frame of zstd may ask for memory far beyond what comes of it: as much as the largest payload is enough. */
const UNPACKING = { params: { [constants.ZSTD_d_windowLogMax]: Math.log2(PAYLOAD_MAX) } };

/** What lies in pieces, in one and smaller; undefined where that does not pay. */
export function compressed(pieces: readonly Uint8Array[], bytes: number): Uint8Array | undefined {
  if (bytes < BYTES_MIN) return undefined;
  const packed = zstdCompressSync(Buffer.concat(pieces, bytes), PACKING);
  return packed.length <= bytes * (1 - GAIN_MIN) ? packed : undefined;
}

/** Of so many bytes, which were checked to be no more than may come. Throws EPROTOCOL where it is something else. */
export function decompressed(packed: Uint8Array, bytes: number): Uint8Array {
  let payload: Uint8Array;
  try {
    const { buffer, byteOffset, length } = zstdDecompressSync(packed, { ...UNPACKING, maxOutputLength: bytes });
    // A slice of it is to be a copy, as of any payload.
    payload = new Uint8Array(buffer, byteOffset, length);
  } catch (error) {
    throw new UblkError("EPROTOCOL", `it cannot be unpacked: ${messageOf(error)}`, { cause: error });
  }
  if (payload.length === bytes) return payload;
  throw new UblkError("EPROTOCOL", `it has ${payload.length} bytes when it is unpacked, and says ${bytes}`);
}
