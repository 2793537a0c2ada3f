/** What the command asks the receiver. */
import { codeOf, UblkError } from "../ublk/errors.ts";
import { ask } from "./client.ts";
import { RECEIVER } from "./config-name.ts";
import type { ReceiveStatus } from "./receive-status.ts";

/** Throws ENOTRUNNING where there is no receiver. */
export async function askReceiveStatus(): Promise<ReceiveStatus> {
  try {
    return JSON.parse(await ask(RECEIVER, "GET", "/v1/status")) as ReceiveStatus;
  } catch (cause) {
    if (codeOf(cause) !== "ENOTRUNNING") throw cause;
    const hint = 'The receiver is not running: start it with "systemctl start sluice-receive", or "sluice receive"';
    throw new UblkError("ENOTRUNNING", hint, { cause });
  }
}
