/** Names that people give to points in time: snapshots, and copy jobs. */
import { UblkError } from "../ublk/errors.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$/;

/** `what` is said of what it would be the name of. Throws ENAME. */
export function checkPointName(name: string, what: string): void {
  if (NAME.test(name)) return;
  throw new UblkError(
    "ENAME",
    `"${name}" is no name for a ${what}: wanted up to 63 of A-Z, a-z, 0-9, ".", "_", ":" and "-", starting with a letter or digit`,
  );
}
