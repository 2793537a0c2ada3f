/**
 * Who this host is to others: a key, made at the first use, and a certificate around it.
 *
 * Invariant: the key is all that counts. There is one, whoever is first; the certificate is made from it again where it is
 * missing or is of another key. No message has anything of the key but its fingerprint.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomUUID, X509Certificate } from "node:crypto";
import { link, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { syncFolder } from "../copy/sealed-text.ts";
import { fingerprintOf } from "../replication/fingerprint.ts";
import { codeOf, UblkError } from "../ublk/errors.ts";
import { identityPath } from "./paths.ts";
import { isHostName } from "./peers.ts";
import { readPrivate } from "./private-file.ts";

export interface HostIdentity {
  /** What this host calls itself; others may call it otherwise. */
  readonly name: string;
  readonly fingerprint: string;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

/** Reads the identity, or makes it where there is none. Throws EMODE, EIDENTITY, and as the system does. */
export async function hostIdentity(): Promise<HostIdentity> {
  try {
    return await identityOf(readKey());
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
  try {
    await put("key.pem", newKey(), link);
  } catch (error) {
    // Somebody else was first: so it is that one.
    if (codeOf(error) !== "EEXIST") throw error;
  }
  return identityOf(readKey());
}

/** A new key in place of the one that there is. Who knows this host has to be told the new fingerprint. */
export async function replaceIdentity(): Promise<HostIdentity> {
  await put("key.pem", newKey(), rename);
  return identityOf(readKey());
}

/** Whether there is a key, of whatever kind. */
export function hasIdentity(): boolean {
  try {
    readPrivate(identityPath("key.pem"), "secret");
    return true;
  } catch (error) {
    return codeOf(error) !== "ENOENT";
  }
}

function newKey(): string {
  return generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
}

function readKey(): KeyObject {
  const path = identityPath("key.pem");
  const text = readPrivate(path, "secret");
  let key: KeyObject | undefined;
  try {
    key = createPrivateKey(text);
  } catch {
    // What OpenSSL says of it is for nobody.
  }
  if (key?.asymmetricKeyType === "ed25519") return key;
  throw new UblkError(
    "EIDENTITY",
    `${path} is no Ed25519 key: put it back, or have another one by sluice identity new --force`,
  );
}

async function identityOf(key: KeyObject): Promise<HostIdentity> {
  return {
    name: hostName(),
    fingerprint: fingerprintOf(key),
    certificate: await certificateOf(key),
    key: key.export({ type: "pkcs8", format: "pem" }),
  };
}

async function certificateOf(key: KeyObject): Promise<string> {
  const found = await readFile(identityPath("certificate.pem"), "utf8").catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return "";
    throw error;
  });
  if (isOf(key, found)) return found;
  const { selfSigned } = await import("./self-signed.ts");
  const made = selfSigned(key, hostName());
  await put("certificate.pem", made, rename);
  return made;
}

function isOf(key: KeyObject, certificate: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(key);
  } catch {
    return false;
  }
}

/** This machine's name, as far as it is one for a host of a mirror. */
export function hostName(): string {
  const name = hostname()
    .toLowerCase()
    .slice(0, 64)
    .replaceAll(/[^a-z0-9._-]/g, "-")
    .replaceAll(/^[._-]+|[._-]+$/g, "");
  return isHostName(name) ? name : "host";
}

/** Durably, with rights for the owner alone, under a name that nobody else writes to meanwhile. */
async function put(
  file: "key.pem" | "certificate.pem",
  text: string,
  place: (from: string, to: string) => Promise<void>,
): Promise<void> {
  const path = identityPath(file);
  const draft = `${path}.${randomUUID()}`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    await using written = await open(draft, "wx", 0o600);
    await written.writeFile(text);
    await written.datasync();
    await place(draft, path);
  } finally {
    await rm(draft, { force: true });
  }
  await syncFolder(path);
}
