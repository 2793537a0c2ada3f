/** `sluice mirror`: its commands, and what they print. */
import type { Argv } from "yargs";
import { askMirror, askMirrorChange, askMirrorPoint } from "../control/client.ts";
import type { MirrorGroupRow } from "../control/mirror-group.ts";
import type { MirrorLag, MirrorStatus } from "../control/mirror-status.ts";
import { formatSize } from "../control/sizes.ts";
import type { CommittedPoint } from "../replication/sender.ts";
import { MIRROR_MODES, MIRROR_POLICIES } from "../targets/mirror/modes.ts";
import { print, table } from "./output.ts";
import { page, seconds, sizeArgument, volumeName, volumeNames, withName, type Act } from "./page.ts";

/** The commands below `sluice mirror`. */
export function mirrorCommands(command: Argv, json: boolean, act: Act): Argv {
  const show = (status: MirrorStatus): void => print(json, status, () => table(mirrorFacts(status)));
  return command
    .usage("$0 mirror ACTION")
    .command(
      "status <name>",
      "how the mirror stands",
      (status) =>
        page(withName(status), "mirror status NAME", [
          "Where the volume is mirrored to, how far the receiver is behind, and why it is not reached.",
        ]),
      act(async ({ name }) => show(await askMirror(volumeName(name)))),
    )
    .command(
      "pause <name>",
      "end the connection, and make none",
      (pause) =>
        page(withName(pause), "mirror pause NAME", [
          "Ends the connection to the receiver. What is written meanwhile is logged, as far as there is room, and",
          'recorded; with when_down = "stop" the volume waits in the modes that wait for the receiver.',
        ]),
      act(async ({ name }) => show(await askMirrorChange(volumeName(name), "pause"))),
    )
    .command(
      "resume <name>",
      "connect again after a pause",
      (resume) => page(withName(resume), "mirror resume NAME", ["Connects to the receiver, which catches up."]),
      act(async ({ name }) => show(await askMirrorChange(volumeName(name), "resume"))),
    )
    .command(
      "cp <name>",
      "make a consistency point now, of one volume or of several",
      (cp) =>
        page(
          withName(cp),
          "mirror cp NAME[,NAME...]",
          [
            "Cuts a consistency point that shows all that was written by now, and waits until the receiver has it.",
            "While something is to be copied the point is open: the receiver goes on to show the last closed one.",
            "",
            "Of several volumes, with commas between them, at one instant: what was answered on one of them before a",
            "write to another was begun is never missing where the later one is shown. Writes to all of them wait",
            "until all are cut, for ten seconds at most. The points have the same moment at the receiver.",
          ],
          ["sync && $0 mirror cp data", "with what applications have written to files"],
          ["$0 mirror cp data,log", "of both at one instant"],
        ),
      act(async ({ name }) => {
        const volumes = volumeNames(name);
        const [first] = volumes;
        if (first !== undefined && volumes.length === 1) {
          const point = await askMirrorPoint(first);
          print(json, point, () => describePoint(point));
        } else {
          const { cutGroup } = await import("../control/mirror-group.ts");
          const rows: readonly MirrorGroupRow[] = await cutGroup(volumes);
          print(json, rows, () => rows.map((row) => `${row.volume}: ${describePoint(row)}`).join("\n"));
        }
      }),
    )
    .command(
      "limit <name> <rate>",
      "limit the bytes a second that are copied",
      (limit) =>
        page(
          withName(limit).positional("rate", {
            type: "string",
            demandOption: true,
            describe: 'bytes a second, such as 50MiB; or "none"',
          }),
          "mirror limit NAME RATE",
          [
            "Limits how many bytes are copied in a second to a receiver that is to catch up, from now on, until the",
            "daemon is started again (copy_limit in [mirror]). What is written goes to the receiver as it comes.",
          ],
          ["$0 mirror limit data 50MiB", "at most 50 MiB a second"],
          ["$0 mirror limit data none", "no limit any more"],
        ),
      act(async ({ name, rate }) => {
        const bytesPerSecond = rate === "none" ? null : (sizeArgument(rate) ?? null);
        show(await askMirrorChange(volumeName(name), "limit", { bytesPerSecond }));
      }),
    )
    .command(
      "wait <name>",
      "wait until the receiver has all that there is",
      (wait) =>
        page(withName(wait), "mirror wait NAME [--timeout S]", [
          "Returns when the mirror is in step: nothing is to be copied, and the last point is closed. Where that does not",
          "come about in time, it says how the mirror stands.",
        ]).option("timeout", { coerce: seconds, requiresArg: true, describe: "seconds to wait (default: for ever)" }),
      act(async ({ name, timeout }) => {
        const { waitInStep } = await import("./mirror-wait.ts");
        show(await waitInStep(volumeName(name), timeout === undefined ? Infinity : timeout * 1000, json));
      }),
    )
    .command(
      "mode <name>",
      "change when writes are answered, and what is done without the receiver",
      (mode) =>
        page(
          withName(mode),
          "mirror mode NAME [--mode async|memory|sync] [--when-down continue|stop]",
          [
            "From now on, until the daemon is started again: a write is answered when it is stored here (async), when",
            "the receiver has it in memory as well (memory), or durably (sync).",
          ],
          ["$0 mirror mode data --mode sync", "from now on"],
        )
          .option("mode", { choices: MIRROR_MODES, describe: "when a write is answered" })
          .option("when-down", { choices: MIRROR_POLICIES, describe: "go on without the receiver, or wait for it" }),
      act(async ({ name, mode, whenDown: policy }) => {
        show(await askMirrorChange(volumeName(name), "mode", { mode, policy }));
      }),
    )
    .command(
      "promote <name>",
      "have the volume written here, at its receiver",
      (promote) =>
        page(
          withName(promote),
          "mirror promote NAME [--force]",
          [
            "On the host of the receiver: brings the volume to the last moment that the receiver knows of, and serves it",
            "here from then on. Its own configuration has to tell of the same files as that of the receiver.",
            "While its source is connected this is refused; and while something was being copied, since the volume is",
            "put back to the last closed point then.",
          ],
          ["$0 mirror promote data", "after the host of the source has died"],
        ).option("force", {
          type: "boolean",
          default: false,
          describe: "end the connection of the source; put the volume back where something was being copied",
        }),
      act(async ({ name, force }) => {
        const { promoteVolume } = await import("./fail-over.ts");
        await promoteVolume(volumeName(name), force, json);
      }),
    )
    .command(
      "demote <name>",
      "have the volume written at the other side, and mirrored to here",
      (demote) =>
        page(
          withName(demote),
          "mirror demote NAME [--discard-mine]",
          [
            "Stops the volume, which sends the last of what was written where the receiver is in step, and has the receiver",
            "of this host keep it for a source elsewhere. What was written here and never got to the other side is",
            "overwritten with what the other side has: the record tells where that is.",
          ],
          ["$0 mirror demote data --discard-mine", "after a split brain: the other side has won"],
        ).option("discard-mine", {
          type: "boolean",
          default: false,
          describe: "give up what only this side has: both were written alone",
        }),
      act(async ({ name, discardMine }) => {
        const { demoteVolume } = await import("./fail-over.ts");
        await demoteVolume(volumeName(name), discardMine, json);
      }),
    )
    .command(
      "reverse <name>",
      "have both sides change places",
      (reverse) =>
        page(
          withName(reverse),
          "mirror reverse NAME",
          [
            "On the host where the volume is written, and in use no more: stops it, which sends the last of what was",
            "written, demotes it here, and has the other side promote it. Refused where the mirror is not in step, or",
            "the other side could not take the volume over: nothing is changed then. Ended early, it is run again.",
          ],
          ["$0 mirror reverse data", 'then, on the other host, "sluice up data"'],
        ),
      act(async ({ name }) => {
        const { reverseVolume } = await import("./fail-over.ts");
        await reverseVolume(volumeName(name), json);
      }),
    )
    .command(
      "verify <name>",
      "compare all of the volume with what the receiver has",
      (verify) =>
        page(
          withName(verify),
          "mirror verify NAME [--repair]",
          [
            "Compares checksums of all of the volume with those of the receiver's image, while the volume is in use, and",
            "tells how far it is. What is written meanwhile is no difference. With --repair what differs is copied",
            "again. Ends with 1 where something differs and was not repaired.",
          ],
          ["$0 mirror verify data --repair", "and copy again what differs"],
        ).option("repair", { type: "boolean", default: false, describe: "copy what differs" }),
      act(async ({ name, repair }) => {
        const { verifyMirror } = await import("./mirror-verify.ts");
        process.exitCode = await verifyMirror(volumeName(name), repair, json);
      }),
    )
    .demandCommand(
      1,
      "name an action: status, pause, resume, cp, limit, wait, mode, verify, promote, demote or reverse",
    );
}

function describePoint({ point, createdMs, isClosed }: CommittedPoint): string {
  const kind = isClosed ? "closed" : "open: something is still to be copied";
  return `point ${point} of ${new Date(createdMs).toISOString()} is committed (${kind})`;
}

/** Rows for `sluice status` and `sluice mirror status`. */
export function mirrorFacts(mirror: MirrorStatus): [string, string][] {
  const { lastClosed, sentBytes, points, toCopyBytes } = mirror;
  const since = new Date(mirror.sinceMs).toISOString();
  const shown =
    lastClosed === null
      ? "no closed point since the daemon began"
      : `the receiver shows point ${lastClosed.point} of ${new Date(lastClosed.createdMs).toISOString()}`;
  const { copyBytesPerSecond } = mirror;
  const limit = copyBytesPerSecond === null ? "" : `, at most ${formatSize(copyBytesPerSecond)} a second`;
  return [
    ["mirror", `to ${mirror.to} (${mirror.transport}), ${mirror.mode}, ${mirror.policy} when down`],
    ["", `${mirror.state} since ${since}${mirror.fault === null ? "" : `: ${mirror.fault.text}`}`],
    ["", `${shown}; ${formatSize(toCopyBytes)} to copy${limit}`],
    ["", describeLag(mirror.lag)],
    [
      "",
      `${formatSize(sentBytes.transfers)} sent as transfers, ${formatSize(sentBytes.points)} for ${points.closed} closed and ${points.open} open points, ` +
        `${mirror.overflows} overflows of the log`,
    ],
    ...packedFacts(mirror),
    ...comparedFacts(mirror),
  ];
}

function describeLag({ bytes, seconds, points }: MirrorLag): string {
  if (bytes === 0 && seconds === 0) return "the receiver shows all that was written";
  const since = seconds === null ? "" : `, ${seconds.toFixed(1)} s`;
  return `the receiver is behind by ${formatSize(bytes)} at most${since}, ${points} ${points === 1 ? "point" : "points"}`;
}

function packedFacts({ sentBytes, wireBytes }: MirrorStatus): [string, string][] {
  const bytes = sentBytes.transfers + sentBytes.points + sentBytes.sums;
  return wireBytes === bytes ? [] : [["", `${formatSize(wireBytes)} went over for ${formatSize(bytes)}, packed`]];
}

function comparedFacts({ compared: { copied }, verification }: MirrorStatus): [string, string][] {
  const facts: [string, string][] = [];
  if (copied.comparedBytes > 0) {
    const { comparedBytes, equalBytes } = copied;
    facts.push([
      "",
      `${formatSize(comparedBytes)} to be copied were compared, ${formatSize(equalBytes)} equal, not sent`,
    ]);
  }
  if (verification !== null) {
    const { state, doneBytes, sizeBytes, differentBytes } = verification;
    const done = `${formatSize(doneBytes)} of ${formatSize(sizeBytes)}`;
    facts.push(["", `verification: ${state}, ${done} compared, ${formatSize(differentBytes)} differ`]);
  }
  return facts;
}
