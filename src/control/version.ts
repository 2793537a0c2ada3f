/** The version of the sluice that runs, as its package says. */
import { readFileSync } from "node:fs";
import { TREE } from "./tree.ts";

/** Such as "0.1.0". */
export function version(): string {
  const text = readFileSync(new URL("package.json", TREE), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
