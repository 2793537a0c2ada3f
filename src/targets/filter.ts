/** What the instruments have in common: which requests they mean. */
import { OPERATION_NAMES, type OperationName, type Request } from "../ublk/request.ts";

/** Numbers of the named operations; all of them for null. */
export function operationSet(names: readonly OperationName[] | null): ReadonlySet<number> {
  const wanted = names ?? OPERATION_NAMES;
  return new Set(wanted.filter((name) => name !== undefined).map((name) => OPERATION_NAMES.indexOf(name)));
}

/** Whether a request touches a range; a flush touches every range. */
export function touches(request: Request, range: { offsetBytes: number; lengthBytes: number } | null): boolean {
  if (range === null || request.length === 0) return true;
  return request.offset < range.offsetBytes + range.lengthBytes && request.offset + request.length > range.offsetBytes;
}
