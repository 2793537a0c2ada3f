/**
 * The file that a copy job lives in: what it is to do, and what it has done. It outlives the daemon and the machine.
 *
 * Invariant: what it says is copied was durable at every destination before. It is replaced as a whole, so that it is there in
 * its old or its new form whatever dies; one that is damaged is refused.
 *
 * A sealed text (sealed-text.ts), "sluice-copy", of CopyRecord; `copied`: a bit for each unit, deflated (RFC 1951), base64.
 */
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import * as z from "zod";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { replaceFile, seal, unseal, type SealedFormat } from "./sealed-text.ts";
import { COPY_ORDERS } from "./segment-list.ts";

const FORMAT: SealedFormat = { magic: "sluice-copy", version: 1, what: "record of a copy", code: "ECOPY" };
const SUFFIX = ".copy";

/** "staged": has not begun; the others as CopyState. */
export const RECORD_STATES = ["staged", "running", "paused", "failed", "complete"] as const;

/** How far a stream is: what is behind so many records does not count. */
const stream = z.strictObject({
  /** 16 bytes, hexadecimal. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  recordBytes: z.int().positive(),
  records: z.int().nonnegative(),
  payloadBytes: z.int().nonnegative(),
});
/** `stream` is null for an image. */
const destination = z.strictObject({ path: z.string(), stream: stream.nullable() });
export type RecordedDestination = Readonly<z.output<typeof destination>>;

const schema = z.strictObject({
  name: z.string(),
  state: z.enum(RECORD_STATES),
  /** Why it failed. */
  error: z.string().nullable(),
  /** Of its point; null until that has been taken. */
  epoch: z.int().nonnegative().nullable(),
  createdMs: z.number(),
  volumeBytes: z.int().positive(),
  unitBytes: z.int().positive(),
  segmentBytes: z.int().positive(),
  order: z.enum(COPY_ORDERS),
  bytesPerSecond: z.int().positive().nullable(),
  destinations: z.array(destination).min(1),
  /** What is at a destination when it begins is overwritten. */
  overwrites: z.boolean(),
  copied: z.string().transform((text) => Uint8Array.from(inflateRawSync(Buffer.from(text, "base64")))),
});

/** A job; `copied` has a bit for each unit, from the lowest of the first byte on. */
export type CopyRecord = Readonly<Omit<z.output<typeof schema>, "copied">> & { readonly copied: Uint8Array };

/** What is durable at every destination. */
export function copiedBytesOf({ copied, unitBytes, volumeBytes }: CopyRecord): number {
  let units = 0;
  for (let bits of copied) for (; bits !== 0; bits &= bits - 1) units++;
  return Math.min(units * unitBytes, volumeBytes);
}

export function encodeRecord(record: CopyRecord): string {
  const copied = deflateRawSync(record.copied).toString("base64");
  return seal(FORMAT, { ...record, copied });
}

/** Throws EVERSION, ECOPY where it is damaged. */
export function decodeRecord(text: string): CopyRecord {
  const { data } = schema.safeParse(unseal(FORMAT, text));
  if (data === undefined || data.copied.length !== Math.ceil(Math.ceil(data.volumeBytes / data.unitBytes) / 8)) {
    throw new UblkError("ECOPY", "it is damaged: its content does not fit together");
  }
  return data;
}

/** The records of a volume's jobs: a folder of its own. */
export class CopyRecords {
  readonly #folder: string;
  /** Two never write at once. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(folder: string) {
    this.#folder = folder;
  }

  #path(name: string): string {
    return join(this.#folder, `${name}${SUFFIX}`);
  }

  /** Durable when it resolves. */
  save(record: CopyRecord): Promise<void> {
    const turn = this.#last.then(() => this.#save(record));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #save(record: CopyRecord): Promise<void> {
    await replaceFile(this.#path(record.name), encodeRecord(record));
  }

  async remove(name: string): Promise<void> {
    await rm(this.#path(name), { force: true });
  }

  /** All that can be read, and what is wrong with the others. */
  async load(): Promise<{ records: CopyRecord[]; faults: { path: string; error: string }[] }> {
    const records: CopyRecord[] = [];
    const faults: { path: string; error: string }[] = [];
    for (const file of await this.#files()) {
      const path = join(this.#folder, file);
      try {
        records.push(decodeRecord(await readFile(path, "utf8")));
      } catch (error) {
        faults.push({ path, error: messageOf(error) });
      }
    }
    return { records, faults };
  }

  async #files(): Promise<string[]> {
    try {
      return (await readdir(this.#folder)).filter((file) => file.endsWith(SUFFIX)).sort();
    } catch (error) {
      if (codeOf(error) === "ENOENT") return [];
      throw error;
    }
  }
}
