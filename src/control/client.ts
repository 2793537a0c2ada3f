/** The other end of the control API: what the command asks a daemon. */
import type { ByteRange } from "../targets/cow/byte-range.ts";
import type { ClientRequest, IncomingMessage } from "node:http";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { ERROR_TRAILER, type BulkStatus } from "./bulk-status.ts";
import { http } from "./http.ts";
import type { CommittedPoint } from "../replication/sender.ts";
import type { VerificationStatus } from "../replication/verification.ts";
import type { MirrorMode, MirrorPolicy } from "../targets/mirror/modes.ts";
import type { MirrorStatus } from "./mirror-status.ts";
import { socketPath } from "./paths.ts";
import type { NewCopy } from "./new-copy.ts";
import type { CopyRemainder, CopyRow } from "./copy-status.ts";
import type { SnapshotDiff, SnapshotList, SnapshotRow } from "./snapshot-status.ts";
import type { RecordMap } from "./record-status.ts";
import type { VolumeStatus } from "./status.ts";

/** A stop waits for dirty pages to be written back. Neither end gives the other up before. */
export const DEADLINE_MS = 10 * 60_000;

interface Failure {
  readonly error?: { readonly code: string; readonly message: string };
}

/** Who listens is asked; gives the answer, whose body is still to come. */
function open(name: string, method: "GET" | "POST", path: string, body: unknown): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing: ClientRequest = http().request(
      // A connection of its own: one that is kept for the next request may be closed by the daemon just as that is sent.
      { socketPath: socketPath(name), method, path, timeout: DEADLINE_MS, agent: false },
      resolve,
    );
    outgoing.on("timeout", () => outgoing.destroy(new UblkError("ETIMEDOUT", `The daemon of ${name} does not answer`)));
    outgoing.on("error", reject);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of response.setEncoding("utf8") as AsyncIterable<string>) text += part;
  return text;
}

function explain(name: string, cause: unknown): UblkError {
  if (cause instanceof UblkError) return cause;
  const code = codeOf(cause);
  if (code === "ENOENT" || code === "ECONNREFUSED") {
    return new UblkError("ENOTRUNNING", `Volume ${name} is not running: start it with "sluice up ${name}"`, { cause });
  }
  if (code === "EACCES") {
    return new UblkError("EACCES", `No right to talk to the daemon of ${name}: run as root`, { cause });
  }
  // A daemon that stops closes the connections that it has not looked at yet.
  if (code === "EPIPE" || code === "ECONNRESET") {
    return new UblkError(
      "EGONE",
      `The daemon of ${name} ended, or closed the connection (${code}), without an answer`,
      { cause },
    );
  }
  return new UblkError(code ?? "EAPI", `Cannot talk to the daemon of ${name}: ${messageOf(cause)}`, { cause });
}

function refusal(name: string, status: number, text: string): UblkError {
  const { error } = JSON.parse(text) as Failure;
  return new UblkError(error?.code ?? "EAPI", error?.message ?? `The daemon of ${name} answered ${status}`);
}

/**
 * Gives the body of a good answer. Throws ENOTRUNNING where no daemon listens, EGONE where it ended without an answer,
 * and what the daemon answered, with its code, otherwise.
 */
export async function ask(name: string, method: "GET" | "POST", path: string, body?: unknown): Promise<string> {
  try {
    const response = await open(name, method, path, body);
    const text = await textOf(response);
    if (response.statusCode === 200) return text;
    throw refusal(name, response.statusCode ?? 0, text);
  } catch (cause) {
    throw explain(name, cause);
  }
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

/** The first step of a snapshot of several volumes: gives the ticket for the next. */
export async function askSnapshotPrepare(name: string, snapshot: string): Promise<string> {
  return ticketOf(await ask(name, "POST", "/v1/snapshots/prepare", { name: snapshot }));
}

/** The same of a copy. */
export async function askCopyPrepare(name: string, wanted: NewCopy): Promise<string> {
  return ticketOf(await ask(name, "POST", "/v1/copies/prepare", wanted));
}

function ticketOf(answer: string): string {
  return (JSON.parse(answer) as { ticket: string }).ticket;
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

export async function askMirror(name: string): Promise<MirrorStatus> {
  return JSON.parse(await ask(name, "GET", "/v1/mirror")) as MirrorStatus;
}

/** Pauses, resumes or limits it, or has it go on in another mode. */
export async function askMirrorChange(
  name: string,
  action: "pause" | "resume" | "mode" | "limit",
  body?: { mode?: MirrorMode | undefined; policy?: MirrorPolicy | undefined } | { bytesPerSecond: number | null },
): Promise<MirrorStatus> {
  return JSON.parse(await ask(name, "POST", `/v1/mirror/${action}`, body)) as MirrorStatus;
}

export async function askMirrorPoint(name: string): Promise<CommittedPoint> {
  return JSON.parse(await ask(name, "POST", "/v1/mirror/cp")) as CommittedPoint;
}

/** The first step of points of several volumes: gives the ticket for the next. */
export async function askMirrorPrepare(name: string): Promise<string> {
  return ticketOf(await ask(name, "POST", "/v1/mirror/prepare"));
}

/** Of a point that was taken with those of other volumes. */
export async function askMirrorCommitted(name: string, point: number): Promise<CommittedPoint> {
  return JSON.parse(await ask(name, "POST", "/v1/mirror/committed", { point })) as CommittedPoint;
}

export async function askBulk(name: string): Promise<BulkStatus> {
  return JSON.parse(await ask(name, "GET", "/v1/bulk")) as BulkStatus;
}

/** Of parts of the volume, or of all of it (null). */
export async function askBulkBegin(name: string, ranges: readonly ByteRange[] | null): Promise<BulkStatus> {
  return JSON.parse(await ask(name, "POST", "/v1/bulk/begin", { ranges })) as BulkStatus;
}

export async function askBulkAction(name: string, action: "mark" | "end-cow"): Promise<BulkStatus> {
  return JSON.parse(await ask(name, "POST", `/v1/bulk/${action}`)) as BulkStatus;
}

/** The stream of the originals, from a record on, as it comes. Throws as `ask`, also in the middle. */
export function askBulkOriginals(name: string, recordBytes: number, from: number): AsyncGenerator<Uint8Array> {
  return stream(name, "/v1/bulk/originals", { recordBytes, from });
}

/** How the comparison of a mirrored volume with what its receiver has stands, to its end; it ends with whoever asks. Throws as `ask`. */
export async function* askMirrorVerification(name: string, isRepairing: boolean): AsyncGenerator<VerificationStatus> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of stream(name, "/v1/mirror/verify", { isRepairing })) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as VerificationStatus;
  }
}

async function* stream(name: string, path: string, body: object): AsyncGenerator<Uint8Array> {
  try {
    const response = await open(name, "POST", path, body);
    if (response.statusCode !== 200) throw refusal(name, response.statusCode ?? 0, await textOf(response));
    yield* response as AsyncIterable<Uint8Array>;
    const failure = response.trailers[ERROR_TRAILER];
    if (failure === undefined) return;
    const { code, message } = JSON.parse(decodeURIComponent(failure)) as { code: string; message: string };
    throw new UblkError(code, message);
  } catch (cause) {
    throw explain(name, cause);
  }
}

export async function askBulkDrop(name: string, stream: string | undefined): Promise<void> {
  await ask(name, "POST", "/v1/bulk/drop", { stream });
}

export async function askStop(name: string, force: boolean): Promise<void> {
  await ask(name, "POST", "/v1/stop", { force });
}

export async function askResize(name: string, sizeBytes: number | undefined): Promise<number> {
  return (JSON.parse(await ask(name, "POST", "/v1/resize", { sizeBytes })) as { sizeBytes: number }).sizeBytes;
}
