/**
 * What the source of a mirror has to know after a crash: which life of its log was the last one, and which generations its data
 * and those of the other side are states of.
 *
 * Invariant: what is said to be saved is durable. One saves at a time, and in the order in which it was asked.
 */
import { readFile } from "node:fs/promises";
import * as z from "zod";
import { replaceFile, seal, unseal, type SealedFormat } from "../copy/sealed-text.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { created, wentAlone, wentUnrecorded, type Generation, type Generations } from "./generations.ts";

const FORMAT: SealedFormat = { magic: "sluice-mirror-source", version: 1, what: "state of a mirror", code: "EMIRROR" };

const generation = z.string().regex(/^[0-9a-f]{16}$/);
export const generationsSchema = z.strictObject({
  current: generation,
  bitmap: generation,
  offered: generation,
  history: z.tuple([generation, generation]),
});
const schema = z.strictObject({
  incarnation: z.int().min(1).max(0xffff_ffff),
  generations: generationsSchema,
  lastPoint: z.int().min(0),
  record: z.int().min(0).max(0xffff_ffff).nullable(),
});

export interface SourceState {
  /** Of the log: the number of its life. */
  readonly incarnation: number;
  readonly generations: Generations;
  /** A point that is committed at the receiver. It may have later ones. */
  readonly lastPoint: number;
  /** By its salt: the record that knows what the receiver lacks. Null where something was written that no record knows of. */
  readonly record: number | null;
}

/** 64 bits by chance, not all of them 0. */
export function freshGeneration(): Generation {
  for (;;) {
    const [bits] = crypto.getRandomValues(new BigUint64Array(1));
    if (bits !== undefined && bits !== 0n) return bits.toString(16).padStart(16, "0");
  }
}

export class SourceStateFile {
  readonly #path: string;
  #state: SourceState;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, state: SourceState) {
    this.#path = path;
    this.#state = state;
  }

  /** As it was left. Throws EMIRROR, EVERSION, ENOENT. */
  static async open(path: string): Promise<SourceStateFile> {
    try {
      return new SourceStateFile(path, schema.parse(unseal(FORMAT, await readFile(path, "utf8"))));
    } catch (cause) {
      const code = codeOf(cause) ?? FORMAT.code;
      throw new UblkError(code, `State of the mirror ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Begins a life of the source, durably, before it is written to: nobody knows what the other side has got of the one before.
   * A source that has no state yet is a new one. `record` is the salt of its record.
   */
  static async begin(path: string, record: number): Promise<void> {
    const before = await SourceStateFile.#read(path);
    const fresh = freshGeneration();
    const generations =
      before === undefined
        ? created(fresh)
        : before.record === record
          ? wentAlone(before.generations, fresh)
          : wentUnrecorded(before.generations, fresh);
    const incarnation = (before?.incarnation ?? 0) + 1;
    await replaceFile(path, seal(FORMAT, { incarnation, generations, lastPoint: before?.lastPoint ?? 0, record }));
  }

  /**
   * A volume that was kept here for another source is to be one itself: what it is is of `generations`, and goes on alone from
   * there; `record` knows all that will differ. `incarnation` is the largest one that was heard of.
   */
  static async adopt(
    path: string,
    { generations, incarnation, record }: Pick<SourceState, "generations" | "incarnation" | "record">,
  ): Promise<void> {
    const before = await SourceStateFile.#read(path);
    const largest = Math.max(1, incarnation, before?.incarnation ?? 0);
    const alone = wentAlone(generations, freshGeneration());
    await replaceFile(path, seal(FORMAT, { incarnation: largest, generations: alone, lastPoint: 0, record }));
  }

  /** Before the volume is written to without a mirror: what is written then is in no record. */
  static async leave(path: string): Promise<void> {
    const before = await SourceStateFile.#read(path);
    if (before !== undefined) await replaceFile(path, seal(FORMAT, { ...before, record: null }));
  }

  static async #read(path: string): Promise<SourceState | undefined> {
    try {
      return (await SourceStateFile.open(path)).state;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  get state(): SourceState {
    return this.#state;
  }

  /** Resolves when it is durable. */
  async save(changes: Partial<SourceState>): Promise<void> {
    const state = { ...this.#state, ...changes };
    this.#state = state;
    const saved = this.#saving.then(() => replaceFile(this.#path, seal(FORMAT, state)));
    this.#saving = saved.catch(() => undefined);
    await saved;
  }
}
