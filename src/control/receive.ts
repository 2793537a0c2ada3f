/**
 * The receiver: the daemon that keeps the volumes that are mirrored to this machine. It puts the parts together.
 *
 * Invariant: whatever ends it, what was acknowledged to a source is there at its next start. Its volumes do not depend on each
 * other: one that has failed says so, and the others go on.
 */
import { mkdir, open, type FileHandle } from "node:fs/promises";
import type { Server as ApiServer } from "node:http";
import type { Server } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { judge, type Hello, type Judgement } from "../replication/handshake.ts";
import type { Address, Peer } from "../replication/transport.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { native } from "../ublk/native.ts";
import { checked, json, serveRoutes, type Routes } from "./api-server.ts";
import { RECEIVER } from "./config-name.ts";
import { log } from "./log.ts";
import { lockPath, runtimeDirectory, socketPath } from "./paths.ts";
import { formatAddress } from "./receive-address.ts";
import type { ReceiveConfig, ReceivedSpec } from "./receive-config.ts";
import { Link, type LinkOwner } from "./receive-link.ts";
import type { ReceiveStatus } from "./receive-status.ts";
import { removeLeftExports } from "./received-exports.ts";
import { ReceivedVolume } from "./received-volume.ts";
import { notifyManager, watchdogIntervalMs } from "./service-manager.ts";
import { openTransport } from "./transport-config.ts";
import { version } from "./version.ts";

/** How long the lock of a receiver that was killed may live on. */
const LOCK_WAIT_MS = 2_000;
const LOCK_RETRY_MS = 50;
/** Connections whose HELLO was not answered with a WELCOME. */
const UNWELCOMED_MAX = 64;
/** How long a client that has a connection open may keep a receiver from ending. */
const CLOSE_PATIENCE_MS = 1_000;

const whichVolume = z.strictObject({ volume: z.string() });
const pointNumber = z.int().positive();
const toExport = z.strictObject({ volume: z.string(), point: pointNumber.nullable() });
const toUnexport = z.strictObject({ volume: z.string(), point: pointNumber, force: z.boolean() });
const promotion = z.strictObject({ volume: z.string(), force: z.boolean() });

const ROUTES: Routes<Receive> = {
  "/v1/status": { GET: async (_body, receive) => json(await receive.status()) },
  "/v1/export": {
    POST: async (body, receive) => {
      const { volume, point } = checked(toExport, body);
      return json(await receive.known(volume).export(point));
    },
  },
  "/v1/unexport": {
    POST: async (body, receive) => {
      const { volume, point, force } = checked(toUnexport, body);
      await receive.known(volume).unexport(point, force);
      return json({});
    },
  },
  "/v1/promote": {
    POST: async (body, receive) => {
      const { volume, force } = checked(promotion, body);
      return json(await receive.known(volume).promote(force));
    },
  },
  "/v1/follow": {
    POST: async (body, receive) => {
      const { volume } = checked(whichVolume, body);
      await receive.known(volume).follow();
      return json({});
    },
  },
};

/** Runs until it is told to stop. Throws where it cannot be started, or none of its volumes can be opened. */
export async function runReceive(config: ReceiveConfig): Promise<void> {
  const stopped = Promise.withResolvers<undefined>();
  const onSignal = (): void => {
    stopped.resolve(undefined);
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  const intervalMs = watchdogIntervalMs();
  const watchdog = intervalMs === undefined ? undefined : setInterval(() => notifyManager("WATCHDOG=1"), intervalMs);
  try {
    await using receive = await Receive.start(config);
    const shown = formatAddress(receive.address);
    notifyManager("READY=1", `STATUS=${config.volumes.length} volumes, ${shown}`);
    log(
      "info",
      `Receiving ${config.volumes.map(({ name }) => name).join(", ")} at ${shown}, ${config.transport.transport}`,
    );
    await stopped.promise;
    notifyManager("STOPPING=1");
  } finally {
    clearInterval(watchdog);
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
  }
  log("info", "The receiver is stopped");
}

export class Receive implements LinkOwner, AsyncDisposable {
  readonly #config: ReceiveConfig;
  readonly #held = new AsyncDisposableStack();
  readonly #volumes = new Map<string, ReceivedVolume>();
  readonly #links = new Set<Link>();
  readonly #unwelcomed = new Set<Link>();
  readonly #since = new Date().toISOString();
  readonly #version = version();
  #server: Server | undefined;
  #isTooMany = false;

  private constructor(config: ReceiveConfig) {
    this.#config = config;
  }

  /** Opens the volumes and listens. Throws ERUNNING, what listening throws, and what the volumes do where none can be opened. */
  static async start(config: ReceiveConfig): Promise<Receive> {
    const receive = new Receive(config);
    try {
      await receive.#start();
      return receive;
    } catch (error) {
      await receive[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { volumes, listen, transport } = this.#config;
    this.#held.use(await lockReceiver());
    await removeLeftExports();
    for (const spec of volumes) {
      const volume = this.#held.use(await ReceivedVolume.open(spec));
      this.#volumes.set(spec.name, volume);
    }
    const failures = [...this.#volumes.values()].flatMap(({ failure }) => failure ?? []);
    const [failure] = failures;
    if (failure !== undefined && failures.length === volumes.length) throw failure;
    const api = await serveRoutes(socketPath(RECEIVER), ROUTES, this);
    this.#held.defer(() => closeApi(api));
    const opened = await openTransport(transport, sourcesOf(volumes));
    this.#server = await opened
      .listen(
        listen,
        (stream, peer, from) => {
          this.#connected(stream, peer, from);
        },
        (error, from) => {
          log("warning", `Refused ${from}: ${messageOf(error)}`);
        },
      )
      .catch((cause: unknown) => {
        const message = `Cannot listen at ${formatAddress(listen)}: ${messageOf(cause)}`;
        throw new UblkError(codeOf(cause) ?? "ELISTEN", message, { cause });
      });
  }

  /** Where it listens: with the port that it was given where it asked for any. */
  get address(): Address {
    const found = this.#server?.address();
    if (typeof found !== "object" || found === null) return this.#config.listen;
    return { host: found.address, port: found.port };
  }

  #connected(stream: Duplex, peer: Peer, from: string): void {
    if (this.#unwelcomed.size >= UNWELCOMED_MAX) {
      if (!this.#isTooMany) log("warning", `More than ${UNWELCOMED_MAX} connections want to be answered: no others`);
      this.#isTooMany = true;
      stream.on("error", () => undefined);
      stream.destroy();
      return;
    }
    this.#isTooMany = false;
    const link = new Link(this, stream, { peer, from }, this.#config.silenceMs);
    this.#links.add(link);
    this.#unwelcomed.add(link);
  }

  volume(name: string): ReceivedVolume | undefined {
    return this.#volumes.get(name);
  }

  /** Throws ENOENT for one that the receiver has not been started with. */
  known(name: string): ReceivedVolume {
    const volume = this.#volumes.get(name);
    if (volume !== undefined) return volume;
    throw new UblkError(
      "ENOENT",
      `The receiver was not started with a volume "${name}": add it to its configuration, and restart it`,
    );
  }

  unknown(hello: Hello): Judgement {
    return judge(hello, undefined);
  }

  onDecided(link: Link): void {
    this.#unwelcomed.delete(link);
  }

  onEnded(link: Link): void {
    this.#unwelcomed.delete(link);
    this.#links.delete(link);
  }

  async status(): Promise<ReceiveStatus> {
    return {
      version: this.#version,
      config: this.#config.file,
      listen: formatAddress(this.address),
      transport: this.#config.transport.transport,
      pid: process.pid,
      since: this.#since,
      volumes: await Promise.all([...this.#volumes.values()].map((volume) => volume.status())),
    };
  }

  /** Ends in order: sources are told, what they have sent becomes durable. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    for (const link of this.#links) link.end({ code: "EPEACE", text: "the receiver is stopped" });
    await this.#held.disposeAsync();
  }
}

async function closeApi(api: ApiServer): Promise<void> {
  const patience = setTimeout(() => {
    api.closeAllConnections();
  }, CLOSE_PATIENCE_MS);
  await new Promise((resolve) => api.close(resolve));
  clearTimeout(patience);
}

/** One receiver: the lock goes with the process. */
async function lockReceiver(): Promise<FileHandle> {
  await mkdir(runtimeDirectory(), { recursive: true, mode: 0o700 });
  const handle = await open(lockPath(RECEIVER), "a", 0o600);
  const deadline = performance.now() + LOCK_WAIT_MS;
  while (!native.lockFile(handle.fd)) {
    if (performance.now() > deadline) {
      await handle.close();
      throw new UblkError("ERUNNING", 'The receiver is running already: see "sluice receive status"');
    }
    await sleep(LOCK_RETRY_MS);
  }
  return handle;
}

/** All hosts that may be the source of some volume; null where that is whoever is known here. */
function sourcesOf(volumes: readonly ReceivedSpec[]): readonly string[] | null {
  const named = volumes.flatMap(({ from }) => from ?? []);
  return volumes.some(({ from }) => from === null) ? null : named;
}
