/** What the host asks of a benchmark's part in the guest, and what that tells. */
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 100;
/** Nothing happens any more. */
const PATIENCE_MS = 60_000;

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

/** Looks until what is found is as it is wanted. Throws with it when it has not changed for too long. */
export async function comes<T>(look: () => Promise<T>, isWanted: (found: T) => boolean): Promise<void> {
  let last = "";
  let since = performance.now();
  for (;;) {
    const found = await look();
    if (isWanted(found)) return;
    const text = JSON.stringify(found);
    if (text !== last) since = performance.now();
    else if (performance.now() - since > PATIENCE_MS) throw new Error(`waited in vain: ${text}`);
    last = text;
    await sleep(POLL_MS);
  }
}
