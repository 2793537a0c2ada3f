/**
 * The receiver as a whole, in this process: files of its own, a socket of this machine, and a source by hand. Needs io_uring: a
 * kernel or a sandbox that refuses it makes these fail with ERING, which says so.
 */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { FRAME } from "../../src/replication/frame.ts";
import { encodeHello } from "../../src/replication/handshake.ts";
import { decodeAck } from "../../src/replication/messages.ts";
import { NO_GENERATION } from "../../src/replication/generations.ts";
import { Receive } from "../../src/control/receive.ts";
import type { ReceiveConfig, ReceivedSpec } from "../../src/control/receive-config.ts";
import { initReceived } from "../../src/control/receive-files.ts";
import type { ReceivedStatus } from "../../src/control/receive-status.ts";
import { BLOCK_BYTES, FakeSource, helloOf } from "./fake-source.ts";

const MIB = 2 ** 20;
const VOLUME_BYTES = MIB;
const SIZES = { imageBytes: VOLUME_BYTES, storeBytes: 64 * MIB, logBytes: 33 * MIB };
const MOMENT = Date.UTC(2026, 0, 2, 3, 4, 5);

interface Place {
  readonly config: ReceiveConfig;
  readonly spec: ReceivedSpec;
}

let folders = 0;

/** A volume of its own, made and configured. Environment variables belong to the process: tests here are serial. */
async function place(t: ExecutionContext, change: Partial<ReceivedSpec> = {}, sizes = SIZES): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-receive-"));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  process.env["SLUICE_RUNTIME_DIR"] = `${folder}/run`;
  process.env["SLUICE_STATE_DIR"] = `${folder}/state`;
  process.env["SLUICE_LOG"] = "error";
  const spec = {
    name: `v${++folders}`,
    path: `${folder}/image`,
    store: `${folder}/store`,
    log: `${folder}/log`,
    keep: 3,
    blockBytes: BLOCK_BYTES,
    from: null,
    ...change,
  };
  await initReceived(spec, sizes);
  const listen = { host: "127.0.0.1", port: 0 };
  return {
    spec,
    config: { file: "receive.toml", listen, transport: { transport: "clear" }, silenceMs: 30_000, volumes: [spec] },
  };
}

async function statusOf(receive: Receive): Promise<ReceivedStatus> {
  const [status] = (await receive.status()).volumes;
  if (status === undefined) throw new Error("no volume");
  return status;
}

/** Asks until it is so: what is committed is applied afterwards, when nobody is told. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition()));
}

async function blockOf({ path }: ReceivedSpec, block: number): Promise<number> {
  const bytes = (await readFile(path)).subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  return bytes.every((byte) => byte === bytes[0]) ? (bytes[0] ?? -1) : -1;
}

test.serial("a source is welcomed, sends writes and a closed point, and the image has them", async (t) => {
  const { config, spec } = await place(t);
  await using receive = await Receive.start(config);
  const source = await FakeSource.connect(receive.address);
  const welcome = await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
  t.is(welcome.wants, "full");
  t.is(welcome.generations.current, NO_GENERATION);
  t.true(welcome.granted.transferBytes > MIB && welcome.granted.itemBytes > MIB);
  source.write(1, 1, 3, 0x11);
  source.write(1, 2, 200, 0x22);
  t.is(
    await source.point(
      1,
      { incarnation: 1, counter: 2 },
      [
        { block: 3, transfer: 1 },
        { block: 200, transfer: 2 },
      ],
      MOMENT,
    ),
    1,
  );
  await until(async () => (await blockOf(spec, 200)) === 0x22);
  t.is(await blockOf(spec, 3), 0x11);
  t.is(await blockOf(spec, 4), 0);
  const status = await statusOf(receive);
  t.is(status.state, "connected");
  t.is(status.lastPoint, 1);
  t.deepEqual(status.lastClosed, { point: 1, created: new Date(MOMENT).toISOString(), state: "valid" });
  t.deepEqual(status.lastTransfer, { incarnation: 1, counter: 2 });
  t.is(status.received.transfers, 2);
  t.deepEqual(status.points, []);
  source.close();
  t.is(await source.ended.promise, undefined);
});

/** Writes a block in a transfer of its own, and makes it a closed point of the same number. */
async function writePoint(source: FakeSource, number: number, byte: number): Promise<void> {
  source.write(1, number, number, byte);
  await source.point(
    number,
    { incarnation: 1, counter: number },
    [{ block: number, transfer: number }],
    MOMENT + number,
  );
}

test.serial("older closed points are kept, so many as are wanted, under the moments of their source", async (t) => {
  const { config, spec } = await place(t, { keep: 3 });
  await using receive = await Receive.start(config);
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
  for (let point = 1; point <= 5; point++) await writePoint(source, point, point);
  await until(async () => (await statusOf(receive)).points.at(-1)?.point === 4 && (await blockOf(spec, 5)) === 5);
  await until(async () => (await statusOf(receive)).points.length === 2);
  const { points, lastClosed } = await statusOf(receive);
  const row = (point: number): object => ({ point, created: new Date(MOMENT + point).toISOString(), state: "valid" });
  t.deepEqual(points, [row(3), row(4)]);
  t.deepEqual(lastClosed, row(5) as typeof lastClosed);
});

test.serial("what cannot be shown is refused with a reason, and the volume goes on", async (t) => {
  const { config, spec } = await place(t);
  await using receive = await Receive.start(config);
  const volume = receive.known(spec.name);
  await t.throwsAsync(volume.export(null), { code: "ENOPOINT", message: /there is no closed point/ });
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
  await writePoint(source, 1, 0x11);
  await t.throwsAsync(volume.export(2), { code: "ENOENT", message: /there is no point 2/ });
  await t.throwsAsync(volume.unexport(1, false), { code: "ENOENT", message: /point 1 is not exported/ });
  await writePoint(source, 2, 0x22);
  await until(async () => (await blockOf(spec, 2)) === 0x22);
  t.deepEqual((await statusOf(receive)).exports, []);
});

test.serial(
  "it goes on where it was after a stop: the log, the last closed point, the generation, who was heard of",
  async (t) => {
    const { config, spec } = await place(t);
    {
      await using receive = await Receive.start(config);
      const source = await FakeSource.connect(receive.address);
      await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
      await writePoint(source, 1, 0x11);
      source.write(1, 2, 2, 0x22);
      await until(async () => (await statusOf(receive)).lastTransfer?.counter === 2);
      const ended = source.ended.promise;
      await receive[Symbol.asyncDispose]();
      t.is(await ended, undefined);
    }
    await using receive = await Receive.start(config);
    const { lastClosed, state, lastPoint } = await statusOf(receive);
    t.deepEqual(lastClosed, { point: 1, created: new Date(MOMENT + 1).toISOString(), state: "valid" });
    t.is(state, "waiting");
    t.is(lastPoint, 1);
    const again = await FakeSource.connect(receive.address);
    const stale = await again.refused(encodeHello(helloOf(spec.name, VOLUME_BYTES)));
    t.is(stale.code, "ESTALE");
    const source = await FakeSource.connect(receive.address);
    const welcome = await source.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 2, lastPoint: 1 }));
    t.is(welcome.wants, "resume");
    t.is(welcome.generations.current, "00000000000000aa");
    t.deepEqual(welcome.lastTransfer, { incarnation: 1, counter: 2 });
    t.is(welcome.lastPoint, 1);
    await source.point(2, { incarnation: 1, counter: 2 }, [{ block: 2, transfer: 2 }], MOMENT + 2);
    await until(async () => (await blockOf(spec, 2)) === 0x22);
    t.is(await blockOf(spec, 1), 0x11);
  },
);

test.serial(
  "without room in the store the last closed point stays, and the next one waits, also after a restart",
  async (t) => {
    const imageBytes = 64 * MIB;
    const { config, spec } = await place(t, { keep: 2 }, { ...SIZES, imageBytes });
    const isFull = async (receive: Receive): Promise<boolean> => (await statusOf(receive)).isStoreFull;
    const kept = async (receive: Receive): Promise<string[]> =>
      (await statusOf(receive)).points.map(({ point, state }) => `${point} ${state}`);
    {
      await using receive = await Receive.start(config);
      const source = await FakeSource.connect(receive.address);
      await source.welcomed(helloOf(spec.name, imageBytes));
      await writePoint(source, 1, 0x11);
      await writePoint(source, 2, 0x22);
      await until(async () => (await blockOf(spec, 2)) === 0x22);
      // The store has 64 MiB, less what it needs itself.
      t.is(await source.zeroesPoint(3, { incarnation: 1, counter: 2 }, imageBytes / BLOCK_BYTES), 3);
      await until(() => isFull(receive));
      t.deepEqual(await kept(receive), ["1 full", "2 valid"]);
    }
    await using receive = await Receive.start(config);
    await until(() => isFull(receive));
    t.deepEqual(await kept(receive), ["1 full", "2 valid"]);
  },
);

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** A port that nobody has at this moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const found = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof found === "object" && found !== null ? found.port : 0;
}

test.serial("killed, the next one has all that was acknowledged, and goes on", async (t) => {
  const { config, spec } = await place(t);
  const { name, path, store, log } = spec;
  const port = await freePort();
  const text = `listen = "127.0.0.1:${port}"\ntransport = "clear"\n[[volume]]\n`;
  const folder = join(path, "..");
  await writeFile(
    `${folder}/receive.toml`,
    text +
      Object.entries({ name, path, store, log })
        .map((pair) => pair.map((word, at) => (at === 0 ? word : JSON.stringify(word))).join(" = "))
        .join("\n"),
  );
  const env = { ...process.env, SLUICE_CONFIG_DIR: folder, SLUICE_LOG: "info" };
  const child = spawn(process.execPath, [MAIN, "receive"], { env, stdio: ["ignore", "ignore", "pipe"] });
  t.teardown(() => child.kill("SIGKILL"));
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.once("exit", () => {
      reject(new Error(`the receiver has ended: ${said}`));
    });
    child.stderr.on("data", (bytes: Buffer) => {
      said += bytes.toString();
      if (said.includes("Receiving")) resolve();
    });
  });
  const source = await FakeSource.connect({ host: "127.0.0.1", port });
  await source.welcomed(helloOf(name, VOLUME_BYTES));
  await writePoint(source, 1, 0x11);
  source.write(1, 2, 2, 0x22);
  source.write(1, 3, 1, 0x33);
  let acknowledged = 0;
  while (acknowledged < 3) acknowledged = decodeAck(await source.next(FRAME.ACK)).durable.counter;
  // At any moment of what comes behind it.
  const committed = source.point(
    2,
    { incarnation: 1, counter: 3 },
    [
      { block: 2, transfer: 2 },
      { block: 1, transfer: 3 },
    ],
    MOMENT,
  );
  await committed;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
  await source.ended.promise;

  await using receive = await Receive.start(config);
  const next = await FakeSource.connect(receive.address);
  const welcome = await next.welcomed(helloOf(name, VOLUME_BYTES, { connection: 2, lastPoint: 2 }));
  t.deepEqual(welcome.lastTransfer, { incarnation: 1, counter: 3 });
  t.is(welcome.lastPoint, 2);
  t.is(welcome.wants, "resume");
  await until(async () => (await blockOf(spec, 1)) === 0x33);
  t.is(await blockOf(spec, 2), 0x22);
  t.is((await statusOf(receive)).lastClosed?.point, 2);
});

test.serial("who is refused is told why, and the source that there is goes on", async (t) => {
  const { config, spec } = await place(t);
  await using receive = await Receive.start(config);
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 7 }));
  const hello = helloOf(spec.name, VOLUME_BYTES, { connection: 8 });
  const otherVersion = encodeHello(hello);
  otherVersion[0] = 9;
  const refused: Record<string, Uint8Array> = {
    ENOENT: encodeHello({ ...hello, volume: "another" }),
    EVERSION: otherVersion,
    EPROTOCOL: new Uint8Array(4).fill(1, 0, 1),
    EOWNER: encodeHello({ ...hello, mark: 5n }),
    ESIZE: encodeHello({ ...hello, volumeBytes: 2 * VOLUME_BYTES }),
    EBLOCK: encodeHello({ ...hello, blockBytes: 8192 }),
    ESTALE: encodeHello({ ...hello, connection: 7 }),
  };
  for (const [code, payload] of Object.entries(refused)) {
    const other = await FakeSource.connect(receive.address);
    t.is((await other.refused(payload)).code, code);
    await other.ended.promise;
  }
  await writePoint(source, 1, 0x11);
  t.is((await statusOf(receive)).state, "connected");
});

test.serial("a newer connection of a volume ends the older one, and goes on from what that has brought", async (t) => {
  const { config, spec } = await place(t);
  await using receive = await Receive.start(config);
  const older = await FakeSource.connect(receive.address);
  await older.welcomed(helloOf(spec.name, VOLUME_BYTES));
  older.write(1, 1, 1, 0x11);
  await until(async () => (await statusOf(receive)).lastTransfer?.counter === 1);
  const newer = await FakeSource.connect(receive.address);
  const { lastTransfer } = await newer.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 2 }));
  t.deepEqual(lastTransfer, { incarnation: 1, counter: 1 });
  t.regex(String(await older.ended.promise), /newer connection/);
  await newer.point(1, { incarnation: 1, counter: 1 }, [{ block: 1, transfer: 1 }], MOMENT);
  await until(async () => (await blockOf(spec, 1)) === 0x11);
});

test.serial("what a source may not send ends its connection, with the reason, and not the volume", async (t) => {
  const { config, spec } = await place(t);
  await using receive = await Receive.start(config);
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
  const stream = await FakeSource.connect(receive.address);
  stream.send(FRAME.POINT_COMMITTED, new Uint8Array(8));
  t.regex(String(await stream.ended.promise), /wanted a HELLO/);
  source.write(2, 1, 1, 1);
  t.regex(String(await source.ended.promise), /transfer 2\.1/);
  const next = await FakeSource.connect(receive.address);
  await next.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 2 }));
  // However fast it makes room: without a point there is no more than the log has.
  for (let sent = 0, number = 1; sent <= SIZES.logBytes; sent += BLOCK_BYTES) next.write(1, number++, 0, 7);
  t.regex(String(await next.ended.promise), /more transfers than were granted/);
  const last = await FakeSource.connect(receive.address);
  await last.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 3 }));
  t.is((await statusOf(receive)).state, "connected");
});

test.serial(
  "who has nothing to say but that he lives is not waited for, and those who were not welcomed are not more than 64",
  async (t) => {
    const { config } = await place(t);
    await using receive = await Receive.start({ ...config, silenceMs: 3000 });
    const silent = await Promise.all(Array.from({ length: 64 }, () => FakeSource.connect(receive.address, 3000)));
    const one = await FakeSource.connect(receive.address);
    const first = await Promise.race([
      one.ended.promise.then(() => "one"),
      silent[0]?.ended.promise.then(() => "silent"),
    ]);
    t.is(first, "one");
    const ends = await Promise.all(silent.map((source) => source.ended.promise));
    t.true(
      ends.every((end) => /no HELLO has come/.test(String(end))),
      String(ends[0]),
    );
    const later = await FakeSource.connect(receive.address);
    t.is((await later.refused(encodeHello(helloOf("another", VOLUME_BYTES)))).code, "ENOENT");
  },
);

test.serial("a volume that cannot be opened says why, and the others go on", async (t) => {
  const { config, spec } = await place(t);
  const broken = { ...spec, name: "broken", path: `${spec.path}-2`, store: `${spec.store}-2`, log: `${spec.log}-2` };
  await t.throwsAsync(Receive.start({ ...config, volumes: [broken] }), {
    code: "ENOENT",
    message: /receive init broken/,
  });
  await using receive = await Receive.start({ ...config, volumes: [broken, spec] });
  const status = await statusOf(receive);
  t.is(status.state, "failed");
  t.regex(status.error ?? "", /image-2 does not exist: make it with "sluice receive init broken/);
  const refused = await FakeSource.connect(receive.address);
  const reason = await refused.refused(encodeHello(helloOf("broken", VOLUME_BYTES)));
  t.is(reason.code, "ENOENT");
  t.regex(reason.text, /has failed at the receiver: Image/);
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
});

test.serial("files are made once, and nothing of a volume is made beside what contradicts it", async (t) => {
  const { config, spec } = await place(t);
  await t.throwsAsync(initReceived(spec, SIZES), { code: "EEXIST", message: /^Log / });
  {
    await using receive = await Receive.start(config);
    const source = await FakeSource.connect(receive.address);
    await source.welcomed(helloOf(spec.name, VOLUME_BYTES));
    for (let point = 1; point <= 3; point++) await writePoint(source, point, point);
    await until(async () => (await statusOf(receive)).points.at(-1)?.point === 2 && (await blockOf(spec, 3)) === 3);
  }
  await rm(spec.log);
  // The log alone is made anew: what the volume has is not known then, and numbers of points that are kept are not given again.
  t.deepEqual(await initReceived(spec, { ...SIZES, imageBytes: null, storeBytes: null }), [spec.log]);
  {
    await using receive = await Receive.start(config);
    const source = await FakeSource.connect(receive.address);
    const welcome = await source.welcomed(helloOf(spec.name, VOLUME_BYTES, { connection: 2, lastPoint: 3 }));
    t.is(welcome.wants, "full");
    t.is(welcome.generations.current, NO_GENERATION);
    t.is(welcome.lastPoint, 2);
    t.deepEqual(
      (await statusOf(receive)).points.map(({ point }) => point),
      [1, 2],
    );
    t.is((await statusOf(receive)).lastClosed, null);
  }
  await rm(spec.log);
  await rm(spec.path);
  await t.throwsAsync(initReceived(spec, SIZES), { code: "EEXIST", message: /^Store .* image .* does not/ });
  await rm(spec.store);
  await t.throwsAsync(initReceived(spec, { ...SIZES, imageBytes: null }), { code: "ESIZE", message: /--size/ });
  await t.throwsAsync(initReceived(spec, { ...SIZES, logBytes: MIB }), {
    code: "ESIZE",
    message: /log needs at least/,
  });
  await t.throwsAsync(initReceived(spec, SIZES, "seed"), { code: "ENOENT", message: /bring it there/ });
  // What was made before it failed is gone again.
  t.deepEqual(await initReceived(spec, SIZES), [spec.path, spec.store, spec.log]);
});
