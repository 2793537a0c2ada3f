/**
 * The model of DRBD's activity log beside DRBD itself: the writes of a real trace, replayed one by one on the kernel's own
 * DRBD 8.4 in a guest, and counted by both.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { measureInGuest, saveResult } from "./guest-run.ts";
import type { DrbdMeasurement, DrbdOrder } from "./guest/drbd.ts";

const UNPACKED = fileURLToPath(new URL("../scripts/unpacked", import.meta.url));
/** Of the traced volume, and room for DRBD's own data. */
const DISK = "24G";

export interface DrbdOptions {
  readonly kernel: string;
  /** How many writes of each trace are replayed. */
  readonly writes: number;
}

export async function drbd({ kernel, writes }: DrbdOptions): Promise<{ result: unknown; text: string }> {
  const { stdout } = await promisify(execFile)(UNPACKED, ["drbd-utils"]);
  const order: DrbdOrder = { tools: stdout.trim(), writes };
  const measured = (await measureInGuest("bench/guest/drbd.ts", order, kernel, "--disk", DISK)) as DrbdMeasurement;
  const saved = await saveResult(`drbd-${kernel}`, measured);
  const text = [
    `Linux ${measured.kernel}, DRBD ${measured.version}, not connected, primary; a write at a time.`,
    ...measured.runs.map(
      (run) =>
        `${run.trace}, ${run.writes} writes, ${run.extents} extents: ${run.drbd} updates of the activity log, the model says ${run.model}`,
    ),
    `Saved as ${saved}`,
  ];
  return { result: measured, text: text.join("\n") };
}
