/** The two files of a device in /dev. */
import { openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { codeOf, messageOf, UblkError } from "./errors.ts";

const RETRY_MS = 20;
const OPEN_RETRIES = 250;

export function blockPath(id: number): string {
  return `/dev/ublkb${id}`;
}

function characterPath(id: number): string {
  return `/dev/ublkc${id}`;
}

/** udev or devtmpfs may take a moment; a dying server may hold the file a moment longer. */
export async function openCharacterDevice(id: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    try {
      return openSync(characterPath(id), "r+");
    } catch (cause) {
      const code = codeOf(cause);
      if (attempt < OPEN_RETRIES && (code === "ENOENT" || code === "EBUSY" || code === "EACCES")) {
        await sleep(RETRY_MS);
        continue;
      }
      throw new UblkError(code ?? "EOPEN", `Cannot open ${characterPath(id)}: ${messageOf(cause)}`, { cause });
    }
  }
}
