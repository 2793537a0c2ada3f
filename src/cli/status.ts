/** A volume's status for people. */
import { formatSize } from "../control/sizes.ts";
import type { VolumeStatus } from "../control/status.ts";
import { OPERATION_NAMES } from "../ublk/request.ts";
import { copyFacts } from "./copies.ts";
import { mirrorFacts } from "./mirror.ts";
import { table } from "./output.ts";
import { factsOf } from "./record.ts";
import { storeFacts } from "./snapshots.ts";

export function describeStatus(status: VolumeStatus): string {
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
    ["daemon", `pid ${status.pid}, sluice ${status.version}, ${formatSize(status.memory.residentBytes)} resident`],
    ...(status.record === null ? [] : factsOf(status.record)),
    ...(status.snapshots === null ? [] : storeFacts(status.snapshots)),
    ...(status.copies === null ? [] : copyFacts(status.copies)),
    ...(status.mirror === null ? [] : mirrorFacts(status.mirror)),
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
