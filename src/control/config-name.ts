/**
 * The names of volumes, and where the configuration of each is. Most commands need no more than this of it, so nothing here
 * reads a configuration: that is config.ts.
 */
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { UblkError } from "../ublk/errors.ts";
import { configDirectory, configPath, runtimeDirectory } from "./paths.ts";

/** A configuration that cannot be used; `faults` has a line each. */
export class ConfigError extends UblkError {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super("ECONFIG", faults.join("\n"));
    this.faults = faults;
  }
}

/** What udev and systemd take without escaping. */
const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/;
export const NAME_WANTED = 'up to 64 of a-z, 0-9, ".", "_" and "-", starting with a letter or digit';
/** No volume has this name: its files are those of the receiver of mirrored volumes. */
export const RECEIVER = "receive";

export function isVolumeName(name: string): boolean {
  return NAME.test(name) && name !== RECEIVER;
}

/** The file that a name or a path means. A word with a slash, or ending in .toml, is a path. Throws ConfigError. */
export function configFile(nameOrPath: string): { name: string; file: string } {
  const isPath = nameOrPath.includes("/") || nameOrPath.endsWith(".toml");
  const name = isPath ? basename(nameOrPath).replace(/\.toml$/, "") : nameOrPath;
  if (name === RECEIVER) {
    throw new ConfigError([`"${name}" is no name for a volume: it means the receiver (see sluice receive --help)`]);
  }
  if (!isVolumeName(name)) throw new ConfigError([`"${name}" is no name for a volume: wanted ${NAME_WANTED}`]);
  return { name, file: isPath ? nameOrPath : configPath(name) };
}

/** Volumes that have a configuration. */
export function configuredVolumes(): string[] {
  return namesIn(configDirectory(), ".toml");
}

/** Volumes whose daemon runs, or has died. */
export function startedVolumes(): string[] {
  return namesIn(runtimeDirectory(), ".sock");
}

/** None where the directory cannot be read. */
function namesIn(directory: string, suffix: string): string[] {
  try {
    const entries = readdirSync(directory);
    const names = entries.filter((entry) => entry.endsWith(suffix)).map((entry) => entry.slice(0, -suffix.length));
    return names.filter((name) => name !== RECEIVER);
  } catch {
    return [];
  }
}
