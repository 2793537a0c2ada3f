/**
 * Errors of ublk-ts and the way between errors and errno.
 *
 * A request is answered with a negative errno and nothing else; a person is told in words. `errnoOf` turns whatever was
 * thrown into a positive errno and never into zero, since zero would mean success.
 */
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";

/** A name of an errno, such as "EIO". */
export type ErrnoName = keyof typeof constants.errno;

/** The positive numbers of the errnos by name, as this kernel has them. */
export const ERRNO: Readonly<Record<ErrnoName, number>> = constants.errno;

/** errnos that the block layer and ublk use and Node does not list (asm-generic/errno.h). */
const MORE_NAMES: Readonly<Record<number, readonly [string, string]>> = {
  52: ["EBADE", "invalid exchange"],
  61: ["ENODATA", "no data available"],
  67: ["ENOLINK", "link has been severed"],
  109: ["ETOOMANYREFS", "too many references"],
  121: ["EREMOTEIO", "remote I/O error"],
  129: ["EKEYREJECTED", "key was rejected by service"],
};

function describe(errno: number): readonly [string, string] {
  const found = getSystemErrorMap().get(-errno);
  return found ?? MORE_NAMES[errno] ?? [`errno ${errno}`, "unknown error"];
}

/** "EBUSY" for 16. */
export function errnoName(errno: number): string {
  return describe(errno)[0];
}

/** "EBUSY (resource busy or locked)" for 16. */
export function errnoText(errno: number): string {
  const [name, text] = describe(errno);
  return `${name} (${text})`;
}

/** The positive errno for a name, or undefined for a name that this kernel does not have. */
export function errnoByName(name: string): number | undefined {
  if (Object.hasOwn(ERRNO, name)) return ERRNO[name as ErrnoName];
  const found = Object.entries(MORE_NAMES).find(([, [known]]) => known === name);
  return found === undefined ? undefined : Number(found[0]);
}

/** An error with a stable `code`, and with `errno` (positive) where the kernel gave one. */
export class UblkError extends Error {
  override readonly name = "UblkError";
  readonly code: string;
  readonly errno: number | undefined;

  constructor(code: string, message: string, options: { errno?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.errno = options.errno;
  }
}

/** The `code` of anything that was thrown, where it has one. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The positive errno that answers a request for which `error` was thrown; EIO where the error carries none. */
export function errnoOf(error: unknown): number {
  if (typeof error === "object" && error !== null && "errno" in error) {
    const errno = Math.abs(Number(error.errno));
    if (Number.isInteger(errno) && errno > 0 && errno < 4096) return errno;
  }
  const code = codeOf(error);
  const named = code === undefined ? undefined : errnoByName(code);
  return named ?? ERRNO.EIO;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
