/** The other end of the control API: what the command asks a daemon. */
import { request } from "node:http";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { socketPath } from "./paths.ts";
import type { NewCopy } from "./copies.ts";
import type { CopyRemainder, CopyRow } from "./copy-status.ts";
import type { SnapshotDiff, SnapshotList, SnapshotRow } from "./snapshot-status.ts";
import type { RecordMap } from "./record-status.ts";
import type { VolumeStatus } from "./status.ts";

/** A stop waits for dirty pages to be written back. */
const DEADLINE_MS = 10 * 60_000;

interface Failure {
  readonly error?: { readonly code: string; readonly message: string };
}

/**
 * Gives the body of a good answer. Throws ENOTRUNNING where no daemon listens, EGONE where it ended without an answer,
 * and what the daemon answered, with its code, otherwise.
 */
export async function ask(name: string, method: "GET" | "POST", path: string, body?: unknown): Promise<string> {
  const text = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const outgoing = request({ socketPath: socketPath(name), method, path, timeout: DEADLINE_MS }, (response) => {
      let received = "";
      response.setEncoding("utf8").on("data", (part: string) => (received += part));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: received }));
      response.on("error", reject);
    });
    outgoing.on("timeout", () => outgoing.destroy(new UblkError("ETIMEDOUT", `The daemon of ${name} does not answer`)));
    outgoing.on("error", reject);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  }).catch((cause: unknown) => {
    if (cause instanceof UblkError) throw cause;
    const code = codeOf(cause);
    if (code === "ENOENT" || code === "ECONNREFUSED") {
      throw new UblkError("ENOTRUNNING", `Volume ${name} is not running: start it with "sluice up ${name}"`, { cause });
    }
    if (code === "EACCES")
      throw new UblkError("EACCES", `No right to talk to the daemon of ${name}: run as root`, { cause });
    // A daemon that stops closes the connections that it has not looked at yet.
    if (code === "EPIPE" || code === "ECONNRESET")
      throw new UblkError("EGONE", `The daemon of ${name} ended while it was being asked`, { cause });
    throw new UblkError(code ?? "EAPI", `Cannot talk to the daemon of ${name}: ${messageOf(cause)}`, { cause });
  });
  if (text.status === 200) return text.text;
  const { error } = JSON.parse(text.text) as Failure;
  throw new UblkError(error?.code ?? "EAPI", error?.message ?? `The daemon of ${name} answered ${text.status}`);
}

export async function askStatus(name: string): Promise<VolumeStatus> {
  return JSON.parse(await ask(name, "GET", "/v1/status")) as VolumeStatus;
}

export async function askRecord(name: string): Promise<RecordMap> {
  return JSON.parse(await ask(name, "GET", "/v1/record")) as RecordMap;
}

export async function askSnapshots(name: string): Promise<SnapshotList> {
  return JSON.parse(await ask(name, "GET", "/v1/snapshots")) as SnapshotList;
}

export async function askSnapshot(name: string, action: "create" | "export", snapshot: string): Promise<SnapshotRow> {
  return JSON.parse(await ask(name, "POST", `/v1/snapshots/${action}`, { name: snapshot })) as SnapshotRow;
}

export async function askSnapshotDiff(name: string, from: string, to: string | undefined): Promise<SnapshotDiff> {
  return JSON.parse(await ask(name, "POST", "/v1/snapshots/diff", { from, to })) as SnapshotDiff;
}

export async function askSnapshotDelete(name: string, snapshot: string): Promise<void> {
  await ask(name, "POST", "/v1/snapshots/delete", { name: snapshot });
}

export async function askSnapshotUnexport(name: string, snapshot: string, force: boolean): Promise<void> {
  await ask(name, "POST", "/v1/snapshots/unexport", { name: snapshot, force });
}

export async function askRollback(name: string, snapshot: string): Promise<void> {
  await ask(name, "POST", "/v1/rollback", { snapshot });
}

export async function askCopies(name: string): Promise<CopyRow[]> {
  return JSON.parse(await ask(name, "GET", "/v1/copies")) as CopyRow[];
}

export async function askCopyStart(name: string, wanted: NewCopy): Promise<CopyRow> {
  return JSON.parse(await ask(name, "POST", "/v1/copies/start", wanted)) as CopyRow;
}

/** Pauses, resumes, limits or prioritizes a job, or begins the staged ones: each with what the API wants for it. */
export async function askCopy(
  name: string,
  action: "release" | "pause" | "resume" | "limit" | "prioritize",
  body: object,
): Promise<CopyRow> {
  return JSON.parse(await ask(name, "POST", `/v1/copies/${action}`, body)) as CopyRow;
}

export async function askCopyRemainder(name: string, copy: string): Promise<CopyRemainder> {
  return JSON.parse(await ask(name, "POST", "/v1/copies/remainder", { name: copy })) as CopyRemainder;
}

export async function askCopyCancel(name: string, copy: string): Promise<void> {
  await ask(name, "POST", "/v1/copies/cancel", { name: copy });
}

export async function askStop(name: string, force: boolean): Promise<void> {
  await ask(name, "POST", "/v1/stop", { force });
}

export async function askResize(name: string, sizeBytes: number | undefined): Promise<number> {
  return (JSON.parse(await ask(name, "POST", "/v1/resize", { sizeBytes })) as { sizeBytes: number }).sizeBytes;
}
