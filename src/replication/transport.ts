/** How source and receiver of a mirror reach each other: a stream of bytes in order, of a kind that both sides have named. */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** Where a receiver listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Who is at the other end, as far as the transport knows it; null where it does not ("clear"). */
export type Peer = string | null;

export interface Transport {
  /**
   * Resolves with a stream that is ready to be written to, once both sides know each other as far as the transport can tell.
   * `signal` ends the attempt.
   */
  connect(address: Address, signal: AbortSignal): Promise<Duplex>;
  /** Resolves when connections are taken. What fails before a stream is ready goes to `onRefused`. */
  listen(
    address: Address,
    onConnection: (stream: Duplex, peer: Peer, from: string) => void,
    onRefused: (error: Error, from: string) => void,
  ): Promise<Server>;
}

/** The other end of a socket, for messages. */
export function addressOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? "?"}:${remotePort ?? "?"}`;
}

/** Bytes as they are, for links that are trusted or tunnelled. */
export const clearTransport: Transport = {
  connect: (address, signal) =>
    new Promise((resolve, reject) => {
      const socket = connect({ ...address, noDelay: true, signal });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(socket);
      });
    }),
  listen: (address, onConnection) =>
    new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true }, (socket) => {
        onConnection(socket, null, addressOf(socket));
      });
      server.once("error", reject);
      server.listen(address, () => {
        server.off("error", reject);
        resolve(server);
      });
    }),
};
