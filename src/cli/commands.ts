/**
 * The commands: their words, their help, and what each does. Each is a few lines: ask, then print.
 *
 * Whoever is only asked loads no more than asking needs: what a few commands need, each of them imports when it runs.
 */
import { styleText } from "node:util";
import yargs, { type Argv } from "yargs";
import { ask, askResize, askStatus } from "../control/client.ts";
import { formatSize } from "../control/sizes.ts";
import { version } from "../control/version.ts";
import { UblkError } from "../ublk/errors.ts";
import { bulkCommands } from "./bulk.ts";
import { complete, completionScript, DEFAULT_SHELL, SHELLS } from "./completion.ts";
import { identityCommands } from "./identity.ts";
import { EXIT, print, table } from "./output.ts";
import { page, sizeArgument, volumeName, withName, type Act, seconds } from "./page.ts";
import { copyCommands } from "./copies.ts";
import { mirrorCommands } from "./mirror.ts";
import { receiveCommands } from "./receive.ts";
import { snapshotCommands } from "./snapshots.ts";

const EPILOGUE = `Files
  /etc/sluice/NAME.toml    configuration of a volume (SLUICE_CONFIG_DIR)
  /run/sluice/NAME.sock    control socket of its daemon (SLUICE_RUNTIME_DIR)
  /run/sluice/NAME.log     log of its daemon, where there is no systemd
  /dev/sluice/NAME         its device, by name
  /var/lib/sluice/identity key of this host, and the hosts that it knows (SLUICE_STATE_DIR)

Exit status
  0  done    1  failed, with a line that says why    2  wrong usage

Environment
  SLUICE_LOG=error|warning|info|debug   how much a daemon logs (info)
  SLUICE_DEBUG=1                        stack traces with errors

Examples
  truncate --size=10G /srv/data.img
  echo 'path = "/srv/data.img"' > /etc/sluice/data.toml
  sluice check data && sluice up data && mkfs.ext4 /dev/sluice/data

More of each command: sluice COMMAND --help`;

function verdict(ok: boolean): string {
  const text = ok ? "ok" : "WRONG";
  return process.stdout.isTTY ? styleText(ok ? "green" : "red", text.padEnd(5)) : text;
}

async function listVolumes(json: boolean): Promise<void> {
  const { takeInventory } = await import("./inventory.ts");
  const rows = await takeInventory();
  print(json, rows, () =>
    table([
      ["VOLUME", "STATE", "DEVICE", "SIZE", "PID"],
      ...rows.map((row) => [
        row.volume ?? "-",
        row.state,
        row.device === null ? "-" : `/dev/ublkb${row.device}`,
        row.sizeBytes === null ? "-" : formatSize(row.sizeBytes),
        row.pid === null ? "-" : String(row.pid),
      ]),
    ]),
  );
}

async function showStatus(name: string | undefined, metrics: boolean, json: boolean): Promise<void> {
  if (name === undefined) {
    await listVolumes(json);
  } else if (metrics) {
    process.stdout.write(await ask(volumeName(name), "GET", "/v1/metrics"));
  } else {
    const status = await askStatus(volumeName(name));
    const { describeStatus } = await import("./status.ts");
    print(json, status, () => describeStatus(status));
  }
}

async function check(name: string, json: boolean): Promise<void> {
  const { checkVolume } = await import("./check.ts");
  const findings = await checkVolume(name);
  print(json, findings, () => table(findings.map(({ what, ok, text }) => [verdict(ok), what, text])));
  if (findings.some(({ ok }) => !ok)) process.exitCode = EXIT.failed;
}

async function serve(name: string): Promise<number> {
  const work = await import("./serve.ts");
  return work.serve(name);
}

/** Parses `words`, the command line without the program, and runs what they say. Wrong usage is thrown as EUSAGE. */
export function parserFor(words: readonly string[], json: boolean): Argv {
  const completes = words.includes("--get-yargs-completions");
  const act: Act = (action) => {
    return async (given) => {
      if (!completes) await action(given);
    };
  };
  return yargs([...words])
    .scriptName("sluice")
    .usage(
      "$0 COMMAND\n\nVolumes in the write path of a block device: each is a /dev/ublkbN, served by a daemon of its own.",
    )
    .command(
      "up <name>",
      "start a volume, and wait until its device is there",
      (command) =>
        page(
          withName(command),
          "up NAME [--timeout S] [--foreground]",
          [
            "Starts a volume, and waits until its device is there: through systemd where it runs and knows",
            "the unit sluice@.service, else with a supervisor in the background, which starts the daemon",
            "again when it dies. A device that a daemon left behind when it died is taken over, with the",
            "requests that wait for it.",
          ],
          ["$0 up data", "start the volume of /etc/sluice/data.toml"],
          ["$0 up ./data.toml --foreground", "be its daemon here, until Ctrl-C"],
        )
          .option("timeout", { default: 120, coerce: seconds, requiresArg: true, describe: "seconds to wait" })
          .option("foreground", {
            type: "boolean",
            default: false,
            describe: "be the daemon, and log to standard error",
          }),
      act(async ({ name, timeout, foreground }) => {
        const { readConfig } = await import("../control/config.ts");
        const config = await readConfig(name);
        if (foreground) {
          process.exitCode = await serve(name);
          return;
        }
        const { startService } = await import("./service.ts");
        const status = await startService(config.name, timeout * 1000);
        print(json, status, () => `${status.device.path} (${status.device.link}), ${formatSize(status.sizeBytes)}`);
      }),
    )
    .command(
      "down <name>",
      "stop a volume; refused while its device is open or mounted",
      (command) =>
        page(
          withName(command),
          "down NAME [--wait S] [--force]",
          [
            "Stops a volume: writes back what the page cache holds of it, takes the device away, ends the",
            "daemon. Refused, with who it is, while anybody has the device open or mounted.",
          ],
          ["$0 down data", "stop it, if nobody uses it"],
          ["$0 down data --wait 60", "wait up to a minute for its users to go"],
        )
          .option("force", {
            type: "boolean",
            default: false,
            describe:
              "stop even so: all that was written is written back first, but whoever uses the device gets errors",
          })
          .option("wait", {
            default: 0,
            coerce: seconds,
            requiresArg: true,
            describe: "seconds to wait for the device to come out of use",
          }),
      act(async ({ name, force, wait }) => {
        const { stopService } = await import("./service.ts");
        await stopService(volumeName(name), force, wait * 1000);
        print(json, { stopped: true }, () => `${name} is stopped`);
      }),
    )
    .command(
      "status [name]",
      "state, counters and latencies of a running volume; without a name, all volumes",
      (command) =>
        page(
          command,
          "status [NAME] [--metrics]",
          [
            "What a running volume is and does. Latencies are in microseconds, from the moment when the",
            "daemon was handed a request to its answer, since the daemon started.",
          ],
          ["$0 status data --json", "for a program"],
          ["$0 status data --metrics", "for Prometheus' textfile collector"],
        )
          .positional("name", { type: "string", describe: "name of the volume" })
          .option("metrics", { type: "boolean", default: false, describe: "the numbers in Prometheus' format" }),
      act(({ name, metrics }) => showStatus(name, metrics, json)),
    )
    .command(
      "list",
      "all volumes, and all ublk devices of this machine",
      (command) =>
        page(command, "list", [
          "Volumes that are configured or running, and every ublk device of this machine, also those of",
          "other servers and those that nobody serves.",
        ]),
      act(() => listVolumes(json)),
    )
    .command(
      "resize <name> [size]",
      "give a running volume another size: that of its backing store, or SIZE",
      (command) =>
        page(
          withName(command),
          "resize NAME [SIZE]",
          [
            "Gives a running volume another size, where the kernel can (Linux 6.16 and later: see sluice",
            "features). Grow the backing store before it. What lies beyond a smaller size is lost to",
            "whoever uses the device.",
          ],
          ["truncate -s 20G /srv/data.img && $0 resize data", "as large as its file is now"],
          ["$0 resize data 20GiB", "as large as that"],
        ).positional("size", {
          type: "string",
          describe: "bytes, or with a unit: K, M, G, T, P (powers of 1024)",
        }),
      act(async ({ name, size }) => {
        const sizeBytes = await askResize(volumeName(name), sizeArgument(size));
        print(json, { sizeBytes }, () => `${name} has ${formatSize(sizeBytes)}`);
      }),
    )
    .command(
      "check <name>",
      "look at everything that a start needs; NAME may be a file",
      (command) =>
        page(
          withName(command),
          "check NAME|FILE",
          [
            "Looks at all that a start needs, a line each: configuration, backing store, device number,",
            "kernel, rights. Changes nothing.",
          ],
          ["$0 check data", "the volume of /etc/sluice/data.toml"],
          ["$0 check ./draft.toml", "a file that is not in place yet"],
        ),
      act(({ name }) => check(name, json)),
    )
    .command(
      "record <name>",
      "the predictive record of a running volume: its numbers and its map",
      (command) =>
        page(
          withName(command),
          "record NAME [--watch]",
          [
            "What is in the record of a volume, how often a write had to wait for it, what a crash now",
            "would cost to copy, and a map of the volume.",
          ],
          ["$0 record data --watch", "drawn anew each second, until Ctrl-C"],
        ).option("watch", { type: "boolean", default: false, describe: "again and again, once a second" }),
      act(async ({ name, watch }) => {
        const { showRecord } = await import("./record.ts");
        await showRecord(volumeName(name), watch, json);
      }),
    )
    .command("nvram <action>", "make the NVRAM file of a volume, or look into one", (command) =>
      command
        .usage("$0 nvram ACTION")
        .command(
          "create <name>",
          "make the NVRAM file that a volume's configuration names",
          (create) =>
            page(
              withName(create),
              "nvram create NAME [--chunk SIZE] [--in-sync]",
              [
                "Makes the NVRAM file of a volume: [record] in its configuration says where. At first every chunk",
                "is in the record, since nothing is known of the remote. A file that exists is never touched.",
              ],
              ["$0 nvram create data", "the file of /etc/sluice/data.toml"],
            )
              .option("chunk", {
                type: "string",
                requiresArg: true,
                describe: "size of a chunk, 4KiB to 4MiB (default: 64KiB, more for large volumes)",
              })
              .option("in-sync", {
                type: "boolean",
                default: false,
                describe: "volume and remote are known to be equal: begin with an empty record",
              }),
          act(async ({ name, chunk, inSync }) => {
            const { chunkArgument, createNvramFile, describeNvram } = await import("./nvram.ts");
            const made = await createNvramFile(name, inSync, chunkArgument(chunk));
            print(json, made, () => table(describeNvram(made)));
          }),
        )
        .command(
          "inspect <file>",
          "say what an NVRAM file holds",
          (inspect) =>
            page(
              inspect.positional("file", { type: "string", demandOption: true, describe: "path of the file" }),
              "nvram inspect FILE",
              ["Whose file it is, where its regions lie, how much is recorded, and what is damaged. Changes nothing."],
              ["$0 nvram inspect /mnt/pmem/data.nvram --json", "for a program"],
            ),
          act(async ({ file }) => {
            const { describeNvram, inspectNvramFile } = await import("./nvram.ts");
            const found = await inspectNvramFile(file);
            print(json, found, () => table(describeNvram(found)));
          }),
        )
        .demandCommand(1, "name an action: create or inspect"),
    )
    .command("snapshot <action>", "snapshots of a running volume", (command) => snapshotCommands(command, json, act))
    .command("copy <action>", "copies of a running volume", (command) => copyCommands(command, json, act))
    .command("mirror <action>", "the mirror of a running volume", (command) => mirrorCommands(command, json, act))
    .command("bulk <action>", "copies of a running volume by any program", (command) =>
      bulkCommands(command, json, act),
    )
    .command("receive [action]", "keep volumes that are mirrored to this machine", (command) =>
      receiveCommands(command, json, act),
    )
    .command("identity <action>", "who this host is to others, and which hosts it knows", (command) =>
      identityCommands(command, json, act),
    )
    .command(
      "features",
      "what this kernel's ublk can, and what sluice uses of it",
      (command) =>
        page(command, "features", ["The features of this kernel's ublk driver, and what sluice uses each for."]),
      act(async () => {
        const { kernelFeatures } = await import("./features.ts");
        const rows = await kernelFeatures();
        print(json, rows, () => table(rows.map((row) => [row.feature, row.available ? "yes" : "no", row.use ?? ""])));
      }),
    )
    .command(
      "orphans",
      "ublk devices that nobody serves and no volume waits for",
      (command) =>
        page(command, "orphans [--remove]", [
          "Devices whose server is gone and that belong to no volume that is configured or running.",
          "Their requests hang until they are removed.",
        ]).option("remove", { type: "boolean", default: false, describe: "remove them; their requests fail" }),
      act(async ({ remove }) => {
        const { showOrphans } = await import("./orphans.ts");
        await showOrphans(remove, json);
      }),
    )
    .command(
      "daemon <name>",
      "serve a volume in this process (what the service manager runs)",
      (command) =>
        page(withName(command), "daemon NAME", [
          "Serves a volume until it is stopped. SIGTERM and SIGINT stop it unless its device is in use.",
          "Tells systemd when it serves (sd_notify). Ends with 78 where trying again is of no use.",
        ]),
      act(async ({ name }) => {
        process.exitCode = await serve(name);
      }),
    )
    .command(
      "completion [shell]",
      "print a script that completes sluice's command line in a shell",
      (command) =>
        page(
          command,
          "completion [bash|zsh|fish]",
          ["Prints a script that completes commands, options and names of volumes."],
          ['eval "$(sluice completion bash)"', "in ~/.bashrc"],
          ["$0 completion fish | source", "in config.fish"],
        ).positional("shell", { choices: SHELLS, default: DEFAULT_SHELL, describe: "for which shell" }),
      act(({ shell }) => {
        process.stdout.write(completionScript(shell));
      }),
    )
    .completion("completion-words", false, complete)
    .option("json", { type: "boolean", default: false, describe: "print JSON, errors too", global: true })
    .demandCommand(1, "name a command")
    .recommendCommands()
    .strict(!completes)
    .wrap(Math.min(120, process.stdout.columns || 100))
    .epilogue(EPILOGUE)
    .version(version())
    .help()
    .exitProcess(completes)
    .showHelpOnFail(false)
    .fail((message: string | null, error: Error | undefined) => {
      if (error !== undefined && error.name !== "YError") throw error;
      throw new UblkError(
        "EUSAGE",
        `${usageFault(message ?? error?.message ?? "wrong usage", words)} (see sluice --help)`,
      );
    });
}

/** What yargs says of the words on the command line, in one line. */
function usageFault(message: string, [command]: readonly string[]): string {
  if (message.startsWith("Not enough non-option arguments")) {
    return command === "identity" ? "an action, a name or a fingerprint is missing" : "the name of a volume is missing";
  }
  return message.replaceAll(/\s*\n\s*/g, " ");
}
