/**
 * Who is at the other end of a mirror, by the certificate that was shown: a host whose key is pinned here, or one whose
 * certificate an authority has signed.
 *
 * Invariant: there is no third way. Whoever gets a name has shown that it has the key (TLS proves that), and it is a name
 * that this side was told of by a person. What is refused is refused with a line that says what a person can do.
 */
import type { X509Certificate } from "node:crypto";
import { UblkError } from "../ublk/errors.ts";
import { fingerprintOf, isSameFingerprint } from "./fingerprint.ts";

/** A key, and the name under which it is known here. */
export interface Pin {
  readonly name: string;
  readonly fingerprint: string;
}

export interface Trust {
  /** The authority's certificates, PEM; undefined where certificates count for their keys alone. */
  readonly ca: string | undefined;
  /**
   * The name of whoever has shown this certificate. `chainFault` is OpenSSL's name for what keeps it from being signed by `ca`.
   * Throws EPEER where it is nobody that this side was told of.
   */
  nameOf(certificate: X509Certificate, chainFault: string | undefined): string;
}

/**
 * By pins, which are asked for anew each time. `names` has those that the configuration names; null for all that are pinned. A
 * pin never expires, whatever the certificate says.
 */
export function pinTrust(pins: () => readonly Pin[], names: readonly string[] | null): Trust {
  return {
    ca: undefined,
    nameOf(certificate) {
      const found = fingerprintOf(certificate.publicKey);
      const known = pins();
      // All are compared, so that the time does not tell which one it is.
      const [pin] = known.filter(({ fingerprint }) => isSameFingerprint(fingerprint, found));
      if (pin === undefined) throw unknownKey(found, known, names);
      if (names !== null && !names.includes(pin.name)) {
        throw new UblkError("EPEER", `it is ${pin.name}, wanted ${names.join(" or ")}, as the configuration says`);
      }
      return pin.name;
    },
  };
}

function unknownKey(found: string, known: readonly Pin[], names: readonly string[] | null): UblkError {
  const name = names?.length === 1 ? names[0] : undefined;
  const pinned = known.find((pin) => pin.name === name);
  if (pinned !== undefined) {
    return new UblkError(
      "EPEER",
      `the key of ${pinned.name} HAS CHANGED, or somebody else is there in its place: wanted ${pinned.fingerprint}, found ${found}. ` +
        `Only if "sluice identity show" at ${pinned.name} says the same, run here: ` +
        `sluice identity forget ${pinned.name} && sluice identity trust ${pinned.name} ${found}`,
    );
  }
  return new UblkError(
    "EPEER",
    `its key is not known here. If "sluice identity show" there says the same, run here: ` +
      `sluice identity trust ${name ?? "NAME"} ${found}`,
  );
}

/** By an authority: a certificate that it has signed, which is valid now, for one of these names (subjectAltName, DNS). */
export function authorityTrust(ca: string, names: readonly string[]): Trust {
  return {
    ca,
    nameOf(certificate, chainFault) {
      if (chainFault !== undefined) {
        throw new UblkError("EPEER", `its certificate is refused: ${CHAIN_FAULTS[chainFault] ?? chainFault}`);
      }
      const name = names.find(
        (wanted) => certificate.checkHost(wanted, { subject: "never", wildcards: false }) !== undefined,
      );
      if (name !== undefined) return name;
      const found = certificate.subjectAltName?.replaceAll(/[^ -~]/g, "?") ?? "no name";
      throw new UblkError("EPEER", `its certificate is refused: wanted one for ${names.join(" or ")}, found ${found}`);
    },
  };
}

const UNSIGNED = "it is not signed by the authority that the configuration names (ca)";
const CHAIN_FAULTS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "it, or the authority's own, has expired",
  CERT_NOT_YET_VALID: "it, or the authority's own, is not valid yet: compare the clocks",
  DEPTH_ZERO_SELF_SIGNED_CERT: UNSIGNED,
  SELF_SIGNED_CERT_IN_CHAIN: UNSIGNED,
  UNABLE_TO_GET_ISSUER_CERT: UNSIGNED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNSIGNED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNSIGNED,
  CERT_SIGNATURE_FAILURE: UNSIGNED,
  INVALID_PURPOSE: "it is not for this use: wanted one for both client and server",
};
