/** Another host, for tests in a guest: a network namespace with a receiver in it, whose files, and whose identity, are its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { ReceivedStatus, ReceiveStatus } from "../../src/control/receive-status.ts";
import { owned } from "./children.ts";
import type { MemoryGroup } from "./memory-group.ts";
import { sh } from "./support.ts";

const SLUICE = fileURLToPath(new URL("../../bin/sluice", import.meta.url));
const FOLDER = "/dev/shm/remote";
const ENVIRONMENT = {
  SLUICE_CONFIG_DIR: `${FOLDER}/etc`,
  SLUICE_RUNTIME_DIR: `${FOLDER}/run`,
  SLUICE_STATE_DIR: `${FOLDER}/state`,
};
const HERE = "192.0.2.1";
export const REMOTE = "192.0.2.2";

export class Remote {
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  output = "";

  /** Where a file of the remote is. */
  static path(name: string): string {
    return `${FOLDER}/${name}`;
  }

  /** The network between here and there. */
  static async connect(): Promise<void> {
    await sh("ip netns add remote && ip link add here type veth peer name there netns remote");
    await sh(`ip addr add ${HERE}/24 dev here && ip -n remote addr add ${REMOTE}/24 dev there`);
    await sh("ip link set here up && ip -n remote link set there up && ip -n remote link set lo up");
  }

  /** Makes what the receiver keeps of volumes; an image without a size is there already. */
  static async make(
    volumes: string | readonly string[],
    transport: "clear" | "tls",
    sizes: { size?: string; store: string; log: string },
  ): Promise<Remote> {
    await mkdir(ENVIRONMENT.SLUICE_CONFIG_DIR, { recursive: true });
    const names = [volumes].flat();
    const toml = [
      ...[`transport = "${transport}"`, `listen = "${REMOTE}:7450"`, "silence = 30"],
      ...names.flatMap((name) => [
        ...["[[volume]]", `name = "${name}"`],
        ...["path", "store", "log"].map((key) => `${key} = "${FOLDER}/${name}.${key}"`),
      ]),
    ];
    await writeFile(`${ENVIRONMENT.SLUICE_CONFIG_DIR}/receive.toml`, `${toml.join("\n")}\n`);
    const remote = new Remote();
    for (const name of names) {
      const image = sizes.size === undefined ? "--seed" : `--size ${sizes.size}`;
      await remote.sluice(`receive init ${name} ${image} --store-size ${sizes.store} --log-size ${sizes.log}`);
    }
    return remote;
  }

  /** Runs sluice there. */
  async sluice(words: string): Promise<string> {
    const environment = Object.entries(ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
    return sh(`ip netns exec remote env ${environment.join(" ")} ${SLUICE} ${words}`);
  }

  /** Resolves when it receives. `group`: what it runs in. */
  async start(group?: MemoryGroup): Promise<void> {
    const command = ["ip", "netns", "exec", "remote", SLUICE, "receive"] as const;
    const [program, ...words] = group?.around(command) ?? command;
    const child = spawn(program, words, {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...ENVIRONMENT },
    });
    owned(child, () => this.output);
    this.#child = child;
    this.#ended = once(child, "exit");
    this.output = "";
    await new Promise<void>((resolve, reject) => {
      createInterface(child.stderr).on("line", (line) => {
        this.output += `${line}\n`;
        if (line.includes("Receiving ")) resolve();
      });
      child.once("exit", (code, signal) => {
        reject(new Error(`the receiver ended with ${String(code ?? signal)}: ${this.output}`));
      });
    });
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#child?.kill(signal);
    await this.#ended;
  }

  /** Of the only volume. */
  async status(): Promise<ReceivedStatus> {
    const [volume] = await this.statuses();
    if (volume === undefined) throw new Error("the remote has no volume");
    return volume;
  }

  /** Throws where one has failed. */
  async statuses(): Promise<readonly ReceivedStatus[]> {
    const { volumes } = JSON.parse(await this.sluice("receive status --json")) as ReceiveStatus;
    const failed = volumes.find(({ state }) => state === "failed");
    if (failed !== undefined) throw new Error(`the remote has failed: ${failed.error}`);
    return volumes;
  }
}
