/** What is wrong with a configuration, in words: a line for each fault, `KEY: wanted ..., found ...`. */
import { closest, distance } from "fastest-levenshtein";
import type * as z from "zod";

const SHOWN_MAX = 60;

/**
 * The lines for one issue of the schema; an issue of several unknown keys has several. `keys`: those that there are, by the
 * table that they stand in, or its kind; "" is the top of the file.
 */
export function faultsOf(
  issue: z.core.$ZodIssue,
  table: unknown,
  keys: Readonly<Record<string, readonly string[]>>,
): string[] {
  const where = placeOf(issue.path);
  const found = valueAt(table, issue.path);
  if (issue.code !== "unrecognized_keys") return [`${where}: ${issue.message}, found ${show(found)}`];
  const { kind } = found as { kind?: unknown };
  const isOfKind = typeof kind === "string" && where !== "" && Object.hasOwn(keys, kind);
  const known = keys[isOfKind ? kind : where.replace(/\[\d+\]$/, "")] ?? keys[""] ?? [];
  return issue.keys.map(
    (key) => `${where === "" ? key : `${where}.${key}`}: is no key here, ${suggestion(key, known)}`,
  );
}

/** "filter[0].ms". */
function placeOf(keys: readonly PropertyKey[]): string {
  return keys.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? String(key) : `${text}.${String(key)}`;
  }, "");
}

function suggestion(key: string, known: readonly string[]): string {
  const nearest = closest(key.toLowerCase(), [...known]);
  // Half of the letters may be wrong; anything more and the guess would be a distraction.
  if (distance(key.toLowerCase(), nearest) <= Math.max(1, Math.floor(key.length / 2))) return `wanted ${nearest}?`;
  return `wanted one of ${known.join(", ")}`;
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  if (value instanceof Date) return value.toISOString();
  const text = JSON.stringify(value);
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}...`;
}

function valueAt(table: unknown, keys: readonly PropertyKey[]): unknown {
  return keys.reduce<unknown>((value, key) => {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    return (value as Record<PropertyKey, unknown>)[key];
  }, table);
}
