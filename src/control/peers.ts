/**
 * The hosts that this one knows, by their keys: a file as known_hosts of SSH, which people may edit.
 *
 *     # NAME FINGERPRINT
 *     backup SHA256:u0Iu0gMnFHPS6Y2yuIzvPAwCsdrUt5zG5vTTBIb7mE0
 *
 * Invariant: a name has one key, and a key one name. A line that cannot be read makes the whole file be refused: it may have
 * been the one that took somebody's trust away.
 */
import { type Pin } from "../replication/trust.ts";
import { isFingerprint } from "../replication/fingerprint.ts";
import { replaceFile } from "../copy/sealed-text.ts";
import { codeOf, UblkError } from "../ublk/errors.ts";
import { identityPath } from "./paths.ts";
import { readPrivate } from "./private-file.ts";

const NAME = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/;

/** Whether a host may be called so. */
export function isHostName(text: string): boolean {
  return NAME.test(text);
}

/** What a file of this text says. Throws EPEERS with a line for each line that is wrong. */
export function parsePeers(text: string, file: string): Pin[] {
  const pins: Pin[] = [];
  const faults: string[] = [];
  text.split("\n").forEach((line, index) => {
    const words = wordsOf(line);
    if (words.length === 0) return;
    const [name = "", fingerprint = ""] = words;
    const fault =
      words.length === 2
        ? faultOf({ name, fingerprint }, pins)
        : "wanted a name and a fingerprint, with a space between";
    if (fault === undefined) pins.push({ name, fingerprint });
    else faults.push(`${file}: line ${index + 1}: ${fault}`);
  });
  if (faults.length > 0) throw new UblkError("EPEERS", faults.join("\n"));
  return pins;
}

function wordsOf(line: string): string[] {
  return line
    .replace(/#.*/, "")
    .split(/\s+/)
    .filter((word) => word !== "");
}

/** What keeps a pin from standing beside others. */
function faultOf({ name, fingerprint }: Pin, others: readonly Pin[]): string | undefined {
  if (!isHostName(name)) {
    return `${JSON.stringify(name)} is no name of a host: wanted up to 64 of a-z, 0-9, ".", "_" and "-", with a letter or digit at both ends`;
  }
  if (!isFingerprint(fingerprint)) {
    return `${JSON.stringify(fingerprint)} is no fingerprint: wanted SHA256: and 43 characters, as sluice identity show prints it`;
  }
  const namesake = others.find((other) => other.name === name);
  if (namesake !== undefined)
    return `${name} has a key already, ${namesake.fingerprint}: sluice identity forget ${name}`;
  const twin = others.find((other) => other.fingerprint === fingerprint);
  return twin === undefined ? undefined : `${fingerprint} is known as ${twin.name}: a key has one name`;
}

function readText(): string {
  try {
    return readPrivate(identityPath("peers"), "unchanged");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return "";
    throw error;
  }
}

/** None where there is no file. Throws EPEERS, EMODE. */
export function readPeers(): Pin[] {
  return parsePeers(readText(), identityPath("peers"));
}

/** Adds a host, unless it is known just so. Throws EPEERS where its name, or its key, is known otherwise. */
export async function trustPeer(pin: Pin): Promise<void> {
  const text = readText();
  const pins = parsePeers(text, identityPath("peers"));
  if (pins.some(({ name, fingerprint }) => name === pin.name && fingerprint === pin.fingerprint)) return;
  const fault = faultOf(pin, pins);
  if (fault !== undefined) throw new UblkError("EPEERS", fault);
  const before = text === "" || text.endsWith("\n") ? text : `${text}\n`;
  await replaceFile(identityPath("peers"), `${before}${pin.name} ${pin.fingerprint}\n`);
}

/** Takes the line of a host away; all else of the file stays as it is. Throws ENOENT where it is not known. */
export async function forgetPeer(name: string): Promise<void> {
  const text = readText();
  const pins = parsePeers(text, identityPath("peers"));
  if (!pins.some((pin) => pin.name === name)) throw new UblkError("ENOENT", `no key of "${name}" is known here`);
  const lines = text.split("\n").filter((line) => wordsOf(line)[0] !== name);
  await replaceFile(identityPath("peers"), lines.join("\n"));
}
