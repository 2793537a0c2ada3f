/**
 * The configuration of a volume: one TOML file, checked as a whole before anything is touched.
 *
 * Every fault is one line, `FILE: KEY: what is wrong`, and all faults of a file are told at once. A key that does not
 * exist is refused, with the nearest one that does.
 */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { closest, distance } from "fastest-levenshtein";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import type { BackingSpec, FilterSpec, VolumeSpec } from "../targets/volume.ts";
import { codeOf, errnoByName, messageOf, UblkError } from "../ublk/errors.ts";
import { configPath, memoryPath } from "./paths.ts";
import { parseSize } from "./sizes.ts";

/** What a file describes. */
export interface VolumeConfig {
  readonly name: string;
  readonly file: string;
  readonly volume: VolumeSpec;
  readonly queues: number;
  readonly depth: number;
  /** Wanted N of /dev/ublkbN; null to let the kernel choose. */
  readonly device: number | null;
}

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

const size = z
  .union([z.string(), z.int().positive()], { error: 'wanted a size such as "10GiB"' })
  .transform((value, context) => {
    const bytes = typeof value === "number" ? value : parseSize(value);
    if (bytes !== undefined && bytes > 0) return bytes;
    context.addIssue({ code: "custom", message: `"${String(value)}" is no size: wanted one such as "10GiB"` });
    return z.NEVER;
  });
const path = z.string().startsWith("/", { error: "wanted an absolute path" });
const operations = z.array(z.enum(["read", "write", "flush", "discard", "write-zeroes"])).nonempty();
const errno = z
  .string()
  .refine((name) => errnoByName(name) !== undefined, { error: "wanted the name of an errno, such as EIO" });

const errorFilter = z.strictObject({
  kind: z.literal("error"),
  errno: errno.default("EIO"),
  rate: z.number().min(0).max(1).default(1),
  operations: operations.optional(),
  offset: size.or(z.literal(0)).optional(),
  length: size.optional(),
  seed: z.int().min(1).max(0x7fffffff).default(1),
});
const delayFilter = z.strictObject({
  kind: z.literal("delay"),
  ms: z.number().positive().max(3_600_000),
  operations: operations.optional(),
});
const traceFilter = z.strictObject({ kind: z.literal("trace"), file: path });

const schema = z
  .strictObject({
    target: z.enum(["file", "memory", "null"]).default("file"),
    path: path.optional(),
    size: size.optional(),
    logical_block_size: z.literal([512, 1024, 2048, 4096]).default(512),
    read_only: z.boolean().default(false),
    queues: z.int().min(1).max(64).default(1),
    queue_depth: z.int().min(1).max(4096).default(128),
    device: z.int().min(0).max(1_048_575).optional(),
    filter: z.array(z.discriminatedUnion("kind", [errorFilter, delayFilter, traceFilter])).default([]),
  })
  .superRefine((config, context) => {
    const fault = (key: string, message: string): void => {
      context.addIssue({ code: "custom", path: [key], message });
    };
    if (config.target === "file" && config.path === undefined) {
      fault("path", "is missing: a file volume needs the path of a file or block device");
    }
    if (config.target !== "file" && config.path !== undefined) fault("path", `is only for target = "file"`);
    if (config.target !== "file" && config.size === undefined) {
      fault("size", `is missing: a ${config.target} volume needs one, such as size = "1GiB"`);
    }
    if (config.size !== undefined && config.size % config.logical_block_size !== 0) {
      fault("size", `${config.size} is no multiple of logical_block_size = ${config.logical_block_size}`);
    }
    config.filter.forEach((filter, index) => {
      if (filter.kind === "error" && (filter.offset === undefined) !== (filter.length === undefined)) {
        fault(`filter[${index}]`, "offset and length go together");
      }
    });
  });

type Parsed = z.output<typeof schema>;

/** Keys by the place where they stand, for telling which one was meant. */
const KEYS = {
  "": Object.keys(schema.shape),
  error: Object.keys(errorFilter.shape),
  delay: Object.keys(delayFilter.shape),
  trace: Object.keys(traceFilter.shape),
} as const;

/** The file that a name or a path means. A word with a slash, or ending in .toml, is a path. */
export function configFile(nameOrPath: string): { name: string; file: string } {
  const isPath = nameOrPath.includes("/") || nameOrPath.endsWith(".toml");
  const name = isPath ? basename(nameOrPath).replace(/\.toml$/, "") : nameOrPath;
  if (!NAME.test(name)) {
    throw new ConfigError([
      `"${name}" is no name for a volume: wanted up to 64 of a-z, 0-9, ".", "_" and "-", starting with a letter or digit`,
    ]);
  }
  return { name, file: isPath ? nameOrPath : configPath(name) };
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
  let table: unknown;
  try {
    table = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what = "not TOML"] = error.message.split("\n");
    throw new ConfigError([`${file}: line ${error.line}, column ${error.column}: ${what}`]);
  }
  const result = schema.safeParse(table);
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.flatMap((issue) => faultsOf(issue, table).map((fault) => `${file}: ${fault}`)),
    );
  }
  return {
    name,
    file,
    volume: {
      backing: backingOf(name, result.data),
      sizeBytes: result.data.size ?? null,
      logicalBlockBytes: result.data.logical_block_size,
      readOnly: result.data.read_only,
      filters: result.data.filter.map(filterOf),
    },
    queues: result.data.queues,
    depth: result.data.queue_depth,
    device: result.data.device ?? null,
  };
}

function faultsOf(issue: z.core.$ZodIssue, table: unknown): string[] {
  const where = issue.path.reduce<string>(
    (text, key) => (typeof key === "number" ? `${text}[${key}]` : `${text}${text === "" ? "" : "."}${String(key)}`),
    "",
  );
  if (issue.code === "unrecognized_keys") {
    const place = valueAt(table, issue.path);
    const kind = (place as { kind?: string }).kind;
    const known: readonly string[] =
      KEYS[kind !== undefined && Object.hasOwn(KEYS, kind) ? (kind as keyof typeof KEYS) : ""];
    return issue.keys.map(
      (key) => `${where === "" ? "" : `${where}.`}${key}: there is no such key${suggestion(key, known)}`,
    );
  }
  const found = valueAt(table, issue.path);
  const shown = found === undefined || typeof found === "object" ? "" : `, found ${JSON.stringify(found)}`;
  return [`${where}: ${issue.message}${issue.code === "custom" ? "" : shown}`];
}

function suggestion(key: string, known: readonly string[]): string {
  const nearest = closest(key, [...known]);
  return distance(key, nearest) <= Math.max(2, key.length / 2)
    ? `: did you mean ${nearest}?`
    : `; there are ${known.join(", ")}`;
}

function valueAt(table: unknown, keys: readonly PropertyKey[]): unknown {
  return keys.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    table,
  );
}

function backingOf(name: string, config: Parsed): BackingSpec {
  const sizeBytes = config.size ?? 0;
  switch (config.target) {
    case "file":
      return { kind: "file", path: config.path ?? "" };
    case "memory":
      return { kind: "memory", path: memoryPath(name), sizeBytes };
    case "null":
      return { kind: "null", sizeBytes };
  }
}

function filterOf(filter: Parsed["filter"][number]): FilterSpec {
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
