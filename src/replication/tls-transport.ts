/**
 * TLS 1.3 between source and receiver, with a certificate on both sides.
 *
 * Invariant: a stream is given to either side only when both have found out who the other one is, and agree with it. In TLS 1.3
 * whoever connects is through before its own certificate was looked at; so the receiver says one byte first, ahead of all
 * frames: 1 the source is known here, 2 its key is not, 3 its certificate is refused.
 *
 * Each connection has a handshake of its own: sessions are not resumed, so a key that is forgotten is so from the next
 * connection on. Nothing secret is in any message.
 */
import { constants, X509Certificate } from "node:crypto";
import type { Server } from "node:net";
import type { Duplex } from "node:stream";
import {
  type CommonConnectionOptions,
  connect,
  type ConnectionOptions,
  createSecureContext,
  createServer,
  type SecureContextOptions,
  type TLSSocket,
} from "node:tls";
import { UblkError } from "../ublk/errors.ts";
import { noSluice, tlsFault } from "./tls-faults.ts";
import { type Address, addressOf, type Transport } from "./transport.ts";
import type { Trust } from "./trust.ts";

/** Agreed upon by ALPN. It has a new number when what comes before the frames changes. */
const PROTOCOL = "sluice/1";
/** For all from the first packet to the receiver's byte. */
const DEADLINE_MS = 10_000;
const VERDICT = { known: 1, unknownKey: 2, refused: 3 } as const;

/** Who this side is, and whom it takes for whom. */
export interface TlsIdentity {
  /** What this host is called, and the fingerprint of its key: what the other side is to be told. */
  readonly name: string;
  readonly fingerprint: string;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly trust: Trust;
}

/** Throws EIDENTITY where certificate, key and authority are of no use, or not of each other. */
export function tlsTransport(identity: TlsIdentity, deadlineMs: number = DEADLINE_MS): Transport {
  const options = optionsOf(identity);
  return {
    connect: (address, signal) => connectTo(address, signal, identity, options, deadlineMs),
    listen: (address, onConnection, onRefused) =>
      new Promise((resolve, reject) => {
        const server = createServer(
          { ...options, requestCert: true, noDelay: true, handshakeTimeout: deadlineMs },
          (socket) => {
            greet(socket, identity.trust, deadlineMs, onConnection, onRefused);
          },
        );
        server.on("tlsClientError", (error, socket) => {
          onRefused(tlsFault(error), addressOf(socket));
          // Node.js tells of a handshake that takes too long, and leaves the socket open.
          socket.destroy();
        });
        server.once("error", reject);
        server.listen(address, () => {
          server.off("error", reject);
          resolve(server satisfies Server);
        });
      }),
  };
}

/** What both sides have in common. Certificates are judged by `peerOf`, since OpenSSL knows of no pins. */
function optionsOf({ certificate, key, trust }: TlsIdentity): SecureContextOptions & CommonConnectionOptions {
  const options: SecureContextOptions = {
    cert: certificate,
    key,
    // Without a list there would be the public authorities.
    ca: trust.ca === undefined ? [] : [trust.ca],
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
  try {
    // OpenSSL takes a text without a certificate for an authority that signs nothing.
    if (trust.ca !== undefined) new X509Certificate(trust.ca);
    createSecureContext(options);
  } catch (error) {
    const { message } = tlsFault(error as Error);
    throw new UblkError("EIDENTITY", `certificate, key or authority cannot be used: ${message}`, { cause: error });
  }
  return { ...options, ALPNProtocols: [PROTOCOL], rejectUnauthorized: false };
}

/** Throws EPEER for nobody that is known here, ETLS for what is no sluice. */
function peerOf(socket: TLSSocket, trust: Trust): string {
  if (socket.alpnProtocol !== PROTOCOL) throw noSluice();
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new UblkError("EPEER", "it shows no certificate");
  return trust.nameOf(certificate, socket.authorized ? undefined : String(socket.authorizationError));
}

/** The receiver's side, after the handshake. */
function greet(
  socket: TLSSocket,
  trust: Trust,
  deadlineMs: number,
  onConnection: Parameters<Transport["listen"]>[1],
  onRefused: Parameters<Transport["listen"]>[2],
): void {
  // Whoever has the stream hears of its errors by its close as well.
  socket.on("error", () => undefined);
  const from = addressOf(socket);
  let peer: string;
  try {
    peer = peerOf(socket, trust);
  } catch (error) {
    onRefused(error as Error, from);
    socket.end(Uint8Array.of(trust.ca === undefined ? VERDICT.unknownKey : VERDICT.refused));
    // What it sends is read, and dropped: closed over unread bytes, the link might lose the verdict.
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), deadlineMs);
    socket.once("close", () => {
      clearTimeout(timer);
    });
    return;
  }
  socket.write(Uint8Array.of(VERDICT.known));
  onConnection(socket, peer, from);
}

/** The source's side. */
function connectTo(
  address: Address,
  signal: AbortSignal,
  identity: TlsIdentity,
  options: ConnectionOptions,
  deadlineMs: number,
): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = connect({
      ...options,
      ...address,
      // No name is told in clear, and none is compared: `peerOf` does that.
      servername: "",
      checkServerIdentity: () => undefined,
    });
    socket.on("error", () => undefined);
    const timer = setTimeout(() => {
      fail(new UblkError("ETLS", `it did not get through the handshake within ${deadlineMs / 1000} s`));
    }, deadlineMs);
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.off("error", fail).off("close", onClose).off("readable", onReadable);
    };
    const fail = (error: Error): void => {
      settle();
      socket.destroy();
      const { code, message } = tlsFault(error);
      reject(new UblkError(code, `${address.host}:${address.port}: ${message}`, { cause: error }));
    };
    const onAbort = (): void => {
      settle();
      socket.destroy();
      reject(signal.reason as Error);
    };
    const onClose = (): void => {
      fail(new UblkError("ETLS", "it closed the connection before it said whether it knows this host"));
    };
    const onReadable = (): void => {
      const verdict = socket.read(1) as Uint8Array | null;
      if (verdict === null) return;
      if (verdict[0] !== VERDICT.known) {
        fail(refusal(verdict[0], identity));
        return;
      }
      settle();
      resolve(socket);
    };
    signal.addEventListener("abort", onAbort);
    socket.once("error", fail);
    socket.once("close", onClose);
    socket.once("secureConnect", () => {
      try {
        peerOf(socket, identity.trust);
        socket.setNoDelay(true);
        socket.on("readable", onReadable);
      } catch (error) {
        fail(error as Error);
      }
    });
  });
}

function refusal(verdict: number | undefined, { name, fingerprint }: TlsIdentity): UblkError {
  switch (verdict) {
    case VERDICT.unknownKey:
      return new UblkError(
        "EPEER",
        `the receiver does not know this host: there run sluice identity trust ${name} ${fingerprint}`,
      );
    case VERDICT.refused:
      return new UblkError("EPEER", "the receiver refuses this host's certificate: its log says why");
    default:
      return noSluice();
  }
}
