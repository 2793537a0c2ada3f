/**
 * What a receiver has to know of a volume beside its log, in a file: whether it is kept here for a source at all, which generation
 * its data are of, and whom it has heard of.
 *
 * Invariant: it is durable before a source is welcomed. So no connection that was heard of is taken for a new one, and with the
 * log, which has the source's generation with each point that was committed, the generation of the data is known whatever dies.
 *
 * A sealed text (sealed-text.ts), "sluice-receiver", of ReceiverNote.
 */
import { readFile } from "node:fs/promises";
import * as z from "zod";
import { replaceFile, seal, unseal, type SealedFormat } from "../copy/sealed-text.ts";
import {
  inStep,
  NO_GENERATION,
  NO_GENERATIONS,
  type Generation,
  type Generations,
} from "../replication/generations.ts";
import { generationsSchema } from "../replication/source-state.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

const FORMAT: SealedFormat = {
  magic: "sluice-receiver",
  version: 1,
  what: "state of a mirrored volume",
  code: "ESTATE",
};

const number = z.int().min(0).max(0xffff_ffff);

const schema = z.strictObject({
  /** "target": kept for a source elsewhere. "source": written here. "promoting": on its way from the one to the other. */
  role: z.enum(["target", "promoting", "source"]),
  /** What the data were of when the last source was welcomed. */
  generations: generationsSchema,
  /** What that source has made of the answer; null before the first one. */
  incoming: generationsSchema.nullable(),
  /** Of the newest connection that was welcomed; 0 for none. */
  incarnation: number,
  connection: number,
  /** What the image was when its log was made, of the current generation: a closed point of this number and moment. */
  base: z.strictObject({ point: z.int().min(1), createdMs: z.int().min(0) }).nullable(),
  /** The record of what was written here, which the source may lack; null where there is nothing of that kind. */
  record: z.strictObject({ nvram: z.string().min(1), salt: z.int().min(0).max(0xffff_ffff) }).nullable(),
  /** A person has said that what only this side has may be overwritten. */
  isGivenUp: z.boolean(),
});

export type ReceiverNote = Readonly<z.output<typeof schema>>;

/** Of a volume that was never mirrored to here. */
export const NO_NOTE: ReceiverNote = {
  role: "target",
  generations: NO_GENERATIONS as z.output<typeof generationsSchema>,
  incoming: null,
  incarnation: 0,
  connection: 0,
  base: null,
  record: null,
  isGivenUp: false,
};

/** Throws EVERSION, and ESTATE where it is damaged. */
export function decodeNote(text: string): ReceiverNote {
  const result = schema.safeParse(unseal(FORMAT, text));
  if (!result.success) throw new UblkError(FORMAT.code, "it is damaged: it does not say what it has to");
  return result.data;
}

export function encodeNote(note: ReceiverNote): string {
  return seal(FORMAT, note);
}

/** NO_NOTE where there is no file. Throws EVERSION, ESTATE, and what reading throws, with the path. */
export async function readNote(path: string): Promise<ReceiverNote> {
  try {
    return decodeNote(await readFile(path, "utf8"));
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return NO_NOTE;
    throw new UblkError(codeOf(cause) ?? FORMAT.code, `State ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** Durable when it resolves. */
export async function writeNote(path: string, note: ReceiverNote): Promise<void> {
  await replaceFile(path, encodeNote(note));
}

/** The data are of a point that the last source has sent: it has become what this side is. */
export function isOfIncoming({ incoming }: ReceiverNote, { current }: Generations): boolean {
  return current !== NO_GENERATION && incoming?.current === current;
}

/**
 * What the data are of, when the last closed point came from a source of `last`. None, or null: what the data are is not known, as
 * of a log that is new, or has lost points, or of a first copy that is under way.
 */
export function generationsOf({ generations: before, incoming }: ReceiverNote, last: Generation | null): Generations {
  if (last === null || last === NO_GENERATION) return NO_GENERATIONS;
  return incoming?.current === last ? inStep(incoming) : before;
}
