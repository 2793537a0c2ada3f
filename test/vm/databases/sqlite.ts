/** SQLite in WAL mode, which checkpoints often. */
import { spawn } from "node:child_process";
import { owned } from "../children.ts";
import { sh } from "../support.ts";
import { REPORT, SCHEMA, type Database } from "./database.ts";

const pathIn = (directory: string): string => `${directory}/lite.db`;
/** Whatever it prints is there at once. */
const SHELL = [
  "-oL",
  "sqlite3",
  "-bail",
  "-cmd",
  "pragma synchronous = full",
  "-cmd",
  "pragma wal_autocheckpoint = 100",
];

export const sqlite: Database = {
  name: "SQLite",
  async create(directory) {
    await sh(`sqlite3 -bail ${pathIn(directory)} "pragma journal_mode = wal; ${SCHEMA}"`);
  },
  shell: (directory) => owned(spawn("stdbuf", [...SHELL, pathIn(directory)], { stdio: "pipe" })),
  say: (words) => `.print ${words}`,
  async verify(directory) {
    const said = await sh(`sqlite3 -bail ${pathIn(directory)} "pragma integrity_check; ${REPORT}"`);
    const [, last] = /^ok\n(\d+) \1 \1 \1\n$/.exec(said) ?? [];
    if (last === undefined) throw new Error(`the copy of SQLite's database is not sound: ${said}`);
    return Number(last);
  },
  stop: () => Promise.resolve(),
};
