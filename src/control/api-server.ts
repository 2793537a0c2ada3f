/**
 * HTTP with JSON on a Unix socket that only its owner can open: what every control API is made of.
 *
 * An error is { "error": { "code", "message" } }; one that comes in the middle of a stream ends it, and is in its trailer
 * "sluice-error". Bodies are bounded; whatever else comes is refused.
 */
import { chmod, mkdir, rm } from "node:fs/promises";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type * as z from "zod";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { ERROR_TRAILER } from "./bulk-status.ts";
import { DEADLINE_MS } from "./client.ts";
import { http } from "./http.ts";
import { log } from "./log.ts";

const BODY_MAX_BYTES = 4096;

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  EBUSY: 409,
  EMIRROR: 409,
  EOPEN: 409,
  ENOPOINT: 409,
  EOPNOTSUPP: 501,
  ELIMITS: 400,
  ESIZE: 400,
  EREQUEST: 400,
  ENOENT: 404,
  EMETHOD: 405,
  ENAME: 400,
  EEXIST: 409,
  EINVALID: 409,
  EBULK: 409,
  EEXPIRED: 409,
  EORDER: 400,
  EUSAGE: 400,
  ERANGE: 400,
  ELIMIT: 409,
  ELINK: 503,
  ETOOLARGE: 413,
};

export type Answer =
  | { readonly type: string; readonly text: string }
  | { readonly type: string; readonly stream: AsyncIterable<Uint8Array> };
export type Handler<C> = (body: unknown, controlled: C) => Promise<Answer>;
/** By path and method, of whatever is controlled. */
export type Routes<C> = Readonly<Record<string, Partial<Record<string, Handler<C>>>>>;

export const json = (value: unknown): { type: string; text: string } => ({
  type: "application/json",
  text: `${JSON.stringify(value)}\n`,
});

/** A body as its schema has it. Throws EREQUEST. */
export function checked<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body ?? {});
  if (result.success) return result.data;
  throw new UblkError("EREQUEST", `Bad request: ${result.error.issues.map((issue) => issue.message).join("; ")}`);
}

/** Listens at `path`, which must be nobody else's: a socket that is left from a daemon that died is replaced. */
export async function serveRoutes<C>(path: string, routes: Routes<C>, controlled: C): Promise<Server> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await rm(path, { force: true });
  // On a machine that is short of processor it may take long until a request comes through the connection that was made for it.
  const patience = { requestTimeout: DEADLINE_MS, headersTimeout: DEADLINE_MS };
  const server = http().createServer(patience, (request, response) => {
    void answer(request, response, routes, controlled);
  });
  // The socket is made with this mask, so that there is no moment at which others could open it.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
  await chmod(path, 0o600);
  return server;
}

async function answer<C>(
  request: IncomingMessage,
  response: ServerResponse,
  routes: Routes<C>,
  controlled: C,
): Promise<void> {
  try {
    const route = routes[request.url ?? ""];
    if (route === undefined) throw new UblkError("ENOENT", `There is no ${request.url ?? ""}`);
    const handler = route[request.method ?? ""];
    if (handler === undefined)
      throw new UblkError("EMETHOD", `${request.url ?? ""} takes ${Object.keys(route).join(", ")}`);
    const found = await handler(await readBody(request), controlled);
    response.writeHead(200, { "content-type": found.type });
    if ("text" in found) response.end(found.text);
    else await send(found.stream, response);
  } catch (error) {
    const code = codeOf(error) ?? "EINTERNAL";
    const body = JSON.stringify({ error: { code, message: messageOf(error) } });
    response.writeHead(STATUS_BY_CODE[code] ?? 500, { "content-type": "application/json" }).end(`${body}\n`);
  }
}

/** An error in the middle goes into the trailer: the status is on its way already. */
async function send(stream: AsyncIterable<Uint8Array>, response: ServerResponse): Promise<void> {
  const told = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* stream;
    } catch (error) {
      const failure = { code: codeOf(error) ?? "EINTERNAL", message: messageOf(error) };
      response.addTrailers({ [ERROR_TRAILER]: encodeURIComponent(JSON.stringify(failure)) });
    }
  };
  await pipeline(Readable.from(told()), response).catch((error: unknown) => {
    log("debug", `Whoever asked for a stream has gone: ${messageOf(error)}`);
  });
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > BODY_MAX_BYTES) throw new UblkError("ETOOLARGE", `A body has at most ${BODY_MAX_BYTES} bytes`);
    parts.push(part);
  }
  if (bytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8")) as unknown;
  } catch {
    throw new UblkError("EREQUEST", "Bad request: the body is not JSON");
  }
}
