/** The part of the check of the activity log's model that runs in the guest, as root. */
import { closeSync, constants, fdatasyncSync, openSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { ActivityLog, AL_EXTENTS } from "../record/models/activity-log.ts";
import { realTraces } from "../record/real-traces.ts";
import type { Trace } from "../record/trace.ts";
import { MappedMemory } from "../../src/ublk/memory.ts";
import { leave, readOrder, tell } from "./order.ts";
import { run } from "./peers.ts";

export interface DrbdOrder {
  /** Where DRBD's tools are unpacked. */
  readonly tools: string;
  readonly writes: number;
}

export interface DrbdRun {
  readonly trace: string;
  readonly writes: number;
  readonly extents: number;
  /** Updates of the activity log. */
  readonly drbd: number;
  readonly model: number;
}

export interface DrbdMeasurement {
  readonly kernel: string;
  readonly version: string;
  readonly runs: readonly DrbdRun[];
}

const BACKING = "/dev/vda";
const DEVICE = "/dev/drbd0";
const RESOURCE = "replay";
const MINOR = "0";
const WRITE_BYTES_MAX = 1024 * 1024;

/** A fresh device without a peer, whose activity log has so many extents. */
async function start(tools: string, extents: number): Promise<void> {
  const setup = `${tools}/usr/lib/drbd/drbdsetup-84`;
  const meta = (...words: string[]): Promise<string> =>
    run(`${tools}/usr/sbin/drbdmeta`, "--force", MINOR, "v08", BACKING, "internal", ...words);
  await meta("create-md");
  await run(setup, "new-resource", RESOURCE);
  await run(setup, "new-minor", RESOURCE, MINOR, "0");
  const attach = ["attach", MINOR, BACKING, BACKING, "internal", `--al-extents=${extents}`];
  await run(setup, ...attach);
  // While all of the device is out of sync, as at first, there is nothing to log.
  await run(setup, "new-current-uuid", "--clear-bitmap", MINOR);
  await run(setup, "detach", MINOR);
  await meta("apply-al");
  await run(setup, ...attach);
  await run(setup, "primary", MINOR, "--force");
}

async function stop(tools: string): Promise<void> {
  await run(`${tools}/usr/lib/drbd/drbdsetup-84`, "down", RESOURCE);
}

/** The count that /proc/drbd has as "al:". */
async function updatesOfLog(): Promise<number> {
  const count = / al:(\d+) /.exec(await readFile("/proc/drbd", "utf8"))?.[1];
  if (count === undefined) throw new Error("/proc/drbd has no count of the activity log");
  return Number(count);
}

/** The trace's first writes, one after the other, to the device and to the model. */
function replay(trace: Trace, writes: number, model: ActivityLog): void {
  using memory = MappedMemory.anonymous(WRITE_BYTES_MAX);
  const bytes = new Uint8Array(memory.buffer);
  const device = openSync(DEVICE, constants.O_WRONLY | constants.O_DIRECT);
  try {
    for (let index = 0; index < writes; index++) {
      const offset = trace.offsets[index] as number;
      const length = trace.lengths[index] as number;
      for (let done = 0; done < length; done += WRITE_BYTES_MAX) {
        const part = Math.min(WRITE_BYTES_MAX, length - done);
        const written = writeSync(device, bytes, 0, part, offset + done);
        if (written !== part) throw new Error(`${written} of ${part} bytes were written at ${offset + done}`);
      }
      model.write(offset, length);
    }
    fdatasyncSync(device);
  } finally {
    closeSync(device);
  }
}

async function main(): Promise<void> {
  const order = readOrder() as DrbdOrder;
  await run("modprobe", "drbd");
  // Where DRBD's tools keep their locks.
  await run("mkdir", "-p", "/run/lock");
  const runs: DrbdRun[] = [];
  for (const trace of await realTraces()) {
    for (const extents of [AL_EXTENTS.least, AL_EXTENTS.default]) {
      await start(order.tools, extents);
      const before = await updatesOfLog();
      const writes = Math.min(order.writes, trace.length);
      const model = new ActivityLog(trace.volumeBytes, extents);
      replay(trace, writes, model);
      const found = { trace: trace.name, writes, extents, drbd: (await updatesOfLog()) - before, model: model.updates };
      runs.push(found);
      tell(JSON.stringify(found));
      await stop(order.tools);
    }
  }
  const version = /version: (\S+)/.exec(await readFile("/proc/drbd", "utf8"))?.[1] ?? "unknown";
  await leave({ kernel: release(), version, runs });
}

if (import.meta.main) await main();
