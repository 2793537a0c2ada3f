/** Values that configurations have in common: each says what is wanted where it is something else. */
import * as z from "zod";
import { parseSize } from "./sizes.ts";

/** Two keys, or a key and what it is about, contradict each other. */
export interface Conflict {
  readonly key: string;
  readonly message: string;
}

/** `"a", "b" or "c"`. */
export function choice(words: readonly (string | number)[]): string {
  const shown = words.map((word) => JSON.stringify(word));
  return `${shown.slice(0, -1).join(", ")} or ${shown.at(-1) ?? ""}`;
}

export function oneOf<const T extends readonly string[]>(words: T): z.ZodType<T[number]> {
  return z.enum(words, { error: `wanted ${choice(words)}` });
}

export function wholeNumber(min: number, max: number): z.ZodType<number> {
  const error = `wanted a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

/** Bytes, as a number or as a text with a unit. */
export function size(min: 0 | 1): z.ZodType<number> {
  const error = 'wanted a size such as "10GiB"';
  return z.unknown().transform((value, context): number => {
    const bytes = typeof value === "string" ? parseSize(value) : value;
    if (typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes >= min) return bytes;
    context.issues.push({ code: "custom", message: error, input: value });
    return z.NEVER;
  });
}

export const path = z
  .string({ error: "wanted an absolute path" })
  .startsWith("/", { error: "wanted an absolute path" })
  .refine((text) => !text.includes("\0"), { error: "wanted a path without a NUL" });
/** Bytes as those of `size`; `error` says what is wanted. */
export function powerOfTwo(min: number, max: number, error: string): z.ZodType<number> {
  return size(1).refine((bytes) => bytes >= min && bytes <= max && Number.isInteger(Math.log2(bytes)), { error });
}

/** Above 0. */
export function seconds(max: number): z.ZodNumber {
  const error = `wanted seconds above 0, to ${max}`;
  return z.number({ error }).positive({ error }).max(max, { error });
}
