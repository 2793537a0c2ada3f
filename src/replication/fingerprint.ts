/**
 * The short name of a key, which people compare: SHA-256 of the public key (SubjectPublicKeyInfo, DER), in the form that
 * ssh-keygen prints.
 *
 * Invariant: equal fingerprints mean equal keys; the certificate around a key does not count.
 */
import { createHash, createPublicKey, type KeyObject, timingSafeEqual } from "node:crypto";

const PREFIX = "SHA256:";
const HASH_BYTES = 32;

/** "SHA256:" and 43 characters, of a public key or of the public part of a private one. */
export function fingerprintOf(key: KeyObject): string {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const hash = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" }));
  return `${PREFIX}${hash.digest("base64").replace(/=+$/, "")}`;
}

/** Whether a text is one that `fingerprintOf` can give: one that could never be equal to any would be no pin. */
export function isFingerprint(text: string): boolean {
  if (!text.startsWith(PREFIX)) return false;
  const hash = Buffer.from(text.slice(PREFIX.length), "base64");
  return hash.length === HASH_BYTES && `${PREFIX}${hash.toString("base64").replace(/=+$/, "")}` === text;
}

/** Takes as long whatever differs. Both are fingerprints. */
export function isSameFingerprint(one: string, other: string): boolean {
  const [left, right] = [Buffer.from(one), Buffer.from(other)];
  return left.length === right.length && timingSafeEqual(left, right);
}
