/** The configuration of the receiver of mirrored volumes: one TOML file, read and checked as that of a volume is. */
import { readFile } from "node:fs/promises";
import type { Address } from "../replication/transport.ts";
import { codeOf, messageOf } from "../ublk/errors.ts";
import { ConfigError, RECEIVER } from "./config-name.ts";
import { checkedTable } from "./config-table.ts";
import { configPath } from "./paths.ts";
import { parseAddress } from "./receive-address.ts";
import { RECEIVE_KEYS, receiveConflictsOf, receiveSchema } from "./receive-schema.ts";
import type { TransportTable } from "./transport-shape.ts";

/** A volume that is mirrored to here. */
export interface ReceivedSpec {
  readonly name: string;
  /** The image, the copy-on-write store of the points that are kept, and the log: files or block devices. */
  readonly path: string;
  readonly store: string;
  readonly log: string;
  /** Closed points that are kept, the last one among them. */
  readonly keep: number;
  /** Of a block of consistency points; its source must have the same. */
  readonly blockBytes: number;
  /** The hosts that may be its source; null for all that are known here. */
  readonly from: readonly string[] | null;
}

export interface ReceiveConfig {
  readonly file: string;
  readonly listen: Address;
  readonly transport: TransportTable;
  /** Who is silent for so long is taken for lost. */
  readonly silenceMs: number;
  readonly volumes: readonly ReceivedSpec[];
}

/** Reads and checks the receiver's configuration. Throws ConfigError. */
export async function readReceiveConfig(): Promise<ReceiveConfig> {
  const file = configPath(RECEIVER);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") {
      throw new ConfigError([`${file} does not exist: it says which volumes are mirrored to here`]);
    }
    throw new ConfigError([`${file} cannot be read: ${messageOf(error)}`]);
  }
  return parseReceiveConfig(text, file);
}

/** Checks the text of a configuration file. Throws ConfigError. */
export function parseReceiveConfig(text: string, file: string): ReceiveConfig {
  const table = checkedTable(text, file, {
    schema: receiveSchema,
    keys: RECEIVE_KEYS,
    conflictsOf: receiveConflictsOf,
  });
  return {
    file,
    listen: parseAddress(table.listen),
    transport: { transport: table.transport, ca: table.ca, certificate: table.certificate, key: table.key },
    silenceMs: table.silence * 1000,
    volumes: table.volume.map(({ block_size: blockBytes, from, ...volume }) => ({
      ...volume,
      blockBytes,
      from: from ?? null,
    })),
  };
}

/** Throws ENOENT's line for a volume that the configuration does not tell of. */
export function specOf(config: ReceiveConfig, name: string): ReceivedSpec {
  const spec = config.volumes.find((volume) => volume.name === name);
  if (spec !== undefined) return spec;
  const names = config.volumes.map((volume) => volume.name).join(", ");
  throw new ConfigError([`${config.file}: has no volume "${name}", wanted one of ${names}`]);
}
