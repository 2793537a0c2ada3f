/**
 * The file that says which parts of a volume its bulk copy is of, where it is not of all of it. It outlives the daemon and the
 * machine: docs/copy.md has its bytes.
 *
 * Invariant: it is durable before the point of the bulk copy is taken. It belongs to the point that was made at its time.
 */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import { readFile, rm } from "node:fs/promises";
import * as z from "zod";
import { replaceFile, seal, unseal, type SealedFormat } from "../copy/sealed-text.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

const FORMAT: SealedFormat = { magic: "sluice-bulk", version: 1, what: "note of a bulk copy", code: "EBULK" };

const schema = z.strictObject({
  createdMs: z.int(),
  ranges: z.array(z.strictObject({ offset: z.int().nonnegative(), length: z.int().positive() })).min(1),
});

export interface BulkNote {
  /** When the point was made. */
  readonly createdMs: number;
  /** In order, each apart from the next. */
  readonly ranges: readonly ByteRange[];
}

export function encodeNote(note: BulkNote): string {
  return seal(FORMAT, note);
}

/** Throws EVERSION, EBULK where it is damaged. */
export function decodeNote(text: string): BulkNote {
  const { data } = schema.safeParse(unseal(FORMAT, text));
  if (data === undefined) throw new UblkError("EBULK", "it is damaged: its content does not fit together");
  return data;
}

/** Durable when it resolves. */
export async function saveNote(path: string, note: BulkNote): Promise<void> {
  await replaceFile(path, encodeNote(note));
}

/** The note of the point that was made at a time. Throws EBULK where there is none. */
export async function loadNote(path: string, createdMs: number): Promise<BulkNote> {
  try {
    const note = decodeNote(await readFile(path, "utf8"));
    if (note.createdMs === createdMs) return note;
    throw new UblkError("EBULK", "it is that of another bulk copy");
  } catch (cause) {
    const why = codeOf(cause) === "ENOENT" ? "it is gone" : messageOf(cause);
    throw new UblkError(
      "EBULK",
      `The ranges of the bulk copy are not known any more (${path}: ${why}): cancel it (sluice bulk cancel), and begin anew`,
      { cause },
    );
  }
}

export async function removeNote(path: string): Promise<void> {
  await rm(path, { force: true });
}
