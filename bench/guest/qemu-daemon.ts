/** QEMU's storage daemon as a peer: a disk of the guest behind a block device of its own, and backup jobs of it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "./peers.ts";

const SOCKET = "/run/qemu-storage-daemon.sock";
const EXPORT = "qemu0";
const POLL_MS = 20;
const QUEUE_SIZE = 128;

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

export class QemuDaemon {
  /** The block device. */
  readonly path: string;
  readonly #process: ChildProcess;
  readonly #monitor: Socket;
  readonly #lines: AsyncIterator<string>;

  private constructor(path: string, daemon: ChildProcess, monitor: Socket) {
    this.path = path;
    this.#process = daemon;
    this.#monitor = monitor;
    this.#lines = createInterface({ input: monitor })[Symbol.asyncIterator]();
  }

  /** Starts it with these nodes, and makes a device of the one of this name, by the kernel's vduse. */
  static async start(nodes: readonly object[], exported: string): Promise<QemuDaemon> {
    await run("modprobe", "-a", "vduse", "virtio_vdpa");
    const before = await readdir("/sys/block");
    const words = nodes.flatMap((node) => ["--blockdev", JSON.stringify(node)]);
    const exporting = `type=vduse-blk,id=export,node-name=${exported},name=${EXPORT},writable=on`;
    const daemon = spawn(
      "qemu-storage-daemon",
      [
        ...["--chardev", `socket,id=monitor,path=${SOCKET},server=on,wait=off`, "--monitor", "chardev=monitor"],
        ...words,
        ...["--export", `${exporting},num-queues=1,queue-size=${QUEUE_SIZE}`],
      ],
      { stdio: ["ignore", 2, 2] },
    );
    const monitor = await connected(daemon);
    await run("vdpa", "dev", "add", "name", EXPORT, "mgmtdev", "vduse");
    let device: string | undefined;
    while (device === undefined) {
      await sleep(POLL_MS);
      device = (await readdir("/sys/block")).find((each) => !before.includes(each));
    }
    const started = new QemuDaemon(`/dev/${device}`, daemon, monitor);
    await started.ask("qmp_capabilities");
    return started;
  }

  /** Throws what the daemon refuses it with. */
  async ask(execute: string, words: object = {}): Promise<unknown> {
    this.#monitor.write(`${JSON.stringify({ execute, arguments: words })}\n`);
    for (;;) {
      const line = await this.#lines.next();
      if (line.done === true) throw new Error(`qemu-storage-daemon ended while it was asked to ${execute}`);
      const answer = JSON.parse(line.value) as Answer;
      if (answer.error !== undefined) throw new Error(`${execute}: ${answer.error.desc}`);
      // Others are its greeting, and events.
      if ("return" in answer) return answer.return;
    }
  }

  /** Cancels the job, and waits until it is no more. */
  async cancelJob(job: string): Promise<void> {
    await this.ask("block-job-cancel", { device: job, force: true });
    while (((await this.ask("query-block-jobs")) as unknown[]).length > 0) await sleep(POLL_MS);
  }

  async stop(): Promise<void> {
    await run("vdpa", "dev", "del", EXPORT);
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
    this.#monitor.destroy();
  }
}

/** It listens some time after its start. */
async function connected(daemon: ChildProcess): Promise<Socket> {
  while (daemon.exitCode === null) {
    const socket = connect(SOCKET);
    try {
      await once(socket, "connect");
      return socket;
    } catch {
      await sleep(POLL_MS);
    }
  }
  throw new Error(`qemu-storage-daemon ended with ${daemon.exitCode}`);
}

/** A disk, of which so many bytes are used. */
export function diskNode(name: string, path: string, bytes: number): object {
  const file = { driver: "host_device", filename: path, aio: "io_uring", cache: { direct: true, "no-flush": false } };
  return { driver: "raw", "node-name": name, size: bytes, file };
}
