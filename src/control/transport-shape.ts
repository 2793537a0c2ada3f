/**
 * The keys that say how the two sides of a mirror reach each other: the same on both.
 *
 * Invariant: bytes go in clear only where it says so, in words.
 */
import * as z from "zod";
import { oneOf, path, type Conflict } from "./config-values.ts";

/** To be spread into the table that they stand in. */
export const transportShape = {
  transport: oneOf(["tls", "clear"]).default("tls"),
  ca: path.optional(),
  certificate: path.optional(),
  key: path.optional(),
};

export type TransportTable = z.output<z.ZodObject<typeof transportShape>>;

const AUTHORITY_KEYS = ["ca", "certificate", "key"] as const;

/** What must hold between the keys. */
export function transportConflictsOf(table: Readonly<Record<string, unknown>>): Conflict[] {
  const given = AUTHORITY_KEYS.filter((key) => table[key] !== undefined);
  if (table["transport"] === "clear") {
    return given.map((key) => ({ key, message: 'is of no use with transport = "clear": leave it out' }));
  }
  if (given.length === 0) return [];
  return AUTHORITY_KEYS.filter((key) => table[key] === undefined).map((key) => ({
    key,
    message: "wanted ca, certificate and key together, or none of them, found none",
  }));
}
