/** Addresses to listen at, as people write them: HOST:PORT, [HOST]:PORT for one with colons, or PORT for all addresses of IPv4. */
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

export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
