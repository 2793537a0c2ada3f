/** What commands print: tables for people, JSON for programs, errors in one line each. */
import { codeOf, messageOf } from "../ublk/errors.ts";

/** Exit statuses; 78 is EX_CONFIG of sysexits(3), by which a service manager knows not to try again. */
export const EXIT = { failed: 1, usage: 2, configuration: 78 } as const;

/** JSON when `--json` was given, else the text. */
export function print(json: boolean, value: unknown, text: () => string): void {
  process.stdout.write(json ? `${JSON.stringify(value, bigintAsText, 2)}\n` : `${text()}\n`);
}

function bigintAsText(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  return value instanceof Set ? [...(value as Set<unknown>)] : value;
}

/** Columns as wide as their widest cell; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, String(cell).length)));
  const line = (row: readonly (string | number)[]): string =>
    row
      .map((cell, column) =>
        typeof cell === "number" ? String(cell).padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd();
  return rows.map(line).join("\n");
}

/** Tells of an error, a line each; its stack only with SLUICE_DEBUG=1. */
export function complain(json: boolean, error: unknown): void {
  if (process.env["SLUICE_DEBUG"] === "1")
    process.stderr.write(`${String(error instanceof Error ? error.stack : error)}\n`);
  const message = messageOf(error);
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: { code: codeOf(error) ?? "ERROR", message } })}\n`);
    return;
  }
  for (const line of message.split("\n")) process.stderr.write(`sluice: ${line}\n`);
}
