/** The volume's numbers in Prometheus' text format. Read from the counters when asked, never kept twice. */
import { Counter, Gauge, Registry } from "prom-client";
import { RECORD_STATES } from "../copy/copy-record.ts";
import { OPERATION_NAMES } from "../ublk/request.ts";
import type { CopyRow } from "./copy-status.ts";
import { LINK_STATES } from "./mirror-status.ts";
import type { MirrorStatus } from "./mirror-status.ts";
import type { RecordStatus } from "./record-status.ts";
import type { SnapshotStoreStatus } from "./snapshot-status.ts";
import type { VolumeStatus } from "./status.ts";

/** Copy jobs that have series of their own. */
const COPIES_MAX = 16;

const QUANTILES = [
  [0.5, "p50"],
  [0.9, "p90"],
  [0.99, "p99"],
  [0.999, "p999"],
] as const;

/** Every metric is described in docs/metrics.md. */
export async function metricsText(status: VolumeStatus): Promise<string> {
  const registry = new Registry();
  registry.setDefaultLabels({ volume: status.name });
  const registers = [registry];
  const { gauge } = numbersIn(registers);
  const labelNames = ["operation"];
  const requests = new Counter({ name: "sluice_requests_total", help: "Requests answered", labelNames, registers });
  const bytes = new Counter({
    name: "sluice_bytes_total",
    help: "Bytes of requests that succeeded",
    labelNames,
    registers,
  });
  const errors = new Counter({
    name: "sluice_errors_total",
    help: "Requests answered with an error",
    labelNames,
    registers,
  });
  const seconds = new Counter({
    name: "sluice_request_seconds_total",
    help: "Time that requests took, summed up",
    labelNames,
    registers,
  });
  const latency = new Gauge({
    name: "sluice_request_latency_seconds",
    help: "Upper bound of the latency of a share of the requests since the daemon started",
    labelNames: ["operation", "quantile"],
    registers,
  });
  for (const operation of OPERATION_NAMES) {
    if (operation === undefined) continue;
    const { count, bytes: moved, errors: failed, totalUs, latencyUs } = status.statistics[operation];
    requests.inc({ operation }, count);
    bytes.inc({ operation }, moved);
    errors.inc({ operation }, failed);
    seconds.inc({ operation }, totalUs / 1e6);
    if (latencyUs === null) continue;
    for (const [quantile, key] of QUANTILES)
      latency.set({ operation, quantile: String(quantile) }, latencyUs[key] / 1e6);
  }
  new Gauge({
    name: "sluice_volume_info",
    help: "Always 1; its labels say what runs",
    labelNames: ["version", "device", "target"],
    registers,
  }).set({ version: status.version, device: status.device.path, target: status.target }, 1);
  gauge("sluice_requests_in_flight", "Requests that are being served", status.statistics.inFlight);
  gauge("sluice_requests_in_flight_max", "Requests that can be served at once", status.queues * status.depth);
  gauge("sluice_size_bytes", "Size of the volume", status.sizeBytes);
  gauge("sluice_resident_memory_bytes", "Resident memory of the daemon", status.memory.residentBytes);
  gauge("sluice_start_time_seconds", "When the daemon took up the service", Date.parse(status.since) / 1000);
  gauge("sluice_recovered", "1 when this daemon took the device over from one that died", status.recovered ? 1 : 0);
  if (status.record !== null) recordMetrics(status.record, registers);
  if (status.snapshots !== null) snapshotMetrics(status.snapshots, registers);
  if (status.copies !== null) copyMetrics(status.copies, registers);
  if (status.mirror !== null) mirrorMetrics(status.mirror, registers);
  return registry.metrics();
}

function snapshotMetrics(store: SnapshotStoreStatus, registers: Registry[]): void {
  const { sizeBytes, usedBytes, fillingBytesPerSecond, fullInSeconds, warnings, counts } = store;
  const { gauge, counter } = numbersIn(registers);
  gauge("sluice_snapshot_store_bytes", "Room for originals in the store of the snapshots", sizeBytes);
  gauge("sluice_snapshot_store_used_bytes", "Of those, bytes that snapshots want", usedBytes);
  gauge("sluice_snapshot_store_filling_bytes_per_second", "Bytes per second newly used lately", fillingBytesPerSecond);
  if (fullInSeconds !== null)
    gauge("sluice_snapshot_store_full_seconds", "Seconds until it is full at that rate", fullInSeconds);
  counter("sluice_snapshot_store_warnings_total", "Warnings that it is nearly full", warnings);
  gauge("sluice_snapshot_holding", "Writes that wait for an original to be moved", counts.holding);
  counter("sluice_snapshot_held_total", "Writes, discards and zeroes that had to wait for one", counts.held);
  counter("sluice_snapshot_moved_total", "Originals moved to the store", counts.moved);
  counter("sluice_snapshot_read_bytes_total", "Bytes of the volume read to move originals", counts.readBytes);
  counter("sluice_snapshot_written_bytes_total", "Bytes written to the store, tables included", counts.writtenBytes);
  counter("sluice_snapshot_relocated_total", "Blocks copied within the store to make room", counts.relocated);
  counter("sluice_snapshot_lost_total", "Originals that could not be read", counts.lost);
  counter("sluice_snapshot_given_up_total", "Snapshots given up: the store was full, or failed", counts.givenUp);
}

function recordMetrics(record: RecordStatus, registers: Registry[]): void {
  const { counts } = record;
  const { gauge, counter } = numbersIn(registers);
  gauge("sluice_record_limit_bytes", "Bytes that the record may cover", record.limitBytes);
  gauge("sluice_record_bytes", "Bytes that the record covers: what a crash now costs to copy", record.crashCopyBytes);
  gauge("sluice_record_owed_bytes", "Of those, bytes that the remote does not have", record.owedBytes);
  gauge("sluice_record_predicted_bytes", "Of those, bytes that are only expected to be written", record.predictedBytes);
  counter("sluice_record_writes_total", "Writes, discards and zeroes that the record saw", counts.writes);
  counter("sluice_record_held_total", "Of those, the ones that waited for an update of the record", counts.held);
  counter("sluice_record_updates_total", "Durable updates of the record", counts.updates);
  counter("sluice_record_update_failures_total", "Updates of the record that failed", counts.failures);
  counter("sluice_record_stalls_total", "Times that writes found no room in the record", counts.stalls);
  counter("sluice_record_wasted_chunks_total", "Predicted chunks that left the record unwritten", counts.wasted);
}

function mirrorMetrics(mirror: MirrorStatus, registers: Registry[]): void {
  const { gauge, counter } = numbersIn(registers);
  const states = new Gauge({
    name: "sluice_mirror_state",
    help: "1 for the state that the mirror is in, else 0",
    labelNames: ["state"],
    registers,
  });
  for (const state of LINK_STATES) states.set({ state }, mirror.state === state ? 1 : 0);
  gauge("sluice_mirror_to_copy_bytes", "Bytes that no log tells the receiver of, to be copied", mirror.toCopyBytes);
  gauge("sluice_mirror_logging", "1 while writes are logged for the receiver", mirror.isLogging ? 1 : 0);
  if (mirror.lastClosed !== null) {
    gauge("sluice_mirror_point_time_seconds", "The moment that the receiver shows", mirror.lastClosed.createdMs / 1000);
    gauge("sluice_mirror_point", "Number of the point that the receiver shows", mirror.lastClosed.point);
  }
  const { lag } = mirror;
  gauge("sluice_mirror_lag_bytes", "Bytes in which the receiver differs at most", lag.bytes);
  if (lag.seconds !== null)
    gauge("sluice_mirror_lag_seconds", "Age of the oldest write that the receiver does not show", lag.seconds);
  gauge("sluice_mirror_lag_points", "Consistency points cut since the one that the receiver shows", lag.points);
  counter("sluice_mirror_connections_total", "Attempts to connect that were answered", mirror.connections);
  counter("sluice_mirror_transfer_bytes_total", "Bytes sent as transfers", mirror.sentBytes.transfers);
  counter("sluice_mirror_point_bytes_total", "Bytes sent for consistency points", mirror.sentBytes.points);
  counter("sluice_mirror_points_closed_total", "Consistency points committed that show a moment", mirror.points.closed);
  counter("sluice_mirror_points_open_total", "Consistency points committed while copying", mirror.points.open);
  counter("sluice_mirror_sums_bytes_total", "Bytes sent as checksums", mirror.sentBytes.sums);
  counter("sluice_mirror_wire_bytes_total", "Bytes that went over for all of these, packed or not", mirror.wireBytes);
  const { copied, verified } = mirror.compared;
  counter("sluice_mirror_compared_bytes_total", "Bytes to be copied that were compared first", copied.comparedBytes);
  counter("sluice_mirror_equal_bytes_total", "Of these, bytes that were equal, and not sent", copied.equalBytes);
  counter("sluice_mirror_verified_bytes_total", "Bytes compared by verifying", verified.comparedBytes);
  counter("sluice_mirror_differing_bytes_total", "Of these, bytes that differed", verified.differentBytes);
  counter("sluice_mirror_overflows_total", "Times that the log for the receiver was full", mirror.overflows);
  counter("sluice_mirror_held_total", "Writes that waited for the mirror before they went on", mirror.heldWrites);
}

/** The newest jobs are told of one by one; all are counted. */
function copyMetrics(copies: readonly CopyRow[], registers: Registry[]): void {
  const labelled = (name: string, help: string, labelNames: string[]): Gauge => {
    return new Gauge({ name, help, labelNames, registers });
  };
  const jobs = labelled("sluice_copy_jobs", "Copy jobs in this state", ["state"]);
  for (const state of RECORD_STATES) jobs.set({ state }, copies.filter((row) => row.state === state).length);
  const states = labelled("sluice_copy_state", "1 for the state that a copy job is in, else 0", ["copy", "state"]);
  const copied = labelled("sluice_copy_copied_bytes", "Bytes that are durable at every destination", ["copy"]);
  const left = labelled("sluice_copy_left_bytes", "Bytes that are still to be copied", ["copy"]);
  const rate = labelled("sluice_copy_rate_bytes_per_second", "Bytes copied a second since it went on", ["copy"]);
  for (const row of newestOf(copies)) {
    const copy = row.name;
    for (const state of RECORD_STATES) states.set({ copy, state }, row.state === state ? 1 : 0);
    copied.set({ copy }, row.copiedBytes);
    left.set({ copy }, row.volumeBytes - row.copiedBytes);
    rate.set({ copy }, row.rateBytesPerSecond ?? 0);
  }
}

/** Whoever never forgets a job that is complete must not make more and more series. */
function newestOf(copies: readonly CopyRow[]): CopyRow[] {
  return copies.toSorted((one, other) => (one.created < other.created ? 1 : -1)).slice(0, COPIES_MAX);
}

type Tell = (name: string, help: string, value: number) => void;

/** Numbers without labels. */
function numbersIn(registers: Registry[]): { gauge: Tell; counter: Tell } {
  return {
    gauge: (name, help, value) => {
      new Gauge({ name, help, registers }).set(value);
    },
    counter: (name, help, value) => {
      new Counter({ name, help, registers }).inc(value);
    },
  };
}
