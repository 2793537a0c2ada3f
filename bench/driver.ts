/**
 * The driver beside its peers, in one guest run on one kernel: sluice's null and file targets, the kernel's own ublk server
 * in C (kublk), and the loop device. Medians of several rounds, in which all peers take turns; ratios, not times.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { DriverMeasurement, DriverOrder } from "./guest/driver.ts";
import { describe, rowsOf } from "./report.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench/results");
const GUEST_MEMORY = "3G";
const GUEST_SECONDS = 7200;

export interface BenchOptions extends Omit<DriverOrder, "kublk"> {
  readonly kernel: string;
}

export async function driver(options: BenchOptions): Promise<{ result: unknown; text: string }> {
  const { kernel, rounds, requests, load, nullOnly } = options;
  const { stdout } = await promisify(execFile)(join(ROOT, "scripts/kublk"));
  const measured = await measureInGuest(kernel, { kublk: stdout.trim(), rounds, requests, load, nullOnly });
  const rows = rowsOf(measured.samples);
  const result = { kernel: measured.kernel, rounds, rows, memory: measured.memory, start: measured.start };
  await mkdir(RESULTS, { recursive: true });
  const saved = join(RESULTS, `driver-${kernel}.json`);
  await writeFile(saved, `${JSON.stringify({ ...result, samples: measured.samples }, null, 2)}\n`);
  return { result, text: `${describe(measured, rounds, rows)}\nSaved as ${saved}` };
}

/** Boots the guest; how far it is goes to standard error. */
async function measureInGuest(kernel: string, order: DriverOrder): Promise<DriverMeasurement> {
  const out = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  try {
    const options = ["--kernel", kernel, "--mem", GUEST_MEMORY, "--timeout", String(GUEST_SECONDS)];
    const command = ["node_modules/.bin/node", "bench/guest/driver.ts"];
    const vm = spawn(join(ROOT, "scripts/vm"), [...options, "--", ...command], {
      cwd: ROOT,
      stdio: ["ignore", 2, 2],
      env: {
        ...process.env,
        BENCH_DRIVER: JSON.stringify(order),
        SLUICE_VM_ENV: "BENCH_DRIVER",
        SLUICE_VM_OUT: out,
      },
    });
    const [status] = (await once(vm, "exit")) as [number | null];
    if (status !== 0) throw new Error(`the guest run failed with status ${String(status)}`);
    return JSON.parse(await readFile(join(out, "driver.json"), "utf8")) as DriverMeasurement;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}
