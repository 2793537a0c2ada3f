/** What a daemon says of its volume: the answer of GET /v1/status, and what `sluice status --json` prints. */
import type { CopyRow } from "./copy-status.ts";
import type { MirrorStatus } from "./mirror-status.ts";
import type { RecordStatus } from "./record-status.ts";
import type { SnapshotStoreStatus } from "./snapshot-status.ts";
import type { DeviceStatistics } from "../ublk/statistics.ts";

export interface VolumeStatus {
  readonly name: string;
  /** Of sluice, as the daemon runs it: the installed one may be newer. */
  readonly version: string;
  readonly config: string;
  readonly state: "live" | "stopping";
  readonly device: { readonly id: number; readonly path: string; readonly link: string };
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly readOnly: boolean;
  readonly queues: number;
  readonly depth: number;
  readonly target: string;
  /** How the backing store is used, in words. */
  readonly backing: readonly string[];
  readonly pid: number;
  /** When this daemon took up the service, ISO 8601. */
  readonly since: string;
  /** Whether this daemon took the device over from one that died. */
  readonly recovered: boolean;
  readonly memory: { readonly residentBytes: number; readonly buffersLocked: boolean; readonly ioFlusher: boolean };
  readonly statistics: DeviceStatistics;
  /** The predictive record; null for a volume that has none. */
  readonly record: RecordStatus | null;
  /** The store of its snapshots; null for a volume that has none. */
  readonly snapshots: SnapshotStoreStatus | null;
  /** Its copy jobs; null for a volume that can have none. */
  readonly copies: readonly CopyRow[] | null;
  /** Its mirror; null for a volume that has none. */
  readonly mirror: MirrorStatus | null;
  /** What is configured otherwise than it runs, and how to make it so. */
  readonly pending: readonly string[];
}
