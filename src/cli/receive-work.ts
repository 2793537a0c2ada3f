/** What the commands of `sluice receive` do. */
import { ConfigError } from "../control/config-name.ts";
import { log } from "../control/log.ts";
import { formatAddress } from "../control/receive-address.ts";
import { askReceivedExport, askReceivedUnexport, askReceiveStatus } from "../control/receive-client.ts";
import { readReceiveConfig, specOf } from "../control/receive-config.ts";
import { initReceived } from "../control/receive-files.ts";
import type { ReceivedPointRow, ReceivedStatus, ReceiveStatus, Usage } from "../control/receive-status.ts";
import { runReceive } from "../control/receive.ts";
import { formatSize } from "../control/sizes.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { EXIT, print, table } from "./output.ts";
import { volumeName } from "./page.ts";

const LOG_BYTES = 256 * 2 ** 20;

/** Gives the exit status: 0 after a clean stop, 1 when it is worth trying again, 78 when it is not. */
export async function serveReceiver(): Promise<number> {
  try {
    await runReceive(await readReceiveConfig());
    return 0;
  } catch (error) {
    log("error", messageOf(error));
    if (process.env["SLUICE_DEBUG"] === "1" && error instanceof Error) log("debug", error.stack ?? "");
    return error instanceof ConfigError || codeOf(error) === "ERUNNING" ? EXIT.configuration : EXIT.failed;
  }
}

export interface InitSizes {
  readonly imageBytes: number | null;
  readonly storeBytes: number | null;
  readonly logBytes: number | undefined;
  readonly isSeeded: boolean;
}

/** Throws as initReceived, and ConfigError. */
export async function initVolume(name: string, json: boolean, { isSeeded, ...sizes }: InitSizes): Promise<void> {
  const spec = specOf(await readReceiveConfig(), name);
  const newSizes = { ...sizes, logBytes: sizes.logBytes ?? LOG_BYTES };
  const made = await initReceived(spec, newSizes, isSeeded ? "seed" : "any");
  print(json, { made }, () => made.map((path) => `made ${path}`).join("\n"));
}

export async function checkReceiver(json: boolean): Promise<void> {
  const config = await readReceiveConfig();
  print(json, config, () =>
    table([
      ["listen", `${formatAddress(config.listen)}, ${config.transport.transport}`],
      ...config.volumes.map(({ name, path, store, log: logPath, keep }) => [
        name,
        `image ${path}, store ${store} (${keep} points), log ${logPath}`,
      ]),
    ]),
  );
}

export async function showStatus(json: boolean): Promise<void> {
  const status = await askReceiveStatus();
  print(json, status, () => describeReceiver(status));
}

/** `what`: VOLUME@POINT, or VOLUME for its last closed point. Throws EUSAGE, and what the receiver answers. */
export async function exportPoint(what: string, json: boolean): Promise<void> {
  const { volume, point } = pointOf(what);
  const row = await askReceivedExport(volume, point);
  print(json, row, () => row.device);
}

/** Throws EUSAGE, and what the receiver answers. */
export async function unexportPoint(what: string, force: boolean, json: boolean): Promise<void> {
  const { volume, point } = pointOf(what);
  if (point === null) throw new UblkError("EUSAGE", `say which point: ${volume}@POINT, as in "sluice receive status"`);
  await askReceivedUnexport(volume, point, force);
  print(json, { unexported: point }, () => `point ${point} of ${volume} is not exported any more`);
}

function pointOf(what: string): { readonly volume: string; readonly point: number | null } {
  const [name = "", number, ...rest] = what.split("@");
  const volume = volumeName(name);
  if (number === undefined) return { volume, point: null };
  const point = /^[1-9][0-9]*$/.test(number) && rest.length === 0 ? Number(number) : NaN;
  if (Number.isSafeInteger(point)) return { volume, point };
  throw new UblkError("EUSAGE", `wanted VOLUME or VOLUME@POINT, such as data@42, found "${what}"`);
}

export function describeReceiver(status: ReceiveStatus): string {
  const facts = table([
    ["receiver", `pid ${status.pid}, sluice ${status.version}, since ${status.since}`],
    ["listens", `${status.listen}, ${status.transport}`],
  ]);
  return [facts, ...status.volumes.map((volume) => table(factsOf(volume)))].join("\n\n");
}

function factsOf(volume: ReceivedStatus): [string, string][] {
  const { state, source, error } = volume;
  const what = error ?? (source === null ? "for its source" : `to ${source}, since ${volume.since ?? "?"}`);
  const facts: [string, string][] = [
    ["volume", `${volume.name}${volume.sizeBytes === null ? "" : `, ${formatSize(volume.sizeBytes)}`}`],
    ["state", `${state}${error === null ? " " : ": "}${what}`],
  ];
  if (error !== null) return facts;
  const { transfers, transferBytes, itemBytes } = volume.received;
  facts.push(
    ["shows", volume.lastClosed === null ? "nothing yet: no closed point has come" : pointText(volume.lastClosed)],
    ["last point", volume.lastPoint ? String(volume.lastPoint) : "none"],
    ["kept", volume.points.length === 0 ? "no older points" : volume.points.map(pointText).join("; ")],
    ...volume.exports.map((each): [string, string] => ["exported", `${pointText(each)}: ${each.device}`]),
    [
      "received",
      `${transfers} transfers, ${formatSize(transferBytes)}; ${formatSize(itemBytes)} of points, since the start`,
    ],
    ["log", usageText(volume.log)],
    ["store", `${usageText(volume.store)}${volume.isStoreFull ? ", FULL: the next point waits" : ""}`],
  );
  return facts;
}

function pointText({ point, created, state }: ReceivedPointRow): string {
  return `${point} of ${created ?? "a time that is not known"}${state === "valid" ? "" : ` (given up: ${state})`}`;
}

function usageText(usage: Usage | null): string {
  return usage === null ? "-" : `${formatSize(usage.used)} of ${formatSize(usage.size)}`;
}
