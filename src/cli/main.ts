/** The command `sluice`. Each command is a few lines: parse, ask, print. */
import { readdir } from "node:fs/promises";
import { styleText } from "node:util";
import yargs, { type Argv } from "yargs";
import { hideBin } from "yargs/helpers";
import { ask, askResize, askStatus } from "../control/client.ts";
import { configFile, readConfig } from "../control/config.ts";
import { volumeMark } from "../control/identity.ts";
import { log } from "../control/log.ts";
import { configDirectory } from "../control/paths.ts";
import { formatSize, parseSize } from "../control/sizes.ts";
import type { VolumeStatus } from "../control/status.ts";
import { FEATURE_BITS, type Feature } from "../ublk/abi.ts";
import { ControlPlane } from "../ublk/control.ts";
import { listDevices, removeDevice } from "../ublk/devices.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { OPERATION_NAMES } from "../ublk/request.ts";
import { takeInventory } from "./inventory.ts";
import { complain, print, table } from "./output.ts";
import { startService, stopService } from "./service.ts";

const EXIT = { failed: 1, usage: 2, configuration: 78 } as const;
const json = process.argv.includes("--json");

const EPILOGUE = `Files
  /etc/sluice/NAME.toml    configuration of a volume (SLUICE_CONFIG_DIR)
  /run/sluice/NAME.sock    control socket of its daemon (SLUICE_RUNTIME_DIR)
  /dev/sluice/NAME         its device, by name

Exit status
  0  done    1  failed, with a line that says why    2  wrong usage

Environment
  SLUICE_LOG=error|warning|info|debug   how much a daemon logs (info)
  SLUICE_DEBUG=1                        stack traces with errors

Examples
  truncate --size=10G /srv/data.img
  echo 'path = "/srv/data.img"' > /etc/sluice/data.toml
  sluice check data && sluice up data && mkfs.ext4 /dev/sluice/data`;

function nameArgument<T>(command: Argv<T>): Argv<T & { name: string }> {
  return command.positional("name", { type: "string", demandOption: true, describe: "name of the volume" });
}

/** Commands that talk to a daemon mean a volume by its name; the name is checked like that of a file. */
function volumeName(name: string): string {
  return configFile(name).name;
}

async function daemon(name: string): Promise<void> {
  const { runDaemon } = await import("../control/daemon.ts");
  try {
    await runDaemon(await readConfig(name));
  } catch (error) {
    log("error", messageOf(error));
    process.exitCode = (await waitsForDaemon(name)) ? EXIT.failed : EXIT.configuration;
  }
}

/** A daemon that cannot start need not be tried again, unless a device with somebody's requests waits for it. */
async function waitsForDaemon(name: string): Promise<boolean> {
  try {
    using control = ControlPlane.open();
    return (await listDevices(control)).some((device) => device.mark === volumeMark(volumeName(name)));
  } catch {
    return false;
  }
}

function describeStatus(status: VolumeStatus): string {
  const { statistics, device } = status;
  const facts = table([
    ["volume", `${status.name} (${status.config})`],
    ["state", `${status.state}${status.recovered ? ", recovered" : ""}, since ${status.since}`],
    ["device", `${device.path}, ${device.link}`],
    [
      "size",
      `${formatSize(status.sizeBytes)}, blocks of ${status.logicalBlockBytes}${status.readOnly ? ", read-only" : ""}`,
    ],
    ["target", status.target],
    ["backing", status.backing.join("; ")],
    ["queues", `${status.queues}, ${status.depth} deep`],
    ["daemon", `pid ${status.pid}, ${formatSize(status.memory.residentBytes)} resident`],
    ...status.pending.map((difference) => ["pending", difference]),
  ]);
  const rows = OPERATION_NAMES.filter((name) => name !== undefined).map((name) => {
    const { count, bytes, errors, latencyUs } = statistics[name];
    const shown = latencyUs ?? { p50: "-", p90: "-", p99: "-", p999: "-" };
    return [name, count, formatSize(bytes).padStart(9), errors, shown.p50, shown.p90, shown.p99, shown.p999];
  });
  const head = ["operation", "count", "bytes", "errors", "p50 µs", "p90", "p99", "p99.9"];
  return `${facts}\n\n${table([head, ...rows])}\nin flight: ${statistics.inFlight}`;
}

function mark(ok: boolean): string {
  const colours = process.stdout.isTTY;
  const text = ok ? "ok" : "WRONG";
  return colours ? styleText(ok ? "green" : "red", text) : text;
}

async function listCommand(): Promise<void> {
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

async function statusCommand(name: string | undefined, metrics: boolean): Promise<void> {
  if (name === undefined) {
    await listCommand();
    return;
  }
  if (metrics) {
    process.stdout.write(await ask(volumeName(name), "GET", "/v1/metrics"));
    return;
  }
  const status = await askStatus(volumeName(name));
  print(json, status, () => describeStatus(status));
}

async function orphansCommand(remove: boolean): Promise<void> {
  const orphans = (await takeInventory()).filter((row) => row.state === "orphan");
  if (remove && orphans.length > 0) {
    using control = ControlPlane.open();
    for (const { device } of orphans) if (device !== null) await removeDevice(control, device);
  }
  const ids = orphans.map(({ device }) => device);
  print(json, { orphans: ids, removed: remove }, () =>
    ids.length === 0 ? "no orphans" : ids.map((id) => `/dev/ublkb${id ?? ""}${remove ? " removed" : ""}`).join("\n"),
  );
}

/** What sluice makes of a feature, where it uses it. */
const USES: Partial<Record<Feature, string>> = {
  USER_RECOVERY: "a device outlives its daemon",
  USER_RECOVERY_REISSUE: "requests in flight are served by the next daemon",
  UPDATE_SIZE: "sluice resize on a running volume",
  QUIESCE: "asked for, so that a daemon can be replaced in an orderly way",
  SAFE_STOP_DEV: "the kernel itself refuses to stop a device that is in use",
  NO_AUTO_PART_SCAN: "tells that the kernel scans partitions after the start: they are found without udev",
  CMD_IOCTL_ENCODE: "required",
};

async function featuresCommand(): Promise<void> {
  using control = ControlPlane.open();
  const known = await control.features();
  const rows = (Object.keys(FEATURE_BITS) as Feature[]).map((feature) => ({
    feature,
    available: known.has(feature),
    use: USES[feature] ?? null,
  }));
  print(json, rows, () => table(rows.map((row) => [row.feature, row.available ? "yes" : "no", row.use ?? ""])));
}

async function checkCommand(name: string): Promise<void> {
  const { checkVolume } = await import("./check.ts");
  const findings = await checkVolume(name);
  print(json, findings, () => table(findings.map(({ what, ok, text }) => [mark(ok), what, text])));
  if (findings.some(({ ok }) => !ok)) process.exitCode = EXIT.failed;
}

function sizeArgument(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) throw new UblkError("EUSAGE", `"${text}" is no size: wanted one such as 10GiB`);
  return bytes;
}

async function volumeNames(): Promise<string[]> {
  const entries = await readdir(configDirectory()).catch(() => []);
  return entries.filter((entry) => entry.endsWith(".toml")).map((entry) => entry.replace(/\.toml$/, ""));
}

const parser = yargs(hideBin(process.argv))
  .scriptName("sluice")
  .usage(
    "$0 COMMAND\n\nVolumes in the write path of a block device: each is a /dev/ublkbN, served by a daemon of its own.",
  )
  .command(
    "up <name>",
    "start a volume, and wait until its device is there",
    (command) =>
      nameArgument(command)
        .option("timeout", { type: "number", default: 120, describe: "seconds to wait for the device" })
        .option("foreground", {
          type: "boolean",
          default: false,
          describe: "be the daemon, and log to standard error",
        }),
    async ({ name, timeout, foreground }) => {
      const config = await readConfig(name);
      if (foreground) {
        const { runDaemon } = await import("../control/daemon.ts");
        await runDaemon(config);
        return;
      }
      const status = await startService(config.name, timeout * 1000);
      print(json, status, () => `${status.device.path} (${status.device.link}), ${formatSize(status.sizeBytes)}`);
    },
  )
  .command(
    "down <name>",
    "stop a volume; refused while its device is open or mounted",
    (command) =>
      nameArgument(command)
        .option("force", {
          type: "boolean",
          default: false,
          describe: "stop even so: all that was written is written back first, but whoever uses the device gets errors",
        })
        .option("wait", { type: "number", default: 0, describe: "seconds to wait for the device to come out of use" }),
    async ({ name, force, wait }) => {
      await stopService(volumeName(name), force, wait * 1000);
      print(json, { stopped: true }, () => `${name} is stopped`);
    },
  )
  .command(
    "status [name]",
    "state, counters and latencies of a running volume; without a name, all volumes",
    (command) =>
      command
        .positional("name", { type: "string", describe: "name of the volume" })
        .option("metrics", { type: "boolean", default: false, describe: "the numbers in Prometheus' format" }),
    ({ name, metrics }) => statusCommand(name, metrics),
  )
  .command("list", "all volumes, and all ublk devices of this machine", {}, listCommand)
  .command(
    "resize <name> [size]",
    "give a running volume another size: that of its backing store, or SIZE",
    (command) => nameArgument(command).positional("size", { type: "string", describe: 'such as "20GiB"' }),
    async ({ name, size }) => {
      const sizeBytes = await askResize(volumeName(name), sizeArgument(size));
      print(json, { sizeBytes }, () => `${name} has ${formatSize(sizeBytes)}`);
    },
  )
  .command("check <name>", "look at everything that a start needs; NAME may be a file", nameArgument, ({ name }) =>
    checkCommand(name),
  )
  .command("features", "what this kernel's ublk can, and what sluice uses of it", {}, featuresCommand)
  .command(
    "orphans",
    "ublk devices that nobody serves and no volume waits for",
    (command) =>
      command.option("remove", { type: "boolean", default: false, describe: "remove them; their requests fail" }),
    ({ remove }) => orphansCommand(remove),
  )
  .command(
    "daemon <name>",
    "serve a volume in this process (what the service manager runs)",
    nameArgument,
    ({ name }) => daemon(name),
  )
  .completion("completion", 'a script for bash or zsh: eval "$(sluice completion)"', async (current, argv) => {
    const words = argv._.map(String);
    const commands = ["up", "down", "status", "list", "resize", "check", "features", "orphans", "daemon", "completion"];
    const takesVolume = ["up", "down", "status", "resize", "check", "daemon"].includes(words[1] ?? "");
    const candidates = words.length <= 2 && !takesVolume ? commands : takesVolume ? await volumeNames() : [];
    return candidates.filter((candidate) => candidate.startsWith(current));
  })
  .option("json", { type: "boolean", default: false, describe: "print JSON, errors too", global: true })
  .demandCommand(1, "name a command")
  .recommendCommands()
  .strict()
  .wrap(Math.min(120, process.stdout.columns || 100))
  .epilogue(EPILOGUE)
  .version("0.1.0")
  .help()
  .exitProcess(false)
  .showHelpOnFail(false)
  .fail((message: string | null, error: unknown) => {
    // A message of yargs is about the words on the command line; everything else was thrown by a command.
    throw error ?? new UblkError("EUSAGE", `${message ?? "wrong usage"} (see sluice --help)`);
  });

try {
  await parser.parseAsync();
} catch (error) {
  complain(json, error);
  const usage = error instanceof UblkError && error.code === "EUSAGE";
  process.exitCode = usage ? EXIT.usage : EXIT.failed;
}
