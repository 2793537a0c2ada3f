/** What the host asks of a benchmark's part in the guest, and what that tells. */
import { writeFile } from "node:fs/promises";

export function readOrder(): unknown {
  return JSON.parse(process.env["BENCH_ORDER"] ?? "{}") as unknown;
}

/** How far it is. */
export function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

export async function leave(measured: object): Promise<void> {
  await writeFile("/mnt/out/measured.json", JSON.stringify(measured));
}
