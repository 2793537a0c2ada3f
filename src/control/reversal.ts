/**
 * The two sides of a mirror change places, from the one that is written: what has to be so before, and what the other side is told.
 *
 * Invariant: the other side is told to take the volume over only when this one has given it up, durably. So one of them is the
 * source, or neither is, whatever dies; and who begins again goes on where it ended.
 */
import { FRAME } from "../replication/frame.ts";
import type { Role } from "../replication/handshake.ts";
import { decodeReason } from "../replication/messages.ts";
import { SourceStateFile } from "../replication/source-state.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { readConfig } from "./config.ts";
import { refuseUnsent } from "./demotion.ts";
import { checkSameFiles, roleOf } from "./mirror-role.ts";
import { askOtherSide, type Answer } from "./other-side.ts";
import { mirrorStatePath, receiveStatePath } from "./paths.ts";
import { readReceiveConfig, specOf } from "./receive-config.ts";
import { readNote } from "./receive-state.ts";
import { storeBytes } from "./store-size.ts";

/** Whether it was given up here, and nothing has come from the other side since. Throws EMIRROR where it is not written here. */
export async function hasGivenUp(name: string): Promise<boolean> {
  const role = await roleOf(name);
  if (role === "source") return false;
  const { base } = await readNote(receiveStatePath(name));
  if (role === "target" && base !== null) return true;
  throw new UblkError(
    "EMIRROR",
    `Volume ${name} is not the source of a mirror here: "sluice mirror reverse ${name}" is for the host where it is written`,
  );
}

/** Throws EBEHIND for one that is not served, and of which the other side may lack something. */
export async function refuseLeft(name: string): Promise<void> {
  const config = await readConfig(name);
  await refuseUnsent(config, await storeBytes(specOf(await readReceiveConfig(), name).path));
}

/**
 * Tells the other side to take the volume over, which was given up here (role "target"); or asks whether it would (role "source"),
 * which changes nothing there. Throws why not.
 */
export async function askTakeOver(name: string, role: Role): Promise<void> {
  const config = await readConfig(name);
  const spec = specOf(await readReceiveConfig(), name);
  checkSameFiles(config, spec);
  if (config.mirror === null) throw new UblkError("EMIRROR", `${config.file}: wanted [mirror], found none`);
  const { state } = await SourceStateFile.open(mirrorStatePath(name));
  const volumeBytes = await storeBytes(spec.path);
  const { silenceMs } = config.mirror;
  const asking = { type: FRAME.TAKE_OVER, role, state, volumeBytes, silenceMs };
  checkAnswer(
    name,
    await askOtherSide(config, asking).catch((cause: unknown) => {
      const message = `The other side cannot be asked to take volume ${name} over: ${messageOf(cause)}`;
      throw new UblkError(codeOf(cause) ?? "ELINK", message, { cause });
    }),
  );
}

function checkAnswer(name: string, answer: Answer | undefined): void {
  if (answer?.type === FRAME.TAKEN_OVER) return;
  const { code, text } =
    answer?.type === FRAME.REFUSED
      ? decodeReason(answer.payload)
      : { code: "EPROTOCOL", text: "it has given no answer" };
  throw new UblkError(code, `The other side does not take volume ${name} over: ${text} (${code})`);
}
