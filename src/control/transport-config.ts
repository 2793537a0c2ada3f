/** Opens the transport that a configuration names (transport-shape.ts). */
import { createPrivateKey } from "node:crypto";
import { readFile } from "node:fs/promises";
import { clearTransport, type Transport } from "../replication/transport.ts";
import { UblkError } from "../ublk/errors.ts";
import type { HostIdentity } from "./host-identity.ts";
import { readPrivate } from "./private-file.ts";
import type { TransportTable } from "./transport-shape.ts";

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
