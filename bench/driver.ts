/**
 * The driver beside its peers, in one guest run on one kernel: sluice's null and file targets, the kernel's own ublk server
 * in C (kublk), and the loop device. Medians of several rounds, in which all peers take turns; ratios, not times.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { DriverMeasurement, Sample } from "./guest/driver.ts";

const execute = promisify(execFile);
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What must be reached beside kublk. */
const IOPS_WANTED = 0.95;
const CPU_WANTED = 1.2;

export interface BenchOptions {
  readonly kernel: string;
  readonly rounds: number;
}

interface Row {
  readonly load: string;
  readonly ours: string;
  readonly peer: string;
  readonly iops: number;
  readonly iopsRatio: number;
  readonly cpuUs: number;
  readonly cpuRatio: number;
}

const PAIRS = [
  ["sluice null", "kublk null"],
  ["sluice file", "kublk loop"],
  ["sluice file", "loop device"],
] as const;

export async function driver({ kernel, rounds }: BenchOptions): Promise<{ result: unknown; text: string }> {
  const { stdout } = await execute(join(ROOT, "scripts/kublk"));
  const out = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  const environment = { ...process.env, KUBLK: stdout.trim(), ROUNDS: String(rounds), SLUICE_VM_OUT: out };
  const command = [
    "--kernel",
    kernel,
    "--mem",
    "3G",
    "--timeout",
    "3600",
    "--",
    "node_modules/.bin/node",
    "bench/guest/driver.ts",
  ];
  await execute(join(ROOT, "scripts/vm"), command, {
    cwd: ROOT,
    env: { ...environment, SLUICE_VM_ENV: "KUBLK ROUNDS" },
    maxBuffer: 2 ** 26,
  });
  const measured = JSON.parse(await readFile(join(out, "driver.json"), "utf8")) as DriverMeasurement;
  await rm(out, { recursive: true });
  const rows = rowsOf(measured.samples);
  const result = { kernel: measured.kernel, rounds, rows, memory: measured.memory, start: measured.start };
  const directory = join(process.env["SLUICE_CACHE"] ?? join(homedir(), ".cache/sluice"), "results");
  await mkdir(directory, { recursive: true });
  const saved = join(directory, `driver-${kernel}.json`);
  await writeFile(saved, `${JSON.stringify({ ...result, samples: measured.samples }, null, 2)}\n`);
  return { result, text: `${describe(measured, rows)}\nSaved as ${saved}` };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

function rowsOf(samples: readonly Sample[]): Row[] {
  const of = (peer: string, load: string, key: "iops" | "cpuUs"): number =>
    median(samples.filter((sample) => sample.peer === peer && sample.load === load).map((sample) => sample[key]));
  const loads = [...new Set(samples.map(({ load }) => load))];
  return loads.flatMap((load) =>
    PAIRS.map(([ours, peer]) => ({
      load,
      ours,
      peer,
      iops: of(ours, load, "iops"),
      iopsRatio: of(ours, load, "iops") / of(peer, load, "iops"),
      cpuUs: of(ours, load, "cpuUs"),
      cpuRatio: of(ours, load, "cpuUs") / of(peer, load, "cpuUs"),
    })),
  );
}

function describe({ kernel, memory, start }: DriverMeasurement, rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const against = row.peer.startsWith("kublk");
    const verdict = !against
      ? ""
      : [
          row.iopsRatio >= IOPS_WANTED ? "" : `IOPS below ${IOPS_WANTED}`,
          row.cpuRatio <= CPU_WANTED ? "" : `CPU above ${CPU_WANTED}`,
        ]
          .filter((text) => text !== "")
          .join(", ") || "reached";
    const cpu = against ? row.cpuRatio.toFixed(2) : "-";
    return [
      row.load,
      row.ours,
      row.peer,
      Math.round(row.iops),
      row.iopsRatio.toFixed(2),
      row.cpuUs.toFixed(1),
      cpu,
      verdict,
    ];
  });
  const head = ["load", "ours", "peer", "IOPS", "ratio", "CPU µs", "ratio", ""];
  const table = [head, ...lines].map((cells) =>
    cells
      .map((cell, column) => String(cell).padEnd([18, 12, 12, 8, 6, 8, 6, 0][column] ?? 0))
      .join(" ")
      .trimEnd(),
  );
  const MIB = 2 ** 20;
  return [
    `Linux ${kernel}; medians; CPU is the server's own time for a request (the loop device has no process)`,
    ...table,
    `resident memory at depth 128: ${(memory.residentBytes / MIB).toFixed(0)} MiB after the load, grown by ${((memory.residentBytes - memory.firstBytes) / MIB).toFixed(1)} MiB over ${memory.requests} requests`,
    `start to device present, ms: ${Object.entries(start)
      .map(([part, ms]) => `${part} ${Math.round(ms)}`)
      .join(", ")}`,
  ].join("\n");
}
