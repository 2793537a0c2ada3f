/** Addresses as people write them. To listen at: HOST:PORT, [HOST]:PORT for one with colons, or PORT for all addresses of IPv4. */
import type { Address } from "../replication/transport.ts";
import { UblkError } from "../ublk/errors.ts";

const PATTERN = /^(?:(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s:[\]]+)):)?(\d{1,5})$/;
const ALL = "0.0.0.0";
const PORT_MAX = 65_535;

export function isAddress(text: string): boolean {
  const port = Number(PATTERN.exec(text)?.[3] ?? 0);
  return port >= 1 && port <= PORT_MAX;
}

/** Throws EINVAL for a text that is none. */
export function parseAddress(text: string): Address {
  const match = PATTERN.exec(text);
  if (match === null || !isAddress(text)) throw new UblkError("EINVAL", `"${text}" is no address`);
  const [, bracketed, plain, port] = match;
  return { host: bracketed ?? plain ?? ALL, port: Number(port) };
}

/** The port of a receiver, unless it is told. */
const RECEIVER_PORT = 7450;
const RECEIVER = /^(?:\[([^\s\]]+)\]|([^\s:/[\]]+))(?::(\d{1,5}))?$/;

/** A receiver as its source names it: HOST, HOST:PORT, [IPV6] or [IPV6]:PORT; undefined for a text that is none. */
export function parseReceiver(text: string): Address | undefined {
  const match = RECEIVER.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3] ?? RECEIVER_PORT);
  return port >= 1 && port <= PORT_MAX ? { host: match[1] ?? match[2] ?? "", port } : undefined;
}

export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
