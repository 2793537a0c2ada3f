/** The thread that has the link of a mirrored volume: an event loop of its own, beside the thread that serves the host. */
import { parentPort, workerData, type MessagePort } from "node:worker_threads";
import { MirrorLink, type LinkOptions, type LinkStatus } from "../replication/link.ts";
import type { CommittedPoint } from "../replication/sender.ts";
import { SharedVolume } from "../replication/shared-volume.ts";
import { SourceStateFile } from "../replication/source-state.ts";
import type { MirrorMemory } from "../targets/mirror/mirror-memory.ts";
import { codeOf, messageOf } from "../ublk/errors.ts";
import { openTransport } from "./transport-config.ts";
import type { TransportTable } from "./transport-shape.ts";

/** What the thread is given. */
export interface LinkWorkerData {
  readonly memory: MirrorMemory;
  /** To the thread that serves the host. */
  readonly port: MessagePort;
  readonly statePath: string;
  readonly options: Omit<LinkOptions, "transport">;
  readonly transport: TransportTable;
  /** What the receiver is known by. */
  readonly receiver: string;
  readonly isPaused: boolean;
  /** For what is copied; null for no limit. */
  readonly bytesPerSecond: number | null;
}

/** What the owner tells it. */
export type LinkCommand =
  | { readonly type: "pause" | "resume" | "stop" | "end verification" }
  | { readonly type: "cut"; readonly id: number }
  /** While the host is held back: of the moment that is called so. */
  | { readonly type: "take"; readonly id: number; readonly createdMs: number }
  | { readonly type: "limit"; readonly bytesPerSecond: number | null }
  | { readonly type: "verify"; readonly id: number; readonly isRepairing: boolean };

/** What it tells the owner. */
export type LinkNews =
  | { readonly type: "status"; readonly status: LinkStatus }
  /** The host may go on: "cut", or "not cut", follows. */
  | { readonly type: "taken"; readonly id: number; readonly point: number }
  | { readonly type: "cut"; readonly id: number; readonly point: CommittedPoint }
  /** A comparison of all the volume has begun, and is told of by this number. */
  | { readonly type: "verifying"; readonly id: number; readonly number: number }
  /** What was asked with this number is not done. */
  | { readonly type: "not done"; readonly id: number; readonly code: string; readonly message: string };

/** So often the numbers are told. */
const STATUS_MS = 500;

const owner = parentPort;
if (owner === null) throw new Error("link-worker is a worker thread");
const data = workerData as LinkWorkerData;

const tell = (news: LinkNews): void => {
  owner.postMessage(news);
};
const state = await SourceStateFile.open(data.statePath);
const volume = new SharedVolume(data.memory, data.port);
const transport = await openTransport(data.transport, [data.receiver]);
const link = new MirrorLink({ ...data.options, transport }, data.memory, volume, state);
let told = "";
const tellStatus = (): void => {
  const { status } = link;
  const text = JSON.stringify(status);
  if (text !== told) tell({ type: "status", status });
  told = text;
};
link.whenChanged = tellStatus;
const timer = setInterval(tellStatus, STATUS_MS);

/** `createdMs`: what its moment is called, of one that is taken while the host is held back. */
async function cut(id: number, createdMs?: number): Promise<void> {
  try {
    const point = await (createdMs === undefined ? link.cutPoint() : taken(id, createdMs));
    // Whoever asks next finds what this point has come to.
    tellStatus();
    tell({ type: "cut", id, point });
  } catch (error) {
    tellNot(id, error);
  }
}

async function taken(id: number, createdMs: number): Promise<CommittedPoint> {
  const point = link.takePoint(createdMs);
  tell({ type: "taken", id, point: await point.taken });
  return point.committed;
}

function verify(id: number, isRepairing: boolean): void {
  try {
    tell({ type: "verifying", id, number: link.verify(isRepairing) });
  } catch (error) {
    tellNot(id, error);
  }
}

function tellNot(id: number, error: unknown): void {
  tell({ type: "not done", id, code: codeOf(error) ?? "EIO", message: messageOf(error) });
}

owner.on("message", (command: LinkCommand) => {
  switch (command.type) {
    case "pause":
      link.pause();
      break;
    case "resume":
      link.resume();
      break;
    case "stop":
      link.stop();
      break;
    case "cut":
      void cut(command.id);
      break;
    case "verify":
      verify(command.id, command.isRepairing);
      break;
    case "end verification":
      link.endVerification();
      break;
    case "take":
      void cut(command.id, command.createdMs);
      break;
    case "limit":
      link.limitCopying(command.bytesPerSecond);
      break;
  }
});

link.limitCopying(data.bytesPerSecond);
if (data.isPaused) link.pause();
await link.run();
clearInterval(timer);
tellStatus();
volume.close();
owner.close();
