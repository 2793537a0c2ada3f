/** The daemon of a volume as users run it, for tests in a guest: started, killed, started again. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { owned } from "./children.ts";
import type { MemoryGroup } from "./memory-group.ts";

const SLUICE = fileURLToPath(new URL("../../bin/sluice", import.meta.url));

/** A process that is still there so long after its signal never goes. */
const PATIENCE_MS = 300_000;

/** Writes /etc/sluice/NAME.toml. */
export async function configure(name: string, toml: string): Promise<void> {
  await mkdir("/etc/sluice", { recursive: true });
  await writeFile(`/etc/sluice/${name}.toml`, `${toml}\n`);
}

export class Daemon {
  readonly #command: readonly [string, ...string[]];
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  readonly #givenUp = Promise.withResolvers<never>();
  output = "";
  /** N of /dev/ublkbN. */
  id = -1;

  /** `group`: what it runs in. */
  constructor(name: string, group?: MemoryGroup) {
    const command = [SLUICE, "daemon", name] as const;
    this.#command = group?.around(command) ?? command;
  }

  get path(): string {
    return `/dev/ublkb${this.id}`;
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  /** Starts the process without waiting for it. */
  spawn(): Promise<void> {
    const [program, ...words] = this.#command;
    const child = spawn(program, words, { stdio: ["ignore", "ignore", "pipe"] });
    owned(child, () => this.output);
    this.#child = child;
    this.#ended = once(child, "exit");
    this.output = "";
    return new Promise((resolve, reject) => {
      createInterface(child.stderr).on("line", (line) => {
        this.output += `${line}\n`;
        const served = /is served as \/dev\/ublkb(\d+)/.exec(line);
        if (served === null) return;
        this.id = Number(served[1]);
        resolve();
      });
      child.once("exit", (code, signal) => {
        reject(new Error(`the daemon ended with ${String(code ?? signal)}: ${this.output}`));
      });
    });
  }

  /** Starts the process; resolves when it serves. */
  async start(): Promise<void> {
    await this.spawn();
  }

  /** Resolves when the process is gone; a clean stop that is refused is told, rather than waited for. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#child?.kill(signal);
    const patience = setTimeout(() => this.#givenUp.reject(new Error(`still there: ${this.output}`)), PATIENCE_MS);
    await Promise.race([this.#ended, this.#givenUp.promise]);
    clearTimeout(patience);
  }
}
