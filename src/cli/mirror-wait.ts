/** `sluice mirror wait`: how far the copying is, until there is nothing to copy any more. */
import { setTimeout as sleep } from "node:timers/promises";
import { askMirror } from "../control/client.ts";
import type { MirrorStatus } from "../control/mirror-status.ts";
import { formatSize } from "../control/sizes.ts";
import { Progress } from "./progress.ts";
import { UblkError } from "../ublk/errors.ts";

const POLL_MS = 200;

/** Throws ETIMEDOUT, with how the mirror stands. */
export async function waitInStep(name: string, timeoutMs: number, json: boolean): Promise<MirrorStatus> {
  const deadline = performance.now() + timeoutMs;
  using progress = new Progress(!json);
  let most = 0;
  for (;;) {
    const status = await askMirror(name);
    if (status.state === "in step") return status;
    most = Math.max(most, status.toCopyBytes);
    if (status.state === "copying") progress.show(most - status.toCopyBytes, most, name);
    if (performance.now() > deadline) {
      const { state, toCopyBytes, fault } = status;
      const why = fault === null ? "" : `: ${fault.text}`;
      throw new UblkError(
        "ETIMEDOUT",
        `The mirror of ${name} is not in step, but ${state}, with ${formatSize(toCopyBytes)} to copy${why}`,
      );
    }
    await sleep(POLL_MS);
  }
}
