/** CRC-32C (Castagnoli, reflected, as in iSCSI, RFC 3720 B.4): small and free of allocation, for lines of 64 bytes. */

const POLYNOMIAL = 0x82f63b78;

/** What a byte does to the checksum, and what it does with one, two and three bytes of zeroes behind it. */
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) !== 0 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value;
});
const TABLE_1 = TABLE.map(shifted);
const TABLE_2 = TABLE_1.map(shifted);
const TABLE_3 = TABLE_2.map(shifted);

function shifted(value: number): number {
  return (TABLE[value & 0xff] as number) ^ (value >>> 8);
}

/** Of `bytes` from `start` to before `end`. `seed` is the checksum of what comes before them; 0 for nothing. Unsigned. */
export function crc32c(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  let value = ~seed;
  let at = start;
  // Four bytes at a time, as each step waits for the one before it.
  for (; at + 4 <= end; at += 4) {
    const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    const high = ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    value ^= low | high;
    value =
      (TABLE_3[value & 0xff] as number) ^
      (TABLE_2[(value >>> 8) & 0xff] as number) ^
      (TABLE_1[(value >>> 16) & 0xff] as number) ^
      (TABLE[value >>> 24] as number);
  }
  for (; at < end; at++) value = shifted(value ^ (bytes[at] as number));
  return ~value >>> 0;
}
