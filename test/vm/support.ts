/**
 * What tests in a guest share: commands, images, and a server process that can be killed.
 *
 * A command takes seconds to start in an emulated guest. So tests run `bin/sluice` where the command itself is to be tested, each
 * at least once; what else they want of a daemon they ask it themselves, by src/control/client.ts.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { open, rm } from "node:fs/promises";
import { release } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { FilterSpec, VolumeSpec } from "../../src/targets/volume.ts";
import { owned } from "./children.ts";
import type { ServerSpec } from "./server.ts";

const execute = promisify(execFile);
const SERVER = fileURLToPath(new URL("./server.ts", import.meta.url));
const OUTPUT_MAX_BYTES = 64 * 2 ** 20;
const POLL_MS = 100;
export const MIB = 2 ** 20;
/** A guest without udev: dmsetup makes its nodes itself. */
const env = { ...process.env, DM_DISABLE_UDEV: "1" };

/** "6.12" or "7.2". */
export const kernelVersion = release().split(".").slice(0, 2).join(".");

/** Runs a shell command; gives what it printed. Throws with its output when it fails. */
export async function sh(command: string): Promise<string> {
  const { stdout } = await execute("sh", ["-ec", command], { maxBuffer: OUTPUT_MAX_BYTES, env }).catch(
    (error: unknown) => {
      const { stdout: out = "", stderr = "" } = error as { stdout?: string; stderr?: string };
      throw new Error(`${command}\n${out}${stderr}`, { cause: error });
    },
  );
  return stdout;
}

/** Runs a shell command that may fail; gives its exit status and all it printed. */
export async function tried(command: string): Promise<{ code: number; output: string }> {
  return sh(`${command} 2>&1`).then(
    (output) => ({ code: 0, output }),
    (error: unknown) => {
      const { code } = (error as { cause: { code: number } }).cause;
      return { code, output: (error as Error).message };
    },
  );
}

/** Runs `bin/sluice`; gives what it prints for programs. Throws with its output when it fails. */
export async function sluice<T>(words: string): Promise<T> {
  return JSON.parse(await sh(`bin/sluice ${words} --json`)) as T;
}

/** Waits for an event, however long it takes: the test has a limit of its own. */
export async function until(happens: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await happens())) await sleep(POLL_MS);
}

/** A sparse file on tmpfs. */
export async function image(name: string, sizeBytes: number): Promise<string> {
  const path = `/dev/shm/${name}`;
  await rm(path, { force: true });
  const file = await open(path, "w");
  await file.truncate(sizeBytes);
  await file.close();
  return path;
}

/** A file volume with 512-byte blocks and nothing over it, unless told otherwise. */
export function fileVolume(path: string, changes: Partial<VolumeSpec> = {}): VolumeSpec {
  const filters: FilterSpec[] = [];
  return {
    backing: { kind: "file", path },
    sizeBytes: null,
    logicalBlockBytes: 512,
    readOnly: false,
    record: null,
    mirror: null,
    snapshots: null,
    filters,
    ...changes,
  };
}

let lastMark = 0;

/** A process that serves one volume, and can be killed and started again. */
export class Server implements AsyncDisposable {
  readonly #spec: ServerSpec;
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  /** Number of the device. */
  id = -1;
  stderr = "";

  constructor(volume: VolumeSpec, changes: Partial<ServerSpec> = {}) {
    this.#spec = { volume, mark: ++lastMark, ...changes };
  }

  get path(): string {
    return `/dev/ublkb${this.id}`;
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  /** Starts the process; resolves when it has said `line`: "ready" (default), or "added". */
  async start(line: "ready" | "added" = "ready"): Promise<this> {
    const child = spawn(process.execPath, [SERVER, JSON.stringify(this.#spec)], { stdio: ["ignore", "pipe", "pipe"] });
    owned(child, () => this.stderr);
    this.#child = child;
    this.#ended = once(child, "exit");
    this.stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    await new Promise<void>((resolve, reject) => {
      createInterface(child.stdout).on("line", (said) => {
        const [word, id] = said.split(" ");
        if (id !== undefined) this.id = Number(id);
        if (word === line) resolve();
      });
      child.once("exit", (code, signal) => {
        reject(new Error(`the server ended with ${String(code ?? signal)}: ${this.stderr}`));
      });
    });
    return this;
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#child?.kill(signal);
    await this.#ended;
  }

  /** Resolves when the process has ended by itself. */
  async ended(): Promise<void> {
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGTERM");
  }
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: { total_ios: number };
    readonly write: { total_ios: number };
  }[];
}

/** A load that verifies what it wrote; goes on until it is stopped. */
export class VerifiedLoad {
  readonly #child: ChildProcess;
  #output = "";
  readonly #ended: Promise<unknown>;
  hasEnded = false;

  constructor(path: string, options: readonly string[] = []) {
    const job = ["--name=load", `--filename=${path}`, "--output-format=json", ...LOAD, ...options];
    const child = spawn("fio", job, { stdio: ["ignore", "pipe", "pipe"] });
    owned(child, () => this.#output);
    this.#child = child;
    child.stdout.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    this.#ended = once(child, "close").then(() => (this.hasEnded = true));
  }

  /** Ends the load; throws if any request failed or any byte was wrong. Gives how many requests there were. */
  async stop(): Promise<number> {
    this.#child.kill("SIGINT");
    await this.#ended;
    const json = this.#output.slice(this.#output.indexOf("{\n"), this.#output.lastIndexOf("}") + 1);
    const [job] = (JSON.parse(json) as FioReport).jobs;
    if (
      job === undefined ||
      job.error !== 0 ||
      /verify|error=/.test(this.#output.slice(0, this.#output.indexOf("{\n")))
    ) {
      throw new Error(`fio: ${this.#output}`);
    }
    return job.read.total_ios + job.write.total_ios;
  }
}

const LOAD = [
  "--direct=1",
  "--ioengine=libaio",
  "--rw=randwrite",
  "--bsrange=512-64k",
  "--iodepth=16",
  "--verify=crc32c",
  "--verify_fatal=1",
  "--verify_backlog=64",
  "--time_based",
  "--runtime=36000",
];
