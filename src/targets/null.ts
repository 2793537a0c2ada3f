/** Answers everything at once and keeps nothing: what is read is whatever the buffer holds. For measuring the path to it. */
import type { Request } from "../ublk/request.ts";
import type { Limits, Target } from "../ublk/target.ts";

const GIB = 2 ** 30;

export class NullTarget implements Target {
  submit(request: Request): void {
    request.succeed();
  }
}

export function nullLimits(sizeBytes: number, logicalBlockBytes: number, readOnly: boolean): Limits {
  return {
    sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes: 4096,
    readOnly,
    rotational: false,
    volatileCache: false,
    fua: false,
    discard: readOnly ? null : { granularityBytes: 4096, maxBytes: GIB },
    writeZeroesMaxBytes: readOnly ? null : GIB,
  };
}
