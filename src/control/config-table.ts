/** A configuration file as its schema has it: read as TOML, and checked as a whole, so that all its faults are told at once. */
import { parse, TomlError } from "smol-toml";
import type * as z from "zod";
import { faultsOf } from "./config-faults.ts";
import { ConfigError } from "./config-name.ts";
import type { Conflict } from "./config-values.ts";

/** What a file may say. */
export interface ConfigForm<T> {
  readonly schema: z.ZodType<T>;
  /** The keys that there are, by the table that they stand in, or its kind; "" is the top of the file. */
  readonly keys: Readonly<Record<string, readonly string[]>>;
  /** What must hold between keys, whatever else is wrong. */
  readonly conflictsOf: (table: Readonly<Record<string, unknown>>) => readonly Conflict[];
}

/** Throws ConfigError, with a line for each fault. */
export function checkedTable<T>(text: string, file: string, { schema, keys, conflictsOf }: ConfigForm<T>): T {
  let table: Record<string, unknown>;
  try {
    table = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = (error.message.split("\n")[0] ?? "").replace("Invalid TOML document: ", "not TOML: ");
    throw new ConfigError([`${file}: line ${error.line}, column ${error.column}: ${what}`]);
  }
  const result = schema.safeParse(table);
  const faults = [
    ...(result.error?.issues ?? []).flatMap((issue) => faultsOf(issue, table, keys)),
    ...conflictsOf(table).map(({ key, message }) => `${key}: ${message}`),
  ];
  // A value that breaks two rules is told once where both say the same.
  if (!result.success || faults.length > 0)
    throw new ConfigError([...new Set(faults)].map((fault) => `${file}: ${fault}`));
  return result.data;
}
