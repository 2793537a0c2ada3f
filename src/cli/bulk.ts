/** `sluice bulk`: its commands, and what they print. */
import type { Argv } from "yargs";
import { askBulk, askBulkAction, askBulkBegin, askBulkDrop } from "../control/client.ts";
import type { BulkStatus } from "../control/bulk-status.ts";
import { formatSize } from "../control/sizes.ts";
import { UblkError } from "../ublk/errors.ts";
import { print, table } from "./output.ts";
import {
  ABOUT_RESTORE_TARGET,
  page,
  rangeArgument,
  recordArgument,
  volumeName,
  withName,
  withRestoreTarget,
  type Act,
} from "./page.ts";

/** The commands below `sluice bulk`. */
export function bulkCommands(command: Argv, json: boolean, act: Act): Argv {
  const show = (status: BulkStatus): void => print(json, status, () => table(describe(status)));
  return command
    .usage("$0 bulk ACTION")
    .command(
      "begin <name>",
      "from now on, keep what a copy by any program needs to become what the volume is now",
      (begin) =>
        page(
          withName(begin),
          "bulk begin NAME [--range OFFSET+LENGTH]...",
          [
            "Copy the live device of a running volume with any program, at full speed, in any order, while it goes on",
            "being written: what is overwritten from now on is kept, and put right in the copy at the end. The copy",
            "becomes exactly what the volume is now. A program that reads a mounted device must do so with direct I/O:",
            "the page cache may show what is not on the device. A volume has one bulk copy at a time. With --range the",
            "copy is of these parts alone, in whole blocks of the store: nothing is kept of the rest.",
          ],
          ["$0 bulk begin data", "now"],
          ["$0 bulk begin data --range 0+1MiB --range 10GiB+4GiB", "two parts of it"],
          ["dd if=/dev/sluice/data of=/backup/data.img bs=4M iflag=direct", "or any other program"],
          ["$0 bulk mark data", "it has ended"],
          ["$0 bulk finish data --overlay /backup/data.img", "the copy is right"],
        ).option("range", {
          type: "string",
          array: true,
          nargs: 1,
          requiresArg: true,
          describe: "OFFSET+LENGTH, such as 10GiB+512MiB; again for more, up to 64",
        }),
      act(async ({ name, range }) => {
        show(await askBulkBegin(volumeName(name), range === undefined ? null : range.map(rangeArgument)));
      }),
    )
    .command(
      "mark <name>",
      "the copy has ended: keep no more",
      (mark) =>
        page(withName(mark), "bulk mark NAME", [
          "Says that the outside program has read all that it is going to read. Nothing is moved for the copy from",
          "then on: writes cost what they did before it was begun. What was kept stays until finish or cancel.",
        ]),
      act(async ({ name }) => show(await askBulkAction(volumeName(name), "mark"))),
    )
    .command(
      "end-cow <name>",
      "as mark; does nothing where that has been done",
      (end) =>
        page(withName(end), "bulk end-cow NAME", [
          "Frees the writers of a volume from copy-on-write for a bulk copy whose outside program has ended. A mark",
          "does the same: this is for programs that want it to be so, and do not care whether it was.",
        ]),
      act(async ({ name }) => show(await askBulkAction(volumeName(name), "end-cow"))),
    )
    .command(
      "finish <name>",
      "make the copy what the volume was: overlay the originals, or append them",
      (finish) =>
        page(
          withName(finish),
          "bulk finish NAME --overlay DEST | --append FILE [--record SIZE]",
          [
            "Takes the originals to the copy that the outside program has written, then drops them. Marks the copy",
            "as ended first, where that has not been done. When it is interrupted, ask for the same again.",
          ],
          ["$0 bulk finish data --overlay /backup/data.img", "over the same places: a plain image"],
          ["$0 bulk finish data --append /backup/data.img", "behind the image, in one sequential write"],
        )
          .option("overlay", { type: "string", requiresArg: true, describe: "raw copy: a file or block device" })
          .option("append", { type: "string", requiresArg: true, describe: "raw image: a file" })
          .conflicts("overlay", "append")
          .option("record", {
            type: "string",
            requiresArg: true,
            implies: "append",
            describe: "size of what is appended as a whole, 4KiB to 16MiB (default: 1MiB)",
          }),
      act(async ({ name, overlay, append, record }) => {
        const volume = volumeName(name);
        if (overlay === undefined && append === undefined) {
          throw new UblkError("EUSAGE", "say what is to become of the originals: --overlay DEST or --append FILE");
        }
        const done =
          append === undefined
            ? await (await work()).finishByOverlay(volume, overlay as string)
            : await (await work()).finishByAppend(volume, append, recordArgument(record));
        const how = append === undefined ? "overlaid on" : "appended to";
        print(json, done, () => `${formatSize(done.originalBytes)} of originals ${how} ${done.destination}`);
      }),
    )
    .command(
      "restore <file> <device>",
      "write an image with appended originals to a device or a file",
      (restore) =>
        page(
          withRestoreTarget(
            restore.positional("file", {
              type: "string",
              demandOption: true,
              describe: "image with originals behind it",
            }),
          ),
          "bulk restore FILE DEVICE [--force]",
          [
            "Checks the originals behind an image, then writes the image with the originals in their places. What is",
            "right already is not written: a restore that was interrupted goes on when it is asked for again. Needs",
            "no daemon.",
            ...ABOUT_RESTORE_TARGET,
          ],
          ["$0 bulk restore /backup/data.img /dev/vdb", "all that the device holds is lost"],
        ),
      act(async ({ file, device, force }) => {
        const done = await (await work()).restoreAppended(file, device, force);
        print(
          json,
          done,
          () =>
            `${device} is what ${done.volume} was at ${done.time}: ${formatSize(done.writtenBytes)} of ` +
            `${formatSize(done.bytes)} had to be written`,
        );
      }),
    )
    .command(
      "cancel <name>",
      "give a bulk copy up, and what was kept for it",
      (cancel) =>
        page(withName(cancel), "bulk cancel NAME", [
          "Drops what was kept for a bulk copy. What the outside program has copied is worth nothing then, unless it",
          "has been finished before.",
        ]),
      act(async ({ name }) => {
        await askBulkDrop(volumeName(name), undefined);
        print(json, { cancelled: true }, () => `the bulk copy of ${name} is cancelled`);
      }),
    )
    .command(
      "status <name>",
      "how a bulk copy stands",
      (status) =>
        page(withName(status), "bulk status NAME", [
          "Whether originals are being kept, since when, and how much there is of them.",
        ]),
      act(async ({ name }) => show(await askBulk(volumeName(name)))),
    )
    .demandCommand(1, "name an action: begin, mark, end-cow, finish, restore, cancel or status");
}

/** Other commands are done sooner without it. */
const work = (): Promise<typeof import("./bulk-work.ts")> => import("./bulk-work.ts");

const STATE_TEXT = {
  copying: "copying: originals are kept before they are overwritten",
  marked: "marked: nothing is kept any more",
  full: "GIVEN UP: the store was full",
  failed: "GIVEN UP: the store could not be written",
  damaged: "GIVEN UP: the store is damaged",
} as const;

function describe({ state, begun, sizeBytes, ranges, originalBytes, blockBytes }: BulkStatus): [string, string][] {
  const bytes = ranges.reduce((sum, { length }) => sum + length, 0);
  const isPart = bytes < sizeBytes;
  return [
    ["state", STATE_TEXT[state]],
    ["as of", `${begun}, ${formatSize(sizeBytes)}`],
    ...(isPart ? [["of it", `${formatSize(bytes)} in ${ranges.length} ranges`] as [string, string]] : []),
    ["originals", `${formatSize(originalBytes)}, in blocks of ${formatSize(blockBytes)}`],
  ];
}
