/** What the commands' pages have in common. */
import type { Argv } from "yargs";
import { parseSize } from "../control/sizes.ts";
import { configFile } from "../control/config-name.ts";
import { isRecordSize } from "../targets/record-size.ts";
import { UblkError } from "../ublk/errors.ts";

const RECORD_BYTES = 2 ** 20;

/** What a command does, unless its line is only being completed. */
export type Act = <A>(action: (given: A) => unknown) => (given: A) => Promise<void>;

/** The page of one command: how it is written, what it does in sentences, examples. */
export function page<T>(
  command: Argv<T>,
  form: string,
  about: readonly string[],
  ...examples: [string, string][]
): Argv<T> {
  return command
    .usage(`$0 ${form}\n\n${about.join("\n")}`)
    .example(examples)
    .epilogue("Exit status: 0 done, 1 failed, 2 wrong usage.");
}

export function withName<T>(command: Argv<T>): Argv<T & { name: string }> {
  return command.positional("name", { type: "string", demandOption: true, describe: "name of the volume" });
}

/** What a restore writes to. */
export function withRestoreTarget<T>(command: Argv<T>): Argv<T & { device: string; force: boolean }> {
  return command
    .positional("device", { type: "string", demandOption: true, describe: "device, or file, which is made" })
    .option("force", { type: "boolean", default: false, describe: "overwrite a file that exists" });
}

/** Said of each restore. */
export const ABOUT_RESTORE_TARGET = [
  "A device is overwritten. A file is made, and has the name FILE.sluice-restore until it is whole:",
  "ask again for a restore that was interrupted. A file that exists is refused without --force.",
];

/** Bytes; undefined where nothing is given. Throws EUSAGE. */
export function sizeArgument(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined || bytes === 0) {
    throw new UblkError("EUSAGE", `wanted a size such as 10GiB, found "${text}"`);
  }
  return bytes;
}

/** Of an option. Throws EUSAGE. */
export function seconds(value: unknown): number {
  const number = Number(value);
  if (value === "" || !Number.isFinite(number) || number < 0) {
    throw new UblkError("EUSAGE", `wanted a number of seconds, found "${String(value)}"`);
  }
  return number;
}

/** OFFSET+LENGTH, in bytes or with units. Throws EUSAGE. */
export function rangeArgument(text: string): { readonly offset: number; readonly length: number } {
  const [offset, length, ...rest] = text.split("+").map((part) => parseSize(part));
  if (offset === undefined || length === undefined || length === 0 || rest.length > 0) {
    throw new UblkError("EUSAGE", `wanted a range such as 10GiB+512MiB, found "${text}"`);
  }
  return { offset, length };
}

/** Commands that talk to a daemon mean a volume by its name; the name is checked like that of a file. Throws ConfigError. */
export function volumeName(name: string): string {
  return configFile(name).name;
}

/** The volumes that are named with commas between them. Throws EUSAGE, ConfigError. */
export function volumeNames(names: string): string[] {
  const volumes = names.split(",").map(volumeName);
  const twice = volumes.find((volume, index) => volumes.indexOf(volume) !== index);
  if (twice !== undefined) throw new UblkError("EUSAGE", `volume ${twice} is named twice`);
  return volumes;
}

/** The size of a stream's records, `--record`. Throws EUSAGE. */
export function recordArgument(text: string | undefined): number {
  const bytes = sizeArgument(text) ?? RECORD_BYTES;
  if (isRecordSize(bytes)) return bytes;
  throw new UblkError("EUSAGE", `--record: wanted a power of two from 4KiB to 16MiB, found "${text ?? ""}"`);
}
