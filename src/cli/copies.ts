/** `sluice copy`: its commands, and what they print. */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Argv } from "yargs";
import { askCopies, askCopy, askCopyCancel, askCopyRemainder, askCopyStart } from "../control/client.ts";
import type { CopyGroupRow, NewCopies } from "../control/copy-group.ts";
import type { CopyRow } from "../control/copy-status.ts";
import { formatDuration, formatSize } from "../control/sizes.ts";
import { COPY_ORDERS } from "../copy/segment-list.ts";
import { UblkError } from "../ublk/errors.ts";
import { print, table } from "./output.ts";
import {
  ABOUT_RESTORE_TARGET,
  page,
  rangeArgument,
  recordArgument,
  sizeArgument,
  volumeName,
  volumeNames,
  withName,
  withRestoreTarget,
  type Act,
} from "./page.ts";

const SEGMENT = "1MiB";
const WATCH_MS = 1_000;
const STDOUT = "/dev/stdout";

function withCopy<T>(command: Argv<T>): Argv<T & { name: string; copy: string }> {
  return withName(command).positional("copy", { type: "string", demandOption: true, describe: "name of the copy job" });
}

/** The commands below `sluice copy`. */
export function copyCommands(command: Argv, json: boolean, act: Act): Argv {
  const printRow = (row: CopyRow): void => print(json, row, () => describeCopy(row));
  return command
    .usage("$0 copy ACTION")
    .command(
      "start <name> <destination..>",
      "copy a volume, or several, as they are now, while they go on being written",
      (start) =>
        page(
          withName(start).positional("destination", {
            type: "string",
            array: true,
            demandOption: true,
            describe:
              "files or block devices: each gets the whole volume, which is read once; with --stream also /dev/stdout; " +
              "of several volumes folders",
          }),
          "copy start NAME[,NAME...] DESTINATION... [OPTION]...",
          [
            "Begins to copy a running volume as it is at this moment, and returns: what is overwritten",
            "before the copy has come there is kept in the store of originals. The job goes on after a crash",
            "or a restart. A destination that is slow holds up the job, never the volume's users.",
            "",
            "Of several volumes, with commas between them, all copies are of one instant: what was",
            "acknowledged on one of them before a write to another was begun is never missing where the",
            "later one is. Writes to all of them wait meanwhile, for ten seconds at most. Either all begin,",
            "or none. A destination is a folder then, which gets NAME.img of each, or NAME.sluice with",
            "--stream; it is made where it ends with a slash. Each volume has a job, all of the same name.",
          ],
          ["$0 copy start data /backup/data.img", "a file, which stays sparse"],
          ["$0 copy start data /dev/vg/copy --order hot-first", "a device; what is written most comes first"],
          ["$0 copy start data /backup/data.img --limit 50MiB", "at most 50 MiB a second"],
          ["$0 copy start data /dev/stdout --stream | zstd > data.zst", "a stream of checked records"],
          ["$0 copy start data,log /backup/night/", "data.img and log.img, of one instant"],
        )
          .option("as", { type: "string", requiresArg: true, describe: "name of the job (default: copy-N)" })
          .option("segment", {
            type: "string",
            requiresArg: true,
            default: SEGMENT,
            describe: "what is copied as a whole, 64KiB to 16MiB",
          })
          .option("order", { choices: COPY_ORDERS, default: "linear" as const, describe: "what comes first" })
          .option("limit", { type: "string", requiresArg: true, describe: "bytes a second, such as 50MiB" })
          .option("stream", {
            type: "boolean",
            default: false,
            describe: "write one sequential pass of checked records, for tape, objects or pipes, and no image",
          })
          .option("record", {
            type: "string",
            requiresArg: true,
            describe: "size of each record of a stream, 4KiB to 16MiB (default: 1MiB)",
          })
          .option("force", { type: "boolean", default: false, describe: "overwrite files that exist" })
          .option("stage", { type: "boolean", default: false, describe: "only prepare it: see copy release" }),
      act(async ({ name, destination, as, segment, order, limit, stream, record, force, stage }) => {
        const wanted = {
          name: as,
          segmentBytes: sizeArgument(segment) as number,
          order,
          bytesPerSecond: sizeArgument(limit) ?? null,
          recordBytes: stream ? recordArgument(record) : null,
          force,
          staged: stage,
        };
        const volumes = volumeNames(name);
        const [volume] = volumes;
        const destinations = destination.map((path) => resolve(path));
        if (volume === undefined || volumes.length > 1) {
          const rows = await startTogether(volumes, wanted, destination);
          print(json, rows, () => table([["VOLUME", ...COLUMNS], ...rows.map((row) => [row.volume, ...cellsOf(row)])]));
        } else if (!destination.includes(STDOUT)) printRow(await askCopyStart(volume, { ...wanted, destinations }));
        else if (stream && !stage && destination.length === 1) {
          await (await streams()).streamToStdout(volume, { ...wanted, destinations });
        } else
          throw new UblkError(
            "EUSAGE",
            `${STDOUT} is for one stream that begins at once: give --stream, and nothing else`,
          );
      }),
    )
    .command(
      "restore <stream> <device>",
      "write a device or a file from a stream",
      (restore) =>
        page(
          withRestoreTarget(
            restore.positional("stream", {
              type: "string",
              demandOption: true,
              describe: "file of the stream, or /dev/stdin",
            }),
          ),
          "copy restore STREAM DEVICE [--force]",
          [
            "Writes what a stream holds to its places, and checks each record before. Needs no daemon.",
            ...ABOUT_RESTORE_TARGET,
          ],
          ["zstd -dc data.zst | $0 copy restore /dev/stdin /dev/vdb", "all that the device holds is lost"],
        ),
      act(async ({ stream, device, force }) => {
        const done = await (await streams()).restoreStream(stream, device, force);
        print(json, done, () => `${device} is what ${done.volume} was at ${done.time}`);
      }),
    )
    .command(
      "verify <stream>",
      "check every byte of a stream",
      (verify) =>
        page(
          verify.positional("stream", {
            type: "string",
            demandOption: true,
            describe: "file of the stream, or /dev/stdin",
          }),
          "copy verify STREAM",
          [
            "Reads a stream to its end; says which record is the first that is damaged, cut or missing. Needs no daemon.",
          ],
        ),
      act(async ({ stream }) => {
        const found = await (await streams()).checkStream(stream);
        print(
          json,
          found,
          () => `whole: ${found.volume} at ${found.time}, ${formatSize(found.volumeBytes)} in ${found.records} records`,
        );
      }),
    )
    .command(
      "release <name>",
      "begin the staged jobs, as one",
      (release) =>
        page(withName(release), "copy release NAME", [
          "Begins all jobs that were staged (copy start --stage), of one moment and as one job with the name of the",
          "first: the volume is read once for all of their destinations.",
        ]),
      act(async ({ name }) => printRow(await askCopy(volumeName(name), "release", {}))),
    )
    .command(
      "list <name>",
      "the copy jobs of a volume",
      (list) => page(withName(list), "copy list NAME", ["The copy jobs of a running volume, and how far they are."]),
      act(async ({ name }) => {
        const rows = await askCopies(volumeName(name));
        print(json, rows, () => table([COLUMNS, ...rows.map(cellsOf)]));
      }),
    )
    .command(
      "show <name> <copy>",
      "what a job has not copied yet",
      (show) =>
        page(withCopy(show), "copy show NAME COPY", [
          "Prints the ranges that are still to be copied, a line each, with offset and length in bytes.",
        ]),
      act(async ({ name, copy }) => {
        const remainder = await askCopyRemainder(volumeName(name), copy);
        print(json, remainder, () =>
          [
            ...remainder.ranges.map(({ offset, length }) => `${offset} ${length}`),
            ...(remainder.isCut ? ["..."] : []),
          ].join("\n"),
        );
      }),
    )
    .command(
      "watch <name> <copy>",
      "show a job's progress until it ends",
      (watch) =>
        page(withCopy(watch), "copy watch NAME COPY", [
          "Shows how far a job is until it is complete, or has failed: a bar on a terminal, plain lines elsewhere.",
        ]),
      act(async ({ name, copy }) => printRow(await watchCopy(volumeName(name), copy, json))),
    )
    .command(
      "prioritize <name> <copy> <range>",
      "copy a range next",
      (prioritize) =>
        page(
          withCopy(prioritize).positional("range", {
            type: "string",
            demandOption: true,
            describe: "OFFSET+LENGTH, such as 10GiB+512MiB",
          }),
          "copy prioritize NAME COPY RANGE",
          ["What lies in the range is copied next, after what was asked for before."],
          ["$0 copy prioritize data copy-1 0+64MiB", "the first 64 MiB"],
        ),
      act(async ({ name, copy, range }) => {
        printRow(await askCopy(volumeName(name), "prioritize", { name: copy, ...rangeArgument(range) }));
      }),
    )
    .command(
      "limit <name> <copy> <rate>",
      "limit the bytes a second of a job",
      (limit) =>
        page(
          withCopy(limit).positional("rate", {
            type: "string",
            demandOption: true,
            describe: "such as 50MiB, or none",
          }),
          "copy limit NAME COPY RATE",
          ["Limits how many bytes a job copies in a second, from now on."],
          ["$0 copy limit data copy-1 none", "no limit any more"],
        ),
      act(async ({ name, copy, rate }) => {
        const bytesPerSecond = rate === "none" ? null : sizeArgument(rate);
        printRow(await askCopy(volumeName(name), "limit", { name: copy, bytesPerSecond }));
      }),
    )
    .command(
      "pause <name> <copy>",
      "stop a job for a while",
      (pause) =>
        page(withCopy(pause), "copy pause NAME COPY", [
          "What is being copied is copied to its end, and nothing else until the job is resumed. The originals that",
          "it needs are kept meanwhile.",
        ]),
      act(async ({ name, copy }) => printRow(await askCopy(volumeName(name), "pause", { name: copy }))),
    )
    .command(
      "resume <name> <copy>",
      "go on after a pause or a failure",
      (resume) =>
        page(withCopy(resume), "copy resume NAME COPY", [
          "Goes on with a job that was paused, or that has failed and whose reason is mended.",
        ]),
      act(async ({ name, copy }) => printRow(await askCopy(volumeName(name), "resume", { name: copy }))),
    )
    .command(
      "cancel <name> <copy>",
      "end a job, or forget one that is complete",
      (cancel) =>
        page(withCopy(cancel), "copy cancel NAME COPY", [
          "Ends a job: what it has written so far is worth nothing, and is left where it is. A job that is complete",
          "is only forgotten.",
        ]),
      act(async ({ name, copy }) => {
        await askCopyCancel(volumeName(name), copy);
        print(json, { cancelled: copy }, () => `${copy} is cancelled`);
      }),
    )
    .demandCommand(
      1,
      "name an action: start, release, list, show, watch, prioritize, limit, pause, resume, cancel, restore or verify",
    );
}

async function startTogether(
  volumes: readonly string[],
  wanted: NewCopies,
  paths: readonly string[],
): Promise<readonly CopyGroupRow[]> {
  if (wanted.staged)
    throw new UblkError("EUSAGE", "copies of several volumes begin at once: --stage is for one volume");
  const { CopyFolders } = await import("./copy-folders.ts");
  const { startCopies } = await import("../control/copy-group.ts");
  const folders = await CopyFolders.open(paths, wanted.recordBytes !== null);
  try {
    return await startCopies(volumes, wanted, (volume) => folders.filesOf(volume));
  } catch (error) {
    await folders.takeBack();
    throw error;
  }
}

/** Other commands are done sooner without it. */
const streams = (): Promise<typeof import("./copy-stream.ts")> => import("./copy-stream.ts");

const COLUMNS = ["COPY", "STATE", "COPIED", "OF", "RATE", "LEFT", "DESTINATION"];

function cellsOf(row: CopyRow): string[] {
  const { name, state, copiedBytes, volumeBytes, rateBytesPerSecond, remainingSeconds, destinations } = row;
  return [
    name,
    state,
    formatSize(copiedBytes),
    formatSize(volumeBytes),
    rateBytesPerSecond === null ? "-" : `${formatSize(rateBytesPerSecond)}/s`,
    remainingSeconds === null ? "-" : `${remainingSeconds} s`,
    destinations.join(", "),
  ];
}

/** Rows for `sluice status`: those that are complete are only counted. */
export function copyFacts(copies: readonly CopyRow[]): [string, string][] {
  const lines = copies.filter(({ state }) => state !== "complete").map(describeProgress);
  const complete = copies.length - lines.length;
  if (complete > 0) lines.push(`${complete} complete`);
  return lines.map((line, index) => [index === 0 ? "copies" : "", line]);
}

function describeProgress(row: CopyRow): string {
  const { name, state, error, copiedBytes, volumeBytes, rateBytesPerSecond, remainingSeconds, destinations } = row;
  return [
    `${name}: ${error === null ? state : `FAILED (${error})`}`,
    `${formatSize(copiedBytes)} of ${formatSize(volumeBytes)} to ${destinations.join(" and ")}`,
    ...(rateBytesPerSecond === null ? [] : [`${formatSize(rateBytesPerSecond)} a second`]),
    ...(remainingSeconds === null ? [] : [`${formatDuration(remainingSeconds)} left`]),
  ].join(", ");
}

function describeCopy(row: CopyRow): string {
  const lines = [table([COLUMNS, cellsOf(row)])];
  if (row.error !== null) lines.push(`failed: ${row.error}`);
  return lines.join("\n");
}

/** Gives the row of a job that is complete. Throws ECOPY where it has failed. */
async function watchCopy(volume: string, copy: string, json: boolean): Promise<CopyRow> {
  // Other commands are done sooner without what draws the bar.
  const { Progress } = await import("./progress.ts");
  using progress = new Progress(!json);
  for (;;) {
    const row = (await askCopies(volume)).find(({ name }) => name === copy);
    if (row === undefined) throw new UblkError("ENOENT", `Volume ${volume} has no copy job "${copy}"`);
    progress.show(row.copiedBytes, row.volumeBytes, row.state);
    if (row.state === "complete") return row;
    if (row.state === "failed") throw new UblkError("ECOPY", `Copy job "${copy}" has failed: ${row.error ?? ""}`);
    await sleep(WATCH_MS);
  }
}
