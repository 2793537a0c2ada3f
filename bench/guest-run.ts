/** A benchmark's part in a test VM: it is given an order, and leaves what it measured as JSON. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench/results");
const GUEST_MEMORY = "3G";
const GUEST_SECONDS = 7200;

/** Boots the guest, runs the script and gives what it left; how far it is goes to standard error. */
export async function measureInGuest(
  script: string,
  order: object,
  kernel: string,
  ...options: string[]
): Promise<unknown> {
  const out = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  try {
    const machine = ["--kernel", kernel, "--mem", GUEST_MEMORY, "--parallel", "--timeout", String(GUEST_SECONDS)];
    const vm = spawn(join(ROOT, "scripts/vm"), [...machine, ...options, "--", "node_modules/.bin/node", script], {
      cwd: ROOT,
      stdio: ["ignore", 2, 2],
      env: {
        ...process.env,
        BENCH_ORDER: JSON.stringify(order),
        SLUICE_VM_ENV: "BENCH_ORDER",
        SLUICE_VM_OUT: out,
      },
    });
    const [status] = (await once(vm, "exit")) as [number | null];
    if (status !== 0) throw new Error(`the guest run failed with status ${String(status)}`);
    return JSON.parse(await readFile(join(out, "measured.json"), "utf8")) as unknown;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** Keeps a result; gives the file's path. */
export async function saveResult(name: string, result: object): Promise<string> {
  await mkdir(RESULTS, { recursive: true });
  const path = join(RESULTS, `${name}.json`);
  await writeFile(path, `${JSON.stringify(result, null, 2)}\n`);
  return path;
}
