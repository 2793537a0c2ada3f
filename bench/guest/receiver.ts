/** A receiver beside the source, in one guest: its configuration, its socket and its identity are its own. */
import { spawn } from "node:child_process";
import { mkdir, open, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { ReceivedStatus, ReceiveStatus } from "../../src/control/receive-status.ts";
import { comes } from "./order.ts";
import { run } from "./peers.ts";
import { THERE } from "./two-sides.ts";

const POLL_MS = 100;
/** Of the end of a point in the log, and an empty list before it. */
const END_BYTES_MAX = 2 * 4096;

export interface ReceiverSpec {
  readonly volume: string;
  readonly transport: "clear" | "tls";
  readonly port: number;
  readonly path: string;
  readonly store: string;
  readonly log: string;
}

export class BenchReceiver {
  readonly #spec: ReceiverSpec;
  readonly #folder: string;

  constructor(spec: ReceiverSpec) {
    this.#spec = spec;
    this.#folder = `/dev/shm/${spec.volume}`;
  }

  get #environment(): Record<string, string> {
    return {
      SLUICE_CONFIG_DIR: `${this.#folder}/etc`,
      SLUICE_RUNTIME_DIR: `${this.#folder}/run`,
      SLUICE_STATE_DIR: `${this.#folder}/state`,
    };
  }

  /** Runs sluice there. */
  async sluice(...words: string[]): Promise<string> {
    const environment = Object.entries(this.#environment).map(([name, value]) => `${name}=${value}`);
    return run("env", ...environment, "bin/sluice", ...words);
  }

  /** Makes what it keeps. */
  async make(): Promise<void> {
    const { volume, transport, port, path, store, log } = this.#spec;
    await mkdir(`${this.#folder}/etc`, { recursive: true });
    const toml = [
      ...[`transport = "${transport}"`, `listen = "${THERE}:${port}"`, "[[volume]]", `name = "${volume}"`],
      ...[`path = "${path}"`, `store = "${store}"`, `log = "${log}"`],
    ];
    await writeFile(`${this.#folder}/etc/receive.toml`, `${toml.join("\n")}\n`);
    await this.sluice("receive", "init", volume);
  }

  /** Resolves when it answers. It ends with the guest. */
  async start(): Promise<void> {
    const output = await open(`${this.#folder}/output`, "w");
    const stdio = ["ignore", output.fd, output.fd] as const;
    const child = spawn("bin/sluice", ["receive"], {
      stdio: [...stdio],
      env: { ...process.env, ...this.#environment },
      detached: true,
    });
    child.unref();
    await output.close();
    for (;;) {
      const status = await this.status().catch(() => undefined);
      if (status !== undefined) return;
      if (child.exitCode !== null)
        throw new Error(`the receiver of ${this.#spec.volume} ended: ${this.#folder}/output`);
      await sleep(POLL_MS);
    }
  }

  async status(): Promise<ReceivedStatus> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const asked = request({ socketPath: `${this.#folder}/run/receive.sock`, path: "/v1/status" }, (response) => {
      text(response).then(resolve, reject);
    });
    asked.on("error", reject);
    asked.end();
    const [volume] = (JSON.parse(await promise) as ReceiveStatus).volumes;
    if (volume === undefined || volume.state === "failed") throw new Error(`the receiver has failed: ${volume?.error}`);
    return volume;
  }

  /** Resolves when its image is in the last point. That has to be an empty one: then its log has nothing but the end of it. */
  async isAtRest(): Promise<void> {
    await comes(
      () => this.status(),
      ({ log }) => (log?.used ?? 0) <= END_BYTES_MAX,
    );
  }
}
