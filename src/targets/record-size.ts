/** Of how many bytes a record of a stream may be. Apart from the format, since who only asks for a stream need not load that. */

const RECORD_BYTES_MIN = 4096;
const RECORD_BYTES_MAX = 16 * 2 ** 20;

export function isRecordSize(bytes: number): boolean {
  return bytes >= RECORD_BYTES_MIN && bytes <= RECORD_BYTES_MAX && Number.isInteger(Math.log2(bytes));
}
