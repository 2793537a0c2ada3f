/** CRC-32C (Castagnoli, reflected, as in iSCSI, RFC 3720 B.4): small and free of allocation, for lines of 64 bytes. */

const POLYNOMIAL = 0x82f63b78;

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) !== 0 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value;
});

/** Of `bytes` from `start` to before `end`. `seed` is the checksum of what comes before them; 0 for nothing. Unsigned. */
export function crc32c(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  let value = ~seed;
  for (let at = start; at < end; at++)
    value = (TABLE[(value ^ (bytes[at] as number)) & 0xff] as number) ^ (value >>> 8);
  return ~value >>> 0;
}
