/** Numbers of 64 bits on the wire that are plain Numbers here: 0 to 2^53 - 1, without BigInt. */
import { UblkError } from "../ublk/errors.ts";

const LOW = 2 ** 32;
const HIGH_MAX = 2 ** 21 - 1;

/** Throws ERANGE for what is no whole number from 0 to 2^53 - 1. */
export function setSafeNumber(view: DataView, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new UblkError("ERANGE", `wanted a whole number from 0 to 2^53 - 1, found ${value}`);
  }
  view.setUint32(at, value % LOW, true);
  view.setUint32(at + 4, Math.floor(value / LOW), true);
}

/** Throws EPROTOCOL for a larger one. */
export function getSafeNumber(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high > HIGH_MAX) {
    throw new UblkError("EPROTOCOL", `a number is 2^53 or more: 0x${view.getBigUint64(at, true).toString(16)}`);
  }
  return high * LOW + view.getUint32(at, true);
}
