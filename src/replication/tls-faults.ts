/** What can go wrong before a connection stands, in a line for people: OpenSSL's own words name its source files. */
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

const NO_TLS = 'it speaks no TLS: both sides have to name the same transport, "tls" or "clear"';
const OLD_TLS = "it has no TLS 1.3, and nothing older is taken";
const NO_SLUICE = "it is no sluice, or one that speaks another version over TLS";

const CLOSED =
  "it closed the connection during the handshake: perhaps it does not know this host, and says so in its log";

const FAULTS: Readonly<Record<string, string>> = {
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_HTTP_REQUEST: NO_TLS,
  ERR_SSL_HTTPS_PROXY_REQUEST: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  ERR_SSL_BAD_RECORD_TYPE: NO_TLS,
  ERR_SSL_UNSUPPORTED_PROTOCOL: OLD_TLS,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: OLD_TLS,
  ERR_SSL_NO_APPLICATION_PROTOCOL: NO_SLUICE,
  ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: NO_SLUICE,
  ERR_TLS_HANDSHAKE_TIMEOUT: "it did not get through the handshake in time",
  ECONNRESET: CLOSED,
  EPIPE: CLOSED,
};

/** Said where the other side has not shown that it is a sluice of this version. */
export function noSluice(): UblkError {
  return new UblkError("ETLS", NO_SLUICE);
}

/** ETLS for a fault of the handshake; the system's code and words for one of the network. */
export function tlsFault(error: Error): UblkError {
  if (error instanceof UblkError) return error;
  const code = codeOf(error) ?? "";
  const fault = FAULTS[code];
  if (fault !== undefined) return new UblkError("ETLS", fault, { cause: error });
  const reason = "reason" in error ? String(error.reason) : firstLine(error);
  return code.startsWith("ERR_")
    ? new UblkError("ETLS", `the handshake failed: ${reason}`, { cause: error })
    : new UblkError(code === "" ? "ETLS" : code, firstLine(error), { cause: error });
}

/** Where a name has several addresses, and none answers, the error of each stands within one that says nothing. */
function firstLine(error: Error): string {
  const [first = error] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  return messageOf(first).split("\n")[0] ?? "";
}
