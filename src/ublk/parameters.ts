/**
 * Limits of a device as the kernel's struct ublk_params, both ways, checked before the kernel has to say EINVAL.
 */
import { ATTRIBUTE, PARAM_TYPE, SECTOR_BYTES, UBLK_PARAMS } from "./abi.ts";
import { UblkError } from "./errors.ts";
import type { Limits } from "./target.ts";

const SECTORS_MAX = 0xffffffff;
const LOGICAL_BLOCK_MAX = 4096;

export interface DeviceParameters {
  readonly limits: Limits;
  readonly maxIoBytes: number;
}

function refuse(what: string, found: unknown, wanted: string): never {
  throw new UblkError("ELIMITS", `Cannot present this device: ${what} is ${String(found)}, wanted ${wanted}`);
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

/** Throws ELIMITS for limits that no kernel accepts. */
export function checkLimits({ limits, maxIoBytes }: DeviceParameters): void {
  const { sizeBytes, logicalBlockBytes, physicalBlockBytes, discard } = limits;
  if (!isPowerOfTwo(logicalBlockBytes) || logicalBlockBytes < SECTOR_BYTES || logicalBlockBytes > LOGICAL_BLOCK_MAX) {
    refuse("the logical block", logicalBlockBytes, `a power of two from ${SECTOR_BYTES} to ${LOGICAL_BLOCK_MAX}`);
  }
  if (!isPowerOfTwo(physicalBlockBytes) || physicalBlockBytes < logicalBlockBytes) {
    refuse("the physical block", physicalBlockBytes, `a power of two of at least ${logicalBlockBytes}`);
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % logicalBlockBytes !== 0) {
    refuse("the size", sizeBytes, `a multiple of ${logicalBlockBytes} bytes, above 0`);
  }
  if (discard !== null && (!isPowerOfTwo(discard.granularityBytes) || discard.granularityBytes < logicalBlockBytes)) {
    refuse("the discard granularity", discard.granularityBytes, `a power of two of at least ${logicalBlockBytes}`);
  }
  if (!isPowerOfTwo(maxIoBytes) || maxIoBytes < LOGICAL_BLOCK_MAX || maxIoBytes > 32 * 2 ** 20) {
    refuse("the largest request", maxIoBytes, "a power of two from 4096 bytes to 32 MiB");
  }
}

function sectors(bytes: number): number {
  return Math.min(Math.floor(bytes / SECTOR_BYTES), SECTORS_MAX);
}

/** struct ublk_params for these limits. Throws ELIMITS. */
export function encodeParameters(parameters: DeviceParameters): Uint8Array {
  checkLimits(parameters);
  const { limits, maxIoBytes } = parameters;
  const view = new DataView(new ArrayBuffer(UBLK_PARAMS.size));
  const hasDiscardPart = limits.discard !== null || limits.writeZeroesMaxBytes !== null;
  view.setUint32(UBLK_PARAMS.len, UBLK_PARAMS.size, true);
  view.setUint32(UBLK_PARAMS.types, PARAM_TYPE.BASIC | (hasDiscardPart ? PARAM_TYPE.DISCARD : 0), true);
  view.setUint32(
    UBLK_PARAMS.attrs,
    (limits.readOnly ? ATTRIBUTE.READ_ONLY : 0) |
      (limits.rotational ? ATTRIBUTE.ROTATIONAL : 0) |
      (limits.volatileCache ? ATTRIBUTE.VOLATILE_CACHE : 0) |
      (limits.volatileCache && limits.fua ? ATTRIBUTE.FUA : 0),
    true,
  );
  view.setUint8(UBLK_PARAMS.logicalShift, Math.log2(limits.logicalBlockBytes));
  view.setUint8(UBLK_PARAMS.physicalShift, Math.log2(limits.physicalBlockBytes));
  view.setUint8(UBLK_PARAMS.ioMinShift, Math.log2(limits.physicalBlockBytes));
  view.setUint8(UBLK_PARAMS.ioOptShift, Math.log2(maxIoBytes));
  view.setUint32(UBLK_PARAMS.maxSectors, maxIoBytes / SECTOR_BYTES, true);
  view.setBigUint64(UBLK_PARAMS.devSectors, BigInt(limits.sizeBytes / SECTOR_BYTES), true);
  if (hasDiscardPart) {
    const granularity = limits.discard?.granularityBytes ?? limits.logicalBlockBytes;
    view.setUint32(UBLK_PARAMS.discardGranularity, granularity, true);
    view.setUint32(UBLK_PARAMS.maxDiscardSectors, sectors(limits.discard?.maxBytes ?? 0), true);
    view.setUint32(UBLK_PARAMS.maxWriteZeroesSectors, sectors(limits.writeZeroesMaxBytes ?? 0), true);
    view.setUint16(UBLK_PARAMS.maxDiscardSegments, limits.discard === null ? 0 : 1, true);
  }
  return new Uint8Array(view.buffer);
}

/** What the kernel says of a device that exists. */
export function decodeParameters(bytes: Uint8Array): DeviceParameters {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (offset: number): number => view.getUint32(offset, true);
  const attributes = word(UBLK_PARAMS.attrs);
  const hasDiscardPart = (word(UBLK_PARAMS.types) & PARAM_TYPE.DISCARD) !== 0;
  const discardSectors = hasDiscardPart ? word(UBLK_PARAMS.maxDiscardSectors) : 0;
  const zeroesSectors = hasDiscardPart ? word(UBLK_PARAMS.maxWriteZeroesSectors) : 0;
  return {
    maxIoBytes: word(UBLK_PARAMS.maxSectors) * SECTOR_BYTES,
    limits: {
      sizeBytes: Number(view.getBigUint64(UBLK_PARAMS.devSectors, true)) * SECTOR_BYTES,
      logicalBlockBytes: 2 ** view.getUint8(UBLK_PARAMS.logicalShift),
      physicalBlockBytes: 2 ** view.getUint8(UBLK_PARAMS.physicalShift),
      readOnly: (attributes & ATTRIBUTE.READ_ONLY) !== 0,
      rotational: (attributes & ATTRIBUTE.ROTATIONAL) !== 0,
      volatileCache: (attributes & ATTRIBUTE.VOLATILE_CACHE) !== 0,
      fua: (attributes & ATTRIBUTE.FUA) !== 0,
      discard:
        discardSectors === 0
          ? null
          : { granularityBytes: word(UBLK_PARAMS.discardGranularity), maxBytes: discardSectors * SECTOR_BYTES },
      writeZeroesMaxBytes: zeroesSectors === 0 ? null : zeroesSectors * SECTOR_BYTES,
    },
  };
}
