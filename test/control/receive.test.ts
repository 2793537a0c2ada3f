/**
 * The receiver as a whole, in this process: files of its own, a socket of this machine, and a source by hand. Needs io_uring: a
 * kernel or a sandbox that refuses it makes these fail with ERING, which says so.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { encodeHello } from "../../src/replication/handshake.ts";
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
async function place(t: ExecutionContext, change: Partial<ReceivedSpec> = {}): Promise<Place> {
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
    ...change,
  };
  await initReceived(spec, SIZES);
  const listen = { host: "127.0.0.1", port: 0 };
  return { spec, config: { file: "receive.toml", listen, transport: "clear", silenceMs: 30_000, volumes: [spec] } };
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
  t.is(await source.point(1, { incarnation: 1, counter: 2 }, [{ block: 3, transfer: 1 }, { block: 200, transfer: 2 }], MOMENT), 1);
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
