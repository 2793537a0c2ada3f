/** The control API on a real socket, over a volume that is none. */
import { once } from "node:events";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import {
  ask,
  askBulkOriginals,
  askMirrorVerification,
  askResize,
  askStatus,
  askStop,
  DEADLINE_MS,
} from "../../src/control/client.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { sampleBulk, sampleStatus, SampleVolume } from "./sample.ts";

interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly text: string;
}

async function directory(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

async function serving(t: ExecutionContext): Promise<{ volume: SampleVolume; socketPath: string }> {
  const volume = new SampleVolume();
  const socketPath = `${await directory(t)}/data.sock`;
  const server = await serveApi(socketPath, volume);
  t.teardown(() => server.close());
  return { volume, socketPath };
}

async function send(socketPath: string, method: string, path: string, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"], text }),
      );
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** The code of a refusal, which must have a message too. */
function refusal({ text }: Answer): string {
  const { error } = JSON.parse(text) as { error: { code: string; message: string } };
  if (error.message === "") throw new Error("a refusal without a message");
  return error.code;
}

test("GET /v1/status gives the status as JSON", async (t) => {
  const { socketPath } = await serving(t);
  const answer = await send(socketPath, "GET", "/v1/status");
  t.is(answer.status, 200);
  t.is(answer.type, "application/json");
  t.deepEqual(JSON.parse(answer.text), JSON.parse(JSON.stringify(sampleStatus())));
});

test("GET /v1/metrics gives Prometheus' text format", async (t) => {
  const { socketPath } = await serving(t);
  const answer = await send(socketPath, "GET", "/v1/metrics");
  t.is(answer.status, 200);
  t.is(answer.type, "text/plain; version=0.0.4");
  t.regex(answer.text, /^# HELP /);
});

test("POST /v1/stop stops, by force only when it is told so", async (t) => {
  const { socketPath, volume } = await serving(t);
  for (const body of [undefined, "{}", '{"force":false}', '{"force":true}']) {
    t.is((await send(socketPath, "POST", "/v1/stop", body)).status, 200);
  }
  t.deepEqual(volume.calls, ["stop false", "stop false", "stop false", "stop true"]);
});

test("POST /v1/resize takes a size in bytes, or none", async (t) => {
  const { socketPath, volume } = await serving(t);
  t.is((await send(socketPath, "POST", "/v1/resize", '{"sizeBytes":4096}')).text, '{"sizeBytes":4096}\n');
  t.is((await send(socketPath, "POST", "/v1/resize")).text, '{"sizeBytes":1024}\n');
  t.deepEqual(volume.calls, ["resize 4096", "resize undefined"]);
});

test("POST /v1/rollback takes the name of a snapshot", async (t) => {
  const { socketPath, volume } = await serving(t);
  t.is((await send(socketPath, "POST", "/v1/rollback", '{"snapshot":"monday"}')).text, '{"stopped":true}\n');
  t.deepEqual(volume.calls, ["roll back monday"]);
});

const REFUSED = [
  ["GET", "/", undefined, 404, "ENOENT"],
  ["GET", "/v1/status/", undefined, 404, "ENOENT"],
  ["GET", "/constructor", undefined, 404, "ENOENT"],
  ["POST", "/v1/status", undefined, 405, "EMETHOD"],
  ["DELETE", "/v1/stop", undefined, 405, "EMETHOD"],
  ["POST", "/v1/stop", "{", 400, "EREQUEST"],
  ["POST", "/v1/stop", "[]", 400, "EREQUEST"],
  ["POST", "/v1/stop", '{"force":1}', 400, "EREQUEST"],
  ["POST", "/v1/stop", '{"forced":true}', 400, "EREQUEST"],
  ["POST", "/v1/rollback", undefined, 400, "EREQUEST"],
  ["POST", "/v1/resize", '{"sizeBytes":"1GiB"}', 400, "EREQUEST"],
  ["POST", "/v1/resize", '{"sizeBytes":-1}', 400, "EREQUEST"],
  ["POST", "/v1/resize", '{"sizeBytes":1e300}', 400, "EREQUEST"],
  ["POST", "/v1/stop", `{"force":true${" ".repeat(5000)}}`, 413, "ETOOLARGE"],
] as const;

for (const [method, path, body, status, code] of REFUSED) {
  test(`refused: ${method} ${path} ${(body ?? "").slice(0, 40)}`, async (t) => {
    const { socketPath, volume } = await serving(t);
    const answer = await send(socketPath, method, path, body);
    t.is(answer.status, status);
    t.is(refusal(answer), code);
    t.deepEqual(volume.calls, []);
    t.is((await send(socketPath, "GET", "/v1/status")).status, 200, "it goes on serving");
  });
}

test("what the volume throws is answered with its code, and a fitting status", async (t) => {
  const { socketPath, volume } = await serving(t);
  for (const [code, status] of [
    ["EBUSY", 409],
    ["ESIZE", 400],
    ["EOPNOTSUPP", 501],
    ["EWHATEVER", 500],
  ] as const) {
    volume.error = new UblkError(code, "it cannot be");
    const answer = await send(socketPath, "POST", "/v1/stop");
    t.is(answer.status, status);
    t.deepEqual(JSON.parse(answer.text), { error: { code, message: "it cannot be" } });
  }
  volume.error = new Error("a fault of ours");
  t.is(refusal(await send(socketPath, "GET", "/v1/status")), "EINTERNAL");
});

test("what is no HTTP does not end the daemon", async (t) => {
  const { socketPath } = await serving(t);
  const connection = connect(socketPath);
  connection.end("\0\0\0 nonsense\r\n\r\n");
  connection.resume();
  await once(connection, "close");
  t.is((await send(socketPath, "GET", "/v1/status")).status, 200);
});

test("nobody but its owner can open the socket, nor see its directory", async (t) => {
  const parent = await directory(t);
  const server = await serveApi(`${parent}/run/data.sock`, new SampleVolume());
  t.teardown(() => server.close());
  t.is((await stat(`${parent}/run/data.sock`)).mode & 0o777, 0o600);
  t.is((await stat(`${parent}/run`)).mode & 0o777, 0o700);
});

test("whoever is slow to ask is waited for as long as the client would wait", async (t) => {
  const server = await serveApi(`${await directory(t)}/data.sock`, new SampleVolume());
  t.teardown(() => server.close());
  t.is(server.headersTimeout, DEADLINE_MS);
  t.is(server.requestTimeout, DEADLINE_MS);
});

test("a socket that a dead daemon left is replaced", async (t) => {
  const path = `${await directory(t)}/data.sock`;
  await writeFile(path, "");
  const server = await serveApi(path, new SampleVolume());
  t.teardown(() => server.close());
  t.is((await send(path, "GET", "/v1/status")).status, 200);
});

test.serial("the client asks, and throws what it is answered", async (t) => {
  const runtime = await directory(t);
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  t.teardown(() => delete process.env["SLUICE_RUNTIME_DIR"]);
  const volume = new SampleVolume();
  const server = await serveApi(`${runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  t.is((await askStatus("data")).device.path, "/dev/ublkb3");
  t.is(await askResize("data", 4096), 4096);
  await askStop("data", true);
  t.deepEqual(volume.calls, ["status", "resize 4096", "stop true"]);
  volume.error = new UblkError("EBUSY", "/dev/ublkb3 is in use: mounted at /mnt");
  await t.throwsAsync(askStop("data", false), { code: "EBUSY", message: "/dev/ublkb3 is in use: mounted at /mnt" });
});

test.serial("the client tells a volume that does not run from one that ends meanwhile", async (t) => {
  const runtime = await directory(t);
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  t.teardown(() => delete process.env["SLUICE_RUNTIME_DIR"]);
  await t.throwsAsync(askStatus("data"), { code: "ENOTRUNNING", message: /sluice up data/ });
  await mkdir(`${runtime}/x`);
  const dying = createServer((connection) => connection.destroy());
  dying.listen(`${runtime}/data.sock`);
  await once(dying, "listening");
  t.teardown(() => dying.close());
  await t.throwsAsync(ask("data", "GET", "/v1/status"), { code: "EGONE" });
});

test("a bulk copy: what is asked of it, and its originals as a stream", async (t) => {
  const { volume, socketPath } = await serving(t);
  t.deepEqual(JSON.parse((await send(socketPath, "GET", "/v1/bulk")).text), sampleBulk);
  for (const action of ["begin", "mark", "end-cow"]) {
    t.is((await send(socketPath, "POST", `/v1/bulk/${action}`)).status, 200);
  }
  const part = '{"ranges":[{"offset":4096,"length":512},{"offset":0,"length":1}]}';
  t.is((await send(socketPath, "POST", "/v1/bulk/begin", part)).status, 200);
  for (const ranges of ["[]", '[{"offset":0}]', '[{"offset":0,"length":0}]', '[{"offset":-1,"length":1}]'])
    t.is(refusal(await send(socketPath, "POST", "/v1/bulk/begin", `{"ranges":${ranges}}`)), "EREQUEST");
  t.is((await send(socketPath, "POST", "/v1/bulk/drop", '{"stream":"ab"}')).status, 200);
  t.is((await send(socketPath, "POST", "/v1/bulk/drop")).status, 200);
  t.is(refusal(await send(socketPath, "POST", "/v1/bulk/originals", '{"recordBytes":0}')), "EREQUEST");
  volume.originals = () => Readable.from([Buffer.from("one "), Buffer.from("two")]);
  const answer = await send(socketPath, "POST", "/v1/bulk/originals", '{"recordBytes":4096,"from":7}');
  t.like(answer, { status: 200, type: "application/octet-stream", text: "one two" });
  t.deepEqual(volume.calls, [
    "bulk",
    "bulk begin",
    "bulk mark",
    "bulk end-cow",
    "bulk begin 4096+512 0+1",
    "bulk drop ab",
    "bulk drop undefined",
    "bulk originals 4096 7",
  ]);
});

test.serial("the client hears of what goes wrong in the middle of a stream", async (t) => {
  const runtime = await directory(t);
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  t.teardown(() => delete process.env["SLUICE_RUNTIME_DIR"]);
  const volume = new SampleVolume();
  const server = await serveApi(`${runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  const received: number[] = [];
  const read = async (): Promise<void> => {
    for await (const part of askBulkOriginals("data", 4096, 0)) received.push(part.length);
  };
  volume.originals = () =>
    Readable.from(
      (async function* () {
        yield Buffer.alloc(10);
        await Promise.resolve();
        throw new UblkError("EIO", "originals at byte 5 cannot be read: — EIO");
      })(),
    );
  await t.throwsAsync(read, { code: "EIO", message: "originals at byte 5 cannot be read: — EIO" });
  t.deepEqual(received, [10]);
  volume.originals = () =>
    Readable.from(
      (async function* () {
        yield Buffer.alloc(10);
        await Promise.resolve();
        server.closeAllConnections();
        yield Buffer.alloc(10);
      })(),
    );
  await t.throwsAsync(read, { code: "EGONE" });
  volume.error = new UblkError("EORDER", "not marked yet");
  await t.throwsAsync(read, { code: "EORDER", message: "not marked yet" });
});

test.serial("who goes away ends the verification that he has begun", async (t) => {
  const runtime = await directory(t);
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  t.teardown(() => delete process.env["SLUICE_RUNTIME_DIR"]);
  const volume = new SampleVolume();
  const server = await serveApi(`${runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  const ended = Promise.withResolvers<undefined>();
  const status = { number: 1, state: "comparing", isRepairing: true, sizeBytes: 8, doneBytes: 4, places: [] } as const;
  volume.verification = async function* () {
    try {
      for (;;) {
        yield { ...status, differentBytes: 0, onTheirWayBytes: 0, unreadBytes: 0 };
        await new Promise(setImmediate);
      }
    } finally {
      ended.resolve(undefined);
    }
  };
  for await (const { doneBytes } of askMirrorVerification("data", true)) {
    t.is(doneBytes, 4);
    break;
  }
  await ended.promise;
  t.deepEqual(volume.calls, ["mirror verify true"]);
});
