/** How source and receiver of a mirror reach each other: a stream of bytes in order, of a kind that both sides have named. */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

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

/** An error in one line, with the address that was tried, and its code. */
export function networkFault(error: Error, { host, port }: Address): UblkError {
  return new UblkError(codeOf(error) ?? "ELINK", `${host}:${port}: ${firstLine(error)}`, { cause: error });
}

/** Where a name has several addresses, and none answers, the error of each stands within one that says nothing. */
export function firstLine(error: Error): string {
  const [first = error] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  return messageOf(first).split("\n")[0] ?? "";
}

/** Bytes as they are, for links that are trusted or tunnelled. */
export const clearTransport: Transport = {
  connect: (address, signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const socket = connect({ ...address, noDelay: true });
      // Whoever has the stream hears of its errors by its close as well.
      socket.on("error", () => undefined);
      // Not Node's own signal of a socket: that would end the stream too, long after the attempt.
      const onAbort = (): void => {
        socket.destroy();
        reject(signal.reason as Error);
      };
      const settle = (): void => {
        signal.removeEventListener("abort", onAbort);
        socket.off("error", onError);
      };
      const onError = (error: Error): void => {
        settle();
        reject(networkFault(error, address));
      };
      signal.addEventListener("abort", onAbort, { once: true });
      socket.once("error", onError);
      socket.once("connect", () => {
        settle();
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
