/** What the command asks the receiver. */
import { codeOf, UblkError } from "../ublk/errors.ts";
import { ask } from "./client.ts";
import { RECEIVER } from "./config-name.ts";
import type { ExportedPointRow, Promoted, ReceiveStatus } from "./receive-status.ts";

export async function askReceiveStatus(): Promise<ReceiveStatus> {
  return JSON.parse(await askReceiver("GET", "/v1/status")) as ReceiveStatus;
}

/** The volume is to be written here from now on. */
export async function askPromote(volume: string, force: boolean): Promise<Promoted> {
  return JSON.parse(await askReceiver("POST", "/v1/promote", { volume, force })) as Promoted;
}

/** The volume was demoted: it is kept here for a source from now on. */
export async function askFollow(volume: string): Promise<void> {
  await askReceiver("POST", "/v1/follow", { volume });
}

/** A closed point, null for the last one, as a read-only device. */
export async function askReceivedExport(volume: string, point: number | null): Promise<ExportedPointRow> {
  return JSON.parse(await askReceiver("POST", "/v1/export", { volume, point })) as ExportedPointRow;
}

export async function askReceivedUnexport(volume: string, point: number, force: boolean): Promise<void> {
  await askReceiver("POST", "/v1/unexport", { volume, point, force });
}

/** Throws ENOTRUNNING where there is no receiver. */
async function askReceiver(method: "GET" | "POST", path: string, body?: unknown): Promise<string> {
  try {
    return await ask(RECEIVER, method, path, body);
  } catch (cause) {
    if (codeOf(cause) !== "ENOTRUNNING") throw cause;
    const hint = 'The receiver is not running: start it with "systemctl start sluice-receive", or "sluice receive"';
    throw new UblkError("ENOTRUNNING", hint, { cause });
  }
}
