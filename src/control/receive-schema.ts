/**
 * The keys of the receiver's configuration: type, range and default of each, and what must hold between them. The same keys are
 * described for people in docs/configuration.md, and a test holds the two together.
 */
import * as z from "zod";
import { isVolumeName, NAME_WANTED } from "./config-name.ts";
import { path, powerOfTwo, wholeNumber, type Conflict } from "./config-values.ts";
import { HOST_NAME_WANTED, isHostName } from "./host-name.ts";
import { isAddress } from "./receive-address.ts";
import { transportConflictsOf, transportShape } from "./transport-shape.ts";

const SILENCE_SECONDS = 10;
const SILENCE_SECONDS_MAX = 3600;
const KEEP = 3;
const KEEP_MAX = 100;
const BLOCK_BYTES = 4096;
/** What a source reads at once for a point. */
const BLOCK_BYTES_MAX = 2 ** 18;
/** Others reach it only where it says so. */
const LISTEN = "127.0.0.1:7450";

const addressWanted = 'wanted an address and a port, such as "192.0.2.1:7450", "[::]:7450" or "7450"';
const blockWanted = "wanted a power of two from 4KiB to 256KiB";
const fromWanted = "wanted a list of the hosts that may be its source";
const volumesWanted = "wanted tables, each headed [[volume]]";
const nameWanted = `wanted ${NAME_WANTED}, and not "receive"`;

const volumeTable = z.strictObject(
  {
    name: z.string({ error: nameWanted }).refine(isVolumeName, { error: nameWanted }),
    path,
    store: path,
    log: path,
    keep: wholeNumber(1, KEEP_MAX).default(KEEP),
    block_size: powerOfTwo(BLOCK_BYTES, BLOCK_BYTES_MAX, blockWanted).default(BLOCK_BYTES),
    from: z
      .array(z.string({ error: HOST_NAME_WANTED }).refine(isHostName, { error: HOST_NAME_WANTED }), {
        error: fromWanted,
      })
      .min(1, { error: fromWanted })
      .optional(),
  },
  { error: volumesWanted },
);

export const receiveSchema = z.strictObject({
  listen: z.string({ error: addressWanted }).refine(isAddress, { error: addressWanted }).default(LISTEN),
  ...transportShape,
  silence: wholeNumber(1, SILENCE_SECONDS_MAX).default(SILENCE_SECONDS),
  volume: z.array(volumeTable, { error: volumesWanted }).min(1, { error: volumesWanted }),
});

/** Keys by the table in which they stand; "" is the top of the file. */
export const RECEIVE_KEYS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(receiveSchema.shape),
  volume: Object.keys(volumeTable.shape),
};

/** No two volumes have the same name, and nothing is used for two things; and who may be a source is told where it can be known. */
export function receiveConflictsOf(table: Readonly<Record<string, unknown>>): Conflict[] {
  const conflicts: Conflict[] = [...transportConflictsOf(table), ...sourceConflictsOf(table)];
  const volumes = Array.isArray(table["volume"]) ? (table["volume"] as unknown[]) : [];
  for (const keys of [["name"], ["path", "store", "log"]] as const) {
    const seen = new Map<string, string>();
    volumes.forEach((volume, index) => {
      if (typeof volume !== "object" || volume === null) return;
      for (const key of keys) {
        const value = (volume as Readonly<Record<string, unknown>>)[key];
        if (typeof value !== "string") continue;
        const place = `volume[${index}].${key}`;
        const other = seen.get(value);
        if (other === undefined) seen.set(value, place);
        else conflicts.push({ key: place, message: `wanted another than that of ${other}, found "${value}"` });
      }
    });
  }
  return conflicts;
}

function sourceConflictsOf({ transport, ca, volume }: Readonly<Record<string, unknown>>): Conflict[] {
  const volumes = Array.isArray(volume) ? (volume as unknown[]) : [];
  return volumes.flatMap((each, index) => {
    if (typeof each !== "object" || each === null) return [];
    const key = `volume[${index}].from`;
    const isTold = "from" in each;
    if (transport === "clear" && isTold) {
      return [{ key, message: 'is of no use with transport = "clear", which proves nothing: leave it out' }];
    }
    if (ca !== undefined && !isTold) {
      return [{ key, message: "wanted the hosts that may be its source, found none: an authority signs for many" }];
    }
    return [];
  });
}
