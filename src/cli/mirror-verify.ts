/** What `sluice mirror verify` does: the daemon compares, this process tells how far it is. */
import { askMirrorVerification } from "../control/client.ts";
import { formatSize } from "../control/sizes.ts";
import type { VerificationStatus } from "../replication/verification.ts";
import { UblkError } from "../ublk/errors.ts";
import { EXIT, print } from "./output.ts";
import { Progress } from "./progress.ts";

/** Gives the exit status: not 0 where something differs and was not repaired, or could not be read. Throws as the daemon does. */
export async function verifyMirror(name: string, isRepairing: boolean, json: boolean): Promise<number> {
  using progress = new Progress(!json);
  let last: VerificationStatus | undefined;
  for await (const status of askMirrorVerification(name, isRepairing)) {
    progress.show(status.doneBytes, status.sizeBytes, status.state);
    last = status;
  }
  progress[Symbol.dispose]();
  if (last?.state !== "done") throw new UblkError("EGONE", `The daemon of ${name} has not compared all of it`);
  print(json, last, () => describeVerification(last));
  const isEqual = last.differentBytes === 0 || last.isRepairing;
  return isEqual && last.unreadBytes === 0 ? 0 : EXIT.failed;
}

/** What was found, a line each. */
export function describeVerification(status: VerificationStatus): string {
  const { doneBytes, differentBytes, onTheirWayBytes, unreadBytes, isRepairing, state, places } = status;
  const repaired = !isRepairing ? ": not repaired" : state === "done" ? ": repaired" : ": being repaired";
  const found = `${formatSize(doneBytes)} compared, ${formatSize(differentBytes)} differ`;
  const lines = [differentBytes > 0 ? `${found}${repaired}` : found];
  if (onTheirWayBytes > 0) lines.push(`${formatSize(onTheirWayBytes)} were on their way to the receiver: not compared`);
  if (unreadBytes > 0) lines.push(`${formatSize(unreadBytes)} could not be read here: not compared`);
  const told = places.reduce((sum, { length }) => sum + length, 0);
  for (const { offset, length } of places) lines.push(`differs: ${offset}+${length}`);
  if (told < differentBytes) lines.push("and more places");
  return lines.join("\n");
}
