/** Files that say who is who: read only where nobody but their owner could have seen, or changed, what is in them. */
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { UblkError } from "../ublk/errors.ts";

/** Rights of group and others that a file must not give. */
const RIGHTS = { secret: 0o077, unchanged: 0o022 } as const;

/**
 * The text of a file that is a secret, or that only its owner changes. Throws EMODE where its rights allow more, and as the
 * system does, ENOENT among others.
 */
export function readPrivate(path: string, what: keyof typeof RIGHTS): string {
  const file = openSync(path, "r");
  try {
    const mode = fstatSync(file).mode & 0o777;
    if ((mode & RIGHTS[what]) !== 0) {
      const may = what === "secret" ? "read" : "changed";
      throw new UblkError(
        "EMODE",
        `${path} may be ${may} by others (mode ${mode.toString(8).padStart(4, "0")}): wanted 0600, by chmod 600 ${path}`,
      );
    }
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}
