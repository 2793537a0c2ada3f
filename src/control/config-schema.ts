/**
 * The keys of a configuration file: type, range and default of each, and what must hold between them.
 *
 * Every refusal says what is wanted instead; what was found is added where the fault is told (config-faults.ts). The same
 * keys are described for people in docs/configuration.md, and a test holds the two together.
 */
import * as z from "zod";
import { COMPRESSIONS } from "../replication/compression.ts";
import { MIRROR_MODES, MIRROR_POLICIES } from "../targets/mirror/modes.ts";
import { errnoByName } from "../ublk/errors.ts";
import { choice, oneOf, path, powerOfTwo, seconds, size, wholeNumber, type Conflict } from "./config-values.ts";
import { HOST_NAME_WANTED, isHostName } from "./host-name.ts";
import { parseReceiver } from "./receive-address.ts";
import { transportConflictsOf, transportShape } from "./transport-shape.ts";

/** Each filter may take a place in the path of a request, which has room for 16 layers. */
const FILTERS_MAX = 8;
/** What a crash may cost to copy, unless told otherwise. */
const RECORD_LIMIT_BYTES = 256 * 2 ** 20;
const DELAY_MAX_MS = 3_600_000;
const BLOCK_BYTES = [512, 1024, 2048, 4096] as const;
const OPERATIONS = ["read", "write", "flush", "discard", "write-zeroes"] as const;
const TARGETS = ["file", "memory", "null", "appended"] as const;
/** Those that have a store at a path. */
const STORED_TARGETS: readonly string[] = ["file", "appended"];
const WHEN_FULL = ["invalidate", "stall"] as const;
const FILTERS = ["error", "delay", "trace"] as const;
const toWanted = 'wanted the receiver as "HOST" or "HOST:PORT"';
const INTERVAL_MAX_S = 86_400;
const SILENCE_MAX_S = 600;

const operations = z
  .array(oneOf(OPERATIONS), { error: `wanted a list of ${choice(OPERATIONS)}` })
  .nonempty({ error: `wanted a list of ${choice(OPERATIONS)}` });
const errnoWanted = "wanted the name of an errno, such as EIO";
const errno = z
  .string({ error: errnoWanted })
  .refine((name) => errnoByName(name) !== undefined, { error: errnoWanted });
const rateWanted = "wanted a number from 0 to 1";
const delayWanted = `wanted milliseconds above 0, to ${DELAY_MAX_MS}`;

const errorFilter = z.strictObject({
  kind: z.literal("error"),
  errno: errno.default("EIO"),
  rate: z.number({ error: rateWanted }).min(0, { error: rateWanted }).max(1, { error: rateWanted }).default(1),
  operations: operations.optional(),
  offset: size(0).optional(),
  length: size(1).optional(),
  seed: wholeNumber(1, 0x7fffffff).default(1),
});
const delayFilter = z.strictObject({
  kind: z.literal("delay"),
  ms: z.number({ error: delayWanted }).positive({ error: delayWanted }).max(DELAY_MAX_MS, { error: delayWanted }),
  operations: operations.optional(),
});
const traceFilter = z.strictObject({ kind: z.literal("trace"), file: path });

const recordTable = z.strictObject(
  {
    nvram: path,
    limit: size(1).default(RECORD_LIMIT_BYTES),
  },
  { error: "wanted a table, headed [record]" },
);

const snapshotsTable = z.strictObject(
  {
    store: path,
    when_full: oneOf(WHEN_FULL).default("invalidate"),
    freeze: path.optional(),
  },
  { error: "wanted a table, headed [snapshots]" },
);

const blockWanted = "wanted a power of two from 4KiB to 256KiB";
const logWanted = "wanted a power of two from 4MiB to 1GiB";
const mirrorTable = z.strictObject(
  {
    to: z.string({ error: toWanted }).refine((text) => parseReceiver(text) !== undefined, { error: toWanted }),
    receiver: z.string({ error: HOST_NAME_WANTED }).refine(isHostName, { error: HOST_NAME_WANTED }).optional(),
    ...transportShape,
    mode: oneOf(MIRROR_MODES).default("async"),
    when_down: oneOf(MIRROR_POLICIES).default("continue"),
    interval: seconds(INTERVAL_MAX_S).default(1),
    silence: seconds(SILENCE_MAX_S).default(10),
    checksum: z.boolean({ error: "wanted true or false" }).default(true),
    compression: oneOf(COMPRESSIONS).default("none"),
    copy_limit: size(1).optional(),
    log: powerOfTwo(4 * 2 ** 20, 2 ** 30, logWanted).default(32 * 2 ** 20),
    block_size: powerOfTwo(4096, 2 ** 18, blockWanted).default(4096),
  },
  { error: "wanted a table, headed [mirror]" },
);

const filtersWanted = `wanted at most ${FILTERS_MAX} tables, each headed [[filter]]`;

export const configSchema = z.strictObject({
  target: oneOf(TARGETS).default("file"),
  path: path.optional(),
  size: size(1).optional(),
  logical_block_size: z.literal(BLOCK_BYTES, { error: `wanted ${choice(BLOCK_BYTES)}` }).default(512),
  read_only: z.boolean({ error: "wanted true or false" }).default(false),
  queues: wholeNumber(1, 64).default(1),
  queue_depth: wholeNumber(1, 4096).default(128),
  device: wholeNumber(0, 1_048_575).optional(),
  record: recordTable.optional(),
  snapshots: snapshotsTable.optional(),
  mirror: mirrorTable.optional(),
  filter: z
    .array(
      z.discriminatedUnion("kind", [errorFilter, delayFilter, traceFilter], { error: `wanted ${choice(FILTERS)}` }),
      { error: filtersWanted },
    )
    .max(FILTERS_MAX, { error: filtersWanted })
    .default([]),
});

export type ConfigTable = z.output<typeof configSchema>;

/** Keys by the kind of the table in which they stand; "" is the top of the file. */
export const KEYS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(configSchema.shape),
  record: Object.keys(recordTable.shape),
  snapshots: Object.keys(snapshotsTable.shape),
  mirror: Object.keys(mirrorTable.shape),
  error: Object.keys(errorFilter.shape),
  delay: Object.keys(delayFilter.shape),
  trace: Object.keys(traceFilter.shape),
};

/**
 * What must hold between keys. Looks at each key by itself, so that a conflict is told together with the faults of other
 * keys; a key that is itself at fault takes part in no conflict.
 */
export function conflictsOf(table: Readonly<Record<string, unknown>>): Conflict[] {
  const conflicts: Conflict[] = [];
  const valid = <K extends keyof ConfigTable>(key: K): ConfigTable[K] | undefined =>
    configSchema.shape[key].safeParse(table[key]).data as ConfigTable[K] | undefined;
  const fault = (key: string, message: string): void => void conflicts.push({ key, message });
  const target = valid("target");
  const bytes = valid("size");
  const blockBytes = valid("logical_block_size");
  if (target !== undefined && STORED_TARGETS.includes(target)) {
    if (table["path"] === undefined) {
      fault("path", `wanted the path of ${target === "file" ? "a file or block device" : "an image"}, found none`);
    }
  } else if (target !== undefined) {
    if (table["path"] !== undefined) {
      fault("path", `is for target = ${choice(STORED_TARGETS)} alone, found target = "${target}"`);
    }
    if (table["size"] === undefined) {
      fault("size", `wanted the size of the ${target} volume, such as "1GiB", found none`);
    }
  }
  if (target === "appended") {
    if (table["read_only"] === false) fault("read_only", "an appended image is never written to: leave it out");
    if (table["size"] !== undefined) fault("size", "an appended image says itself how large it is: leave it out");
    for (const key of ["record", "snapshots"] as const) {
      if (table[key] !== undefined) fault(key, "is of no use to an appended image, which is read-only: leave it out");
    }
  }
  if (bytes !== undefined && blockBytes !== undefined && bytes % blockBytes !== 0) {
    fault("size", `wanted a multiple of logical_block_size = ${blockBytes}, found ${bytes} bytes`);
  }
  if (valid("record") !== undefined) {
    if ((valid("queues") ?? 1) > 1) fault("queues", `wanted 1 for a volume with a record, found ${valid("queues")}`);
    if (valid("read_only") === true)
      fault("record", "is of no use to a volume that is read-only: leave out one of them");
  }
  if (valid("snapshots") !== undefined) {
    if ((valid("queues") ?? 1) > 1) fault("queues", `wanted 1 for a volume with snapshots, found ${valid("queues")}`);
    if (valid("read_only") === true)
      fault("snapshots", "are of no use to a volume that is read-only: leave out one of them");
  }
  if (table["mirror"] !== undefined && table["record"] === undefined) {
    fault("mirror", "wanted a [record] too, found none: it knows what the receiver lacks");
  }
  for (const { key, message } of mirrorConflictsOf(table["mirror"])) fault(`mirror.${key}`, message);
  valid("filter")?.forEach((filter, index) => {
    if (filter.kind !== "error" || (filter.offset === undefined) === (filter.length === undefined)) return;
    fault(`filter[${index}]`, "wanted offset and length together, found one of them");
  });
  return conflicts;
}

function mirrorConflictsOf(table: unknown): Conflict[] {
  if (typeof table !== "object" || table === null) return [];
  const mirror = table as Readonly<Record<string, unknown>>;
  const conflicts = transportConflictsOf(mirror);
  const { to, receiver, transport } = mirror;
  const host = typeof to === "string" ? parseReceiver(to)?.host : undefined;
  if (transport !== "clear" && receiver === undefined && host !== undefined && !isHostName(host)) {
    conflicts.push({
      key: "receiver",
      message: `wanted the name that the receiver is known by, found none for ${host}`,
    });
  }
  return conflicts;
}
