/**
 * Where the copies of several volumes go: folders, with a file for each volume.
 *
 * Invariant: a folder that was made for copies that did not begin goes again.
 */
import { mkdir, rmdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { statIfThere } from "../copy/open-copy.ts";
import { UblkError } from "../ublk/errors.ts";

export class CopyFolders {
  readonly #folders: readonly string[];
  readonly #suffix: string;
  readonly #made: readonly string[];

  private constructor(folders: readonly string[], suffix: string, made: readonly string[]) {
    this.#folders = folders;
    this.#suffix = suffix;
    this.#made = made;
  }

  /** Makes those that are not there, and have a slash at their end. Throws EUSAGE for what is no folder, ENOENT, EACCES. */
  static async open(paths: readonly string[], isStream: boolean): Promise<CopyFolders> {
    const missing: string[] = [];
    for (const path of paths) {
      const found = await statIfThere(path);
      if (found === undefined && path.endsWith("/")) missing.push(path);
      else if (found?.isDirectory() !== true) {
        throw new UblkError(
          "EUSAGE",
          `${path} is no folder: the copies of several volumes go into a folder, a file each; end its name with "/" to have it made`,
        );
      }
    }
    for (const path of missing) await mkdir(path, { mode: 0o700 });
    return new CopyFolders(
      paths.map((path) => resolve(path)),
      isStream ? ".sluice" : ".img",
      missing,
    );
  }

  /** The files of a volume: one in each folder. */
  filesOf(volume: string): string[] {
    return this.#folders.map((folder) => join(folder, volume + this.#suffix));
  }

  /** Nothing has begun. */
  async takeBack(): Promise<void> {
    // What others have put there meanwhile keeps its folder.
    for (const path of this.#made) await rmdir(path).catch(() => undefined);
  }
}
