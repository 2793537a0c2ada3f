/**
 * A file of one line and a JSON value behind it. It is taken for what it says only where all of it is there, unchanged.
 *
 *     MAGIC VERSION CRC32 LENGTH\n    CRC-32 of the rest (8 hexadecimal digits) and its length in bytes
 *     { ... }\n
 *
 * Invariant: it is replaced as a whole, and is there in its old or its new form whatever dies.
 */
import { mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { UblkError } from "../ublk/errors.ts";

const LINE = /^([a-z-]+) (\d+) ([0-9a-f]{8}) (\d+)\n/;

export interface SealedFormat {
  readonly magic: string;
  readonly version: number;
  /** What it is, and the code of an error about it. */
  readonly what: string;
  readonly code: string;
}

export function seal({ magic, version }: SealedFormat, value: unknown): string {
  const body = `${JSON.stringify(value)}\n`;
  const crc = crc32(body).toString(16).padStart(8, "0");
  return `${magic} ${version} ${crc} ${Buffer.byteLength(body)}\n${body}`;
}

/** Throws EVERSION, and the format's code where it is damaged, or something else. */
export function unseal(format: SealedFormat, text: string): unknown {
  const [line, magic, version, crc, length] = LINE.exec(text) ?? [];
  if (line === undefined || magic !== format.magic) throw new UblkError(format.code, `it is no ${format.what}`);
  if (Number(version) !== format.version) {
    throw new UblkError("EVERSION", `it has version ${version}, wanted ${format.version}: use a newer sluice`);
  }
  const body = text.slice(line.length);
  if (Buffer.byteLength(body) !== Number(length) || crc32(body) !== parseInt(crc as string, 16)) {
    throw new UblkError(format.code, "it is damaged: its checksum is wrong");
  }
  return JSON.parse(body) as unknown;
}

/** Durable when it resolves. Two must not write the same at once. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await using file = await open(`${path}.new`, "w", 0o600);
  await file.writeFile(text);
  await file.datasync();
  await rename(`${path}.new`, path);
  await syncFolder(path);
}

/** A file that is new in its folder, or has a new name, is so durably. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(dirname(path), "r");
  await folder.sync();
}
