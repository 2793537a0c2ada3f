/**
 * The part of a configuration that says how the two sides of a mirror reach each other: the same keys on both.
 *
 * Invariant: bytes go in clear only where it says so, in words.
 */
import { createPrivateKey } from "node:crypto";
import { readFile } from "node:fs/promises";
import * as z from "zod";
import { clearTransport, type Transport } from "../replication/transport.ts";
import { UblkError } from "../ublk/errors.ts";
import { type Conflict, oneOf, path } from "./config-schema.ts";
import type { HostIdentity } from "./host-identity.ts";
import { readPrivate } from "./private-file.ts";

/** To be spread into the table that they stand in. */
export const transportShape = {
  transport: oneOf(["tls", "clear"]).default("tls"),
  ca: path.optional(),
  certificate: path.optional(),
  key: path.optional(),
};

export type TransportTable = z.output<z.ZodObject<typeof transportShape>>;

const AUTHORITY_KEYS = ["ca", "certificate", "key"] as const;

/** What must hold between the keys. */
export function transportConflictsOf(table: Readonly<Record<string, unknown>>): Conflict[] {
  const given = AUTHORITY_KEYS.filter((key) => table[key] !== undefined);
  if (table["transport"] === "clear") {
    return given.map((key) => ({ key, message: 'is of no use with transport = "clear": leave it out' }));
  }
  if (given.length === 0) return [];
  return AUTHORITY_KEYS.filter((key) => table[key] === undefined).map((key) => ({
    key,
    message: "wanted ca, certificate and key together, or none of them, found none",
  }));
}

/**
 * The transport of a table without conflicts. `names` has the hosts that the configuration names for the other end: for a source
 * its receiver; null where whoever is pinned may be there, which an authority does not allow. Makes this host's identity where
 * it is needed and missing. Throws EIDENTITY, EMODE, EPEERS, and as the system does.
 */
export async function openTransport(table: TransportTable, names: readonly string[] | null): Promise<Transport> {
  if (table.transport === "clear") return clearTransport;
  const [{ tlsTransport }, { authorityTrust, pinTrust }] = await Promise.all([
    import("../replication/tls-transport.ts"),
    import("../replication/trust.ts"),
  ]);
  const { ca, certificate, key } = table;
  if (ca === undefined || certificate === undefined || key === undefined) {
    const [{ hostIdentity }, { readPeers }] = await Promise.all([import("./host-identity.ts"), import("./peers.ts")]);
    // At once, not at the first connection.
    readPeers();
    return tlsTransport({ ...(await hostIdentity()), trust: pinTrust(readPeers, names) });
  }
  if (names === null) {
    throw new UblkError("EIDENTITY", "an authority signs for many: wanted the names of the hosts that may be there");
  }
  const [authority, shown] = await Promise.all([readFile(ca, "utf8"), readFile(certificate, "utf8")]);
  return tlsTransport({ ...(await signedIdentity(shown, key)), trust: authorityTrust(authority, names) });
}

/** An identity that somebody else has made. */
async function signedIdentity(certificate: string, keyPath: string): Promise<HostIdentity> {
  const [{ hostName }, { fingerprintOf }] = await Promise.all([
    import("./host-identity.ts"),
    import("../replication/fingerprint.ts"),
  ]);
  const key = readPrivate(keyPath, "secret");
  try {
    return { name: hostName(), fingerprint: fingerprintOf(createPrivateKey(key)), certificate, key };
  } catch {
    throw new UblkError("EIDENTITY", `${keyPath} is no key, or one with a pass phrase: wanted one in PEM without it`);
  }
}
