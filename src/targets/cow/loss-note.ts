/** The note that a store's points are worth nothing, in a file beside it all: for a store that cannot be written itself. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { LossNote } from "./cow-target.ts";

export class FileLossNote implements LossNote {
  readonly #path: string;
  /** Of the store: a store that is made later in its place is not meant. */
  readonly #salt: number;
  isThere: boolean;

  constructor(path: string, salt: number) {
    this.#path = path;
    this.#salt = salt;
    this.isThere = existsSync(path) && readFileSync(path, "utf8").trim() === String(salt);
  }

  write(): void {
    const directory = dirname(this.#path);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openSync(this.#path, "w", 0o600);
    writeSync(fd, `${this.#salt}\n`);
    fsyncSync(fd);
    closeSync(fd);
    const directoryFd = openSync(directory, "r");
    fsyncSync(directoryFd);
    closeSync(directoryFd);
    this.isThere = true;
  }

  clear(): void {
    rmSync(this.#path, { force: true });
    this.isThere = false;
  }
}
