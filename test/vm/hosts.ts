/** Two hosts for a mirror between them, in one guest: each has a network namespace and folders of its own; mounts are the same for both. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { volumeMark } from "../../src/control/identity.ts";
import { ControlPlane } from "../../src/ublk/control.ts";
import { listDevices, removeDevice } from "../../src/ublk/devices.ts";
import { owned } from "./children.ts";
import { sh, tried, until } from "./support.ts";

const BIN = fileURLToPath(new URL("../../bin", import.meta.url));
const FOLDER = "/dev/shm/hosts";

export class Host {
  readonly name: string;
  readonly address: string;
  #receiver: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  output = "";

  constructor(name: string, address: string) {
    this.name = name;
    this.address = address;
  }

  /** A folder of its own, in which paths of the papers lie. */
  get folder(): string {
    return `${FOLDER}/${this.name}`;
  }

  get #environment(): Record<string, string> {
    return {
      SLUICE_CONFIG_DIR: `${this.folder}/etc`,
      SLUICE_RUNTIME_DIR: `${this.folder}/run`,
      SLUICE_STATE_DIR: `${this.folder}/state`,
      PATH: `${BIN}:${process.env["PATH"] ?? ""}`,
    };
  }

  /** Two hosts with a network between them. */
  static async pair(): Promise<[Host, Host]> {
    const hosts: [Host, Host] = [new Host("alpha", "192.0.2.1"), new Host("beta", "192.0.2.2")];
    const [{ name: one }, { name: other }] = hosts;
    await sh(`ip netns add ${one}; ip netns add ${other}`);
    await sh(`ip link add to-${other} netns ${one} type veth peer name to-${one} netns ${other}`);
    for (const host of hosts) {
      const peer = host.name === one ? other : one;
      await sh(`ip -n ${host.name} addr add ${host.address}/24 dev to-${peer}; ip -n ${host.name} link set lo up`);
      await sh(`ip -n ${host.name} link set to-${peer} up; mkdir -p ${host.folder}/etc`);
    }
    return hosts;
  }

  async configure(file: string, toml: string): Promise<void> {
    await mkdir(`${this.folder}/etc`, { recursive: true });
    await writeFile(`${this.folder}/etc/${file}`, toml);
  }

  #words(command: string): string {
    const environment = Object.entries(this.#environment).map(([name, value]) => `${name}="${value}"`);
    return `nsenter --net=/run/netns/${this.name} env ${environment.join(" ")} sh -ec '${command}'`;
  }

  /** Runs a shell command there. Throws with its output when it fails. */
  async sh(command: string): Promise<string> {
    return sh(this.#words(command));
  }

  async tried(command: string): Promise<{ code: number; output: string }> {
    return tried(this.#words(command));
  }

  async json<T>(words: string): Promise<T> {
    return JSON.parse(await this.sh(`sluice ${words} --json`)) as T;
  }

  /** Resolves when its receiver listens. */
  async receive(): Promise<void> {
    const child = spawn("nsenter", [`--net=/run/netns/${this.name}`, `${BIN}/sluice`, "receive"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...this.#environment },
    });
    owned(child, () => this.output);
    this.#receiver = child;
    this.#ended = once(child, "exit");
    await new Promise<void>((resolve, reject) => {
      createInterface(child.stderr).on("line", (line) => {
        this.output += `${line}\n`;
        if (line.includes("Receiving ")) resolve();
      });
      child.once("exit", (code, signal) => {
        reject(new Error(`the receiver of ${this.name} ended with ${String(code ?? signal)}: ${this.output}`));
      });
    });
  }

  async endReceiver(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#receiver?.kill(signal);
    await this.#ended;
  }

  /**
   * All that runs there dies at once, and its device of the volume with it, which is mounted at `folder`: it is as if the host had
   * lost its power.
   */
  async die(volume: string, folder: string): Promise<void> {
    await this.endReceiver("SIGKILL");
    await sh(`ip netns pids ${this.name} | xargs -r kill -KILL`);
    await until(async () => (await sh(`ip netns pids ${this.name}`)) === "");
    // It ends when the device has gone: until then it waits to write back what nobody takes.
    await sh(`umount -l ${folder} >/dev/null 2>&1 &`);
    using control = ControlPlane.open();
    for (const device of await listDevices(control)) {
      if (device.mark === volumeMark(volume)) await removeDevice(control, device.id);
    }
  }
}
