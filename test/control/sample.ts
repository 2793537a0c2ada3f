/** A volume that is none: what the control API serves in tests that need no kernel. */
import type { ControlledVolume } from "../../src/control/api.ts";
import type { VolumeStatus } from "../../src/control/status.ts";
import { Operation } from "../../src/ublk/request.ts";
import { QueueStatistics, summarise } from "../../src/ublk/statistics.ts";

export function sampleStatus(changes: Partial<VolumeStatus> = {}): VolumeStatus {
  const queue = new QueueStatistics();
  for (let us = 1; us <= 100; us++) queue.count(Operation.WRITE, 4096, 0, us);
  queue.count(Operation.READ, 4096, -5, 1_000_000);
  return {
    name: "data",
    version: "1.2.3",
    config: "/etc/sluice/data.toml",
    state: "live",
    device: { id: 3, path: "/dev/ublkb3", link: "/dev/sluice/data" },
    sizeBytes: 2 ** 30,
    logicalBlockBytes: 512,
    readOnly: false,
    queues: 1,
    depth: 128,
    target: "file /srv/data.img",
    backing: ["regular file, locked", "direct I/O"],
    pid: 4711,
    since: "2026-01-02T03:04:05.678Z",
    recovered: true,
    memory: { residentBytes: 80 * 2 ** 20, buffersLocked: true, ioFlusher: true },
    statistics: summarise([queue]),
    pending: [],
    ...changes,
  };
}

/** Notes what it is asked to do, and does what it is told to. */
export class SampleVolume implements ControlledVolume {
  readonly calls: string[] = [];
  /** Thrown by whatever is called next. */
  error: Error | undefined;

  status(): VolumeStatus {
    this.#note("status");
    return sampleStatus();
  }

  async stop(force: boolean): Promise<void> {
    this.#note(`stop ${force}`);
    return Promise.resolve();
  }

  async resize(sizeBytes: number | undefined): Promise<number> {
    this.#note(`resize ${String(sizeBytes)}`);
    return Promise.resolve(sizeBytes ?? 1024);
  }

  #note(call: string): void {
    this.calls.push(call);
    if (this.error !== undefined) throw this.error;
  }
}
