/** `sluice receive`: its commands. What they do is in receive-work.ts, which is loaded when one of them runs. */
import type { Argv } from "yargs";
import { page, sizeArgument, withName, type Act } from "./page.ts";

function withWhat<T>(command: Argv<T>, describe: string): Argv<T & { what: string }> {
  return command.positional("what", { type: "string", demandOption: true, describe });
}

/** The commands below `sluice receive`. */
export function receiveCommands(command: Argv, json: boolean, act: Act): Argv {
  return command
    .usage("$0 receive [ACTION]")
    .command(
      "$0",
      "be the receiver of mirrored volumes (what the service manager runs)",
      (serve) =>
        page(
          serve,
          "receive",
          [
            "Keeps the volumes that are mirrored to this machine, until SIGTERM or SIGINT. Which they are,",
            "and where it listens, /etc/sluice/receive.toml says. Tells systemd when it serves (sd_notify).",
            "Ends with 78 where trying again is of no use.",
          ],
          ["$0 receive", "be the receiver here, and log to standard error"],
          ["systemctl enable --now sluice-receive", "through systemd"],
        ),
      act(async () => {
        const { serveReceiver } = await import("./receive-work.ts");
        process.exitCode = await serveReceiver();
      }),
    )
    .command(
      "init <name>",
      "make what is missing of a volume that is mirrored to here",
      (init) =>
        page(
          withName(init),
          "receive init NAME [--size SIZE | --seed] [--store-size SIZE] [--log-size SIZE]",
          [
            "Makes the log of a volume, and with it its image and its store, where they are missing. The",
            "volume has nothing then, and gets all of it from its source. A file that exists is never",
            "overwritten; where the log exists nothing is made. With --seed the image was brought here, as a copy of",
            "the volume, however old: of what it holds already nothing is sent, unless the source has checksum = false.",
          ],
          ["$0 receive init data --size 100GiB --store-size 20GiB", "files with room for a volume of 100 GiB"],
          ["$0 receive init data --seed --store-size 20GiB", "beside an image that was copied from the volume"],
        )
          .option("size", { type: "string", requiresArg: true, describe: "size of the volume, as at its source" })
          .option("seed", {
            type: "boolean",
            default: false,
            describe: "the image is there, and holds the volume as it once was",
          })
          .option("store-size", {
            type: "string",
            requiresArg: true,
            describe: "size of the store: what is overwritten between points has room in it",
          })
          .option("log-size", { type: "string", requiresArg: true, describe: "size of the log (default: 256MiB)" }),
      act(async ({ name, size, seed, storeSize, logSize }) => {
        const { initVolume } = await import("./receive-work.ts");
        await initVolume(name, json, {
          imageBytes: sizeArgument(size) ?? null,
          storeBytes: sizeArgument(storeSize) ?? null,
          logBytes: sizeArgument(logSize),
          isSeeded: seed,
        });
      }),
    )
    .command(
      "status",
      "the volumes that are mirrored to here: sources, points, logs",
      (status) =>
        page(
          status,
          "receive status",
          ["What the running receiver has of each volume, and from whom."],
          ["$0 receive status --json", "for a program"],
        ),
      act(async () => {
        const { showStatus } = await import("./receive-work.ts");
        await showStatus(json);
      }),
    )
    .command(
      "export <what>",
      "show a point as a read-only block device, while mirroring goes on",
      (show) =>
        page(
          withWhat(show, "VOLUME or VOLUME@POINT: see sluice receive status"),
          "receive export VOLUME[@POINT]",
          [
            "Makes a read-only /dev/ublkbN that shows the volume as it was at a closed point: at the last one, or",
            "at one that is kept. It stays that, whatever comes from the source, until it is taken back or the",
            "receiver ends. The point is not dropped meanwhile; where the store is full it is given up, and reads",
            "of it fail. Some file systems must be told that they cannot replay their journal there.",
          ],
          ["mount -o ro,noload $($0 receive export data) /mnt", "the last point, ext4"],
          ["mount -o ro,norecovery,nouuid $($0 receive export data@42) /mnt", "an older one, xfs"],
        ),
      act(async ({ what }) => {
        const { exportPoint } = await import("./receive-work.ts");
        await exportPoint(what, json);
      }),
    )
    .command(
      "unexport <what>",
      "take the device of a point away",
      (hide) =>
        page(withWhat(hide, "VOLUME@POINT"), "receive unexport VOLUME@POINT [--force]", [
          "Takes the device away that shows a point; refused while it is open or mounted.",
        ]).option("force", { type: "boolean", default: false, describe: "even so: whoever uses it gets errors" }),
      act(async ({ what, force }) => {
        const { unexportPoint } = await import("./receive-work.ts");
        await unexportPoint(what, force, json);
      }),
    )
    .command(
      "check",
      "look at the receiver's configuration",
      (check) =>
        page(check, "receive check", [
          "Reads the configuration as a start would, and says in a line each what is wrong with it.",
        ]),
      act(async () => {
        const { checkReceiver } = await import("./receive-work.ts");
        await checkReceiver(json);
      }),
    );
}
