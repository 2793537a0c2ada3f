/**
 * The configuration of a volume: one TOML file, checked as a whole before anything is touched.
 *
 * Every fault is one line, `FILE: KEY: wanted ..., found ...`, and all faults of a file are told at once. A key that does
 * not exist is refused, with the nearest one that does.
 */
import { readFile } from "node:fs/promises";
import type { Compression } from "../replication/compression.ts";
import type { Address } from "../replication/transport.ts";
import type { MirrorMode, MirrorPolicy } from "../targets/mirror/modes.ts";
import type { BackingSpec, FilterSpec, MirrorSpec, RecordSpec, SnapshotSpec, VolumeSpec } from "../targets/volume.ts";
import { codeOf, messageOf } from "../ublk/errors.ts";
import { configFile, ConfigError } from "./config-name.ts";
import { configSchema, conflictsOf, KEYS, type ConfigTable } from "./config-schema.ts";
import { checkedTable } from "./config-table.ts";
import { ownerOf } from "./identity.ts";
import { lossNotePath, memoryPath } from "./paths.ts";
import { parseReceiver } from "./receive-address.ts";
import type { TransportTable } from "./transport-shape.ts";

/** What a file describes. */
export interface VolumeConfig {
  readonly name: string;
  readonly file: string;
  readonly volume: VolumeSpec;
  readonly queues: number;
  readonly depth: number;
  /** Wanted N of /dev/ublkbN; null to let the kernel choose. */
  readonly device: number | null;
  /** The program that brings applications to rest around a snapshot; null for none. */
  readonly freezeProgram: string | null;
  /** Where the volume is mirrored to; null for a volume that is not. */
  readonly mirror: MirrorConfig | null;
}

export interface MirrorConfig {
  /** The receiver. */
  readonly to: Address;
  /** What its key is known by here. */
  readonly receiver: string;
  readonly transport: TransportTable;
  readonly mode: MirrorMode;
  readonly policy: MirrorPolicy;
  /** Between two consistency points, where something was written. */
  readonly intervalMs: number;
  /** Who hears nothing for so long takes the connection for lost. */
  readonly silenceMs: number;
  /** What is to be copied is compared first. */
  readonly isComparing: boolean;
  readonly compression: Compression;
  /** Of what is copied to a receiver that was away; null for no limit. */
  readonly copyBytesPerSecond: number | null;
}

/** Reads and checks the configuration of a volume. Throws ConfigError. */
export async function readConfig(nameOrPath: string): Promise<VolumeConfig> {
  const { name, file } = configFile(nameOrPath);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT") throw new ConfigError([`${file} does not exist: there is no volume "${name}"`]);
    throw new ConfigError([`${file} cannot be read: ${messageOf(error)}`]);
  }
  return parseConfig(text, name, file);
}

/** Checks the text of a configuration file. Throws ConfigError. */
export function parseConfig(text: string, name: string, file: string): VolumeConfig {
  const table = checkedTable(text, file, { schema: configSchema, keys: KEYS, conflictsOf });
  return {
    name,
    file,
    volume: {
      backing: backingOf(name, table),
      sizeBytes: table.size ?? null,
      logicalBlockBytes: table.logical_block_size,
      readOnly: table.read_only || table.target === "appended",
      record: recordOf(name, table),
      mirror: mirrorSpecOf(table),
      snapshots: snapshotsOf(name, table),
      filters: table.filter.map(filterOf),
    },
    queues: table.queues,
    depth: table.queue_depth,
    device: table.device ?? null,
    freezeProgram: table.snapshots?.freeze ?? null,
    mirror: mirrorOf(table),
  };
}

function backingOf(name: string, config: ConfigTable): BackingSpec {
  const sizeBytes = config.size ?? 0;
  switch (config.target) {
    case "file":
    case "appended":
      return { kind: config.target, path: config.path ?? "" };
    case "memory":
      return { kind: "memory", path: memoryPath(name), sizeBytes };
    case "null":
      return { kind: "null", sizeBytes };
  }
}

function recordOf(name: string, { record }: ConfigTable): RecordSpec | null {
  if (record === undefined) return null;
  return { path: record.nvram, limitBytes: record.limit, ...ownerOf(name) };
}

function mirrorSpecOf({ mirror }: ConfigTable): MirrorSpec | null {
  return mirror === undefined ? null : { logBytes: mirror.log, blockBytes: mirror.block_size };
}

function mirrorOf({ mirror }: ConfigTable): MirrorConfig | null {
  if (mirror === undefined) return null;
  const { transport, ca, certificate, key, mode, when_down: policy, interval, silence, checksum } = mirror;
  const to = parseReceiver(mirror.to) as Address;
  return {
    ...{ to, receiver: mirror.receiver ?? to.host, transport: { transport, ca, certificate, key }, mode, policy },
    intervalMs: interval * 1000,
    silenceMs: silence * 1000,
    isComparing: checksum,
    compression: mirror.compression,
    copyBytesPerSecond: mirror.copy_limit ?? null,
  };
}

function snapshotsOf(name: string, { snapshots }: ConfigTable): SnapshotSpec | null {
  if (snapshots === undefined) return null;
  const { store, when_full: fullPolicy } = snapshots;
  return { path: store, fullPolicy, ...ownerOf(name), lossNotePath: lossNotePath(name) };
}

function filterOf(filter: ConfigTable["filter"][number]): FilterSpec {
  switch (filter.kind) {
    case "error":
      return {
        kind: "error",
        errno: filter.errno,
        rate: filter.rate,
        operations: filter.operations ?? null,
        range:
          filter.offset === undefined || filter.length === undefined
            ? null
            : { offsetBytes: filter.offset, lengthBytes: filter.length },
        seed: filter.seed,
      };
    case "delay":
      return { kind: "delay", delayMs: filter.ms, operations: filter.operations ?? null };
    case "trace":
      return { kind: "trace", path: filter.file };
  }
}
