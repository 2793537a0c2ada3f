/**
 * A volume that changes sides, in this process: files of its own, a socket of this machine, and the other side by hand. Needs
 * io_uring: a kernel or a sandbox that refuses it makes these fail with ERING, which says so.
 */
import { access, mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { readConfig } from "../../src/control/config.ts";
import { demote } from "../../src/control/demotion.ts";
import { refuseTarget, roleOf } from "../../src/control/mirror-role.ts";
import { mirrorStatePath, receiveStatePath } from "../../src/control/paths.ts";
import { readReceiveConfig, type ReceivedSpec } from "../../src/control/receive-config.ts";
import { recordedRuns } from "../../src/control/recorded-runs.ts";
import { finishRollback } from "../../src/control/rollback.ts";
import { initReceived } from "../../src/control/receive-files.ts";
import { readNote, writeNote } from "../../src/control/receive-state.ts";
import { askTakeOver, hasGivenUp, refuseLeft } from "../../src/control/reversal.ts";
import { Receive } from "../../src/control/receive.ts";
import { placeOf, readHeader } from "../../src/nvram/nvram-file.ts";
import { Connection } from "../../src/replication/connection.ts";
import { FRAME } from "../../src/replication/frame.ts";
import { created, inStep, wentAlone } from "../../src/replication/generations.ts";
import { decodeHello, encodeHello, type Hello } from "../../src/replication/handshake.ts";
import {
  encodePointBegin,
  encodePointEnd,
  encodeReason,
  POINT_BEGIN_BYTES,
  POINT_END_BYTES,
  type Reason,
} from "../../src/replication/messages.ts";
import { decodeItems, encodeRuns, RUN_KIND } from "../../src/replication/point-items.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
import { clearTransport } from "../../src/replication/transport.ts";
import { SourceStateFile } from "../../src/replication/source-state.ts";
import { SECTOR_BYTES } from "../../src/targets/mirror/transfer.ts";
import { ByteFile } from "../../src/targets/byte-file.ts";
import { RecordLines } from "../../src/nvram/record-lines.ts";
import { openVolume } from "../../src/targets/volume.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { BLOCK_BYTES, FakeSource, helloOf } from "./fake-source.ts";

const MIB = 2 ** 20;
const VOLUME_BYTES = 4 * MIB;
const A = "00000000000000aa";
const B = "00000000000000bb";
const MOMENT = Date.UTC(2026, 0, 2, 3, 4, 5);

/** A volume that a receiver keeps, and its own configuration. Environment variables belong to the process: tests here are serial. */
async function place(t: ExecutionContext, volumeToml?: string): Promise<{ spec: ReceivedSpec; nvram: string }> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-fail-over-"));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  process.env["SLUICE_CONFIG_DIR"] = folder;
  process.env["SLUICE_RUNTIME_DIR"] = `${folder}/run`;
  process.env["SLUICE_STATE_DIR"] = `${folder}/state`;
  process.env["SLUICE_LOG"] = "error";
  const files = `path = "${folder}/image"\nstore = "${folder}/store"\nlog = "${folder}/log"`;
  await writeFile(`${folder}/receive.toml`, `transport = "clear"\n[[volume]]\nname = "v"\n${files}\n`);
  const nvram = `${folder}/nvram`;
  const own = `path = "${folder}/image"\n[snapshots]\nstore = "${folder}/store"\n[record]\nnvram = "${nvram}"\n`;
  const mirror = '[mirror]\nto = "127.0.0.1:1"\ntransport = "clear"\n';
  await writeFile(`${folder}/v.toml`, volumeToml ?? own + mirror);
  const [spec] = (await readReceiveConfig()).volumes;
  if (spec === undefined) throw new Error("no volume");
  await initReceived(spec, { imageBytes: VOLUME_BYTES, storeBytes: 64 * MIB, logBytes: 33 * MIB });
  return { spec, nvram };
}

async function started(): Promise<Receive> {
  return Receive.start({ ...(await readReceiveConfig()), listen: { host: "127.0.0.1", port: 0 } });
}

async function blockOf({ path }: ReceivedSpec, block: number): Promise<number> {
  const bytes = (await readFile(path)).subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  return bytes.every((byte) => byte === bytes[0]) ? (bytes[0] ?? -1) : -1;
}

/** A source of generation A that has sent a closed point, and a write behind it that is in the receiver's log. */
async function mirrored(receive: Receive): Promise<FakeSource> {
  const source = await FakeSource.connect(receive.address);
  await source.welcomed(helloOf("v", VOLUME_BYTES));
  source.write(1, 1, 3, 0x11);
  await source.point(2, { incarnation: 1, counter: 1 }, [{ block: 3, transfer: 1 }], MOMENT);
  source.write(1, 2, 3, 0x22);
  source.write(1, 3, 9, 0x33);
  const last = async (): Promise<number> => (await receive.status()).volumes[0]?.lastTransfer?.counter ?? 0;
  while ((await last()) < 3);
  return source;
}

async function gone(source: FakeSource, receive: Receive): Promise<void> {
  source.close();
  await source.ended.promise;
  while ((await receive.status()).volumes[0]?.state === "connected");
}

test.serial(
  "what is promoted has all that was logged behind the last point, and follows nobody any more",
  async (t) => {
    const { spec, nvram } = await place(t);
    await t.throwsAsync(refuseTarget("v"), { code: "EMIRROR", message: /written elsewhere/ });
    await using receive = await started();
    const source = await mirrored(receive);
    await t.throwsAsync(receive.known("v").promote(false), { code: "EBUSY", message: /is connected/ });
    await gone(source, receive);
    const { point, isRolledBack } = await receive.known("v").promote(false);
    t.is(point.point, 3);
    t.false(isRolledBack);
    t.deepEqual([await blockOf(spec, 3), await blockOf(spec, 9)], [0x22, 0x33]);
    t.is(await roleOf("v"), "source");
    await refuseTarget("v");
    const { state } = await SourceStateFile.open(mirrorStatePath("v"));
    t.is(state.generations.bitmap, A, "the other side is behind from now on");
    await using handle = await open(nvram, "r");
    const file = new ByteFile(handle.fd);
    const { salt } = placeOf(file, readHeader(file));
    t.is(state.record, salt, "its record knows all from now on");
    await SourceStateFile.begin(mirrorStatePath("v"), salt);
    const { generations, incarnation } = (await SourceStateFile.open(mirrorStatePath("v"))).state;
    t.is(generations.bitmap, A);
    t.true(incarnation > 1, "no transfer has the name of one of the other side");

    const back = await FakeSource.connect(receive.address);
    const same = helloOf("v", VOLUME_BYTES, { connection: 2 });
    t.is((await back.refused(encodeHello(same))).code, "EAHEAD");
    const split = await FakeSource.connect(receive.address);
    const alone = { ...same, connection: 3, generations: wentAlone(created(A), B) };
    t.is((await split.refused(encodeHello(alone))).code, "ESPLIT");
    await t.throwsAsync(receive.known("v").promote(false), { code: "EMIRROR", message: /written here already/ });
  },
);

test.serial("nothing is promoted that has no point, or has other files in its own configuration", async (t) => {
  await place(t);
  {
    await using receive = await started();
    await t.throwsAsync(receive.known("v").promote(true), { code: "ENOPOINT" });
  }
  await place(t, 'path = "/elsewhere"\n');
  await using receive = await started();
  await gone(await mirrored(receive), receive);
  await t.throwsAsync(receive.known("v").promote(true), { code: "EMIRROR", message: /v\.toml: path: wanted/ });
  t.is(await roleOf("v"), "target");
});

test.serial("what dies while it is promoted is promoted by the next start of the receiver", async (t) => {
  const { spec, nvram } = await place(t);
  {
    await using receive = await started();
    await gone(await mirrored(receive), receive);
    // Its record cannot be made.
    await mkdir(nvram);
    await t.throwsAsync(receive.known("v").promote(false));
    t.is(await roleOf("v"), "promoting");
    await t.throwsAsync(refuseTarget("v"), { code: "EMIRROR" });
    await rm(nvram, { recursive: true });
  }
  await using receive = await started();
  t.is((await receive.status()).volumes[0]?.state, "promoted");
  t.is(await blockOf(spec, 9), 0x33);
  await access(mirrorStatePath("v"));
});

test.serial("what was being copied is put back to the last closed point, if that is wanted", async (t) => {
  const { spec } = await place(t);
  {
    await using receive = await started();
    const source = await mirrored(receive);
    // The image takes in an open point: of a source that has begun anew, and of which something is still missing.
    await gone(source, receive);
    const next = await FakeSource.connect(receive.address);
    await next.welcomed(helloOf("v", VOLUME_BYTES, { incarnation: 2 }));
    next.write(2, 1, 3, 0x44);
    const items = encodeRuns([{ kind: RUN_KIND.REFERENCE, block: 3, blocks: 1, transfer: 1, place: 0 }]);
    const begin = new Uint8Array(POINT_BEGIN_BYTES);
    const head = { point: 4, cut: { incarnation: 2, counter: 1 }, createdMs: MOMENT, isClosed: false };
    encodePointBegin(begin, { ...head, next: 2, log: 1 });
    const end = new Uint8Array(POINT_END_BYTES);
    encodePointEnd(end, { point: 4, items: 1, checksum: crc32(items) });
    next.send(FRAME.POINT_BEGIN, begin);
    next.send(FRAME.POINT_ITEMS, items);
    next.send(FRAME.POINT_END, end);
    while ((await blockOf(spec, 3)) !== 0x44);
    await gone(next, receive);
    await t.throwsAsync(receive.known("v").promote(false), { code: "EOPEN", message: /is point 3 of .*--force/ });
    t.is(await roleOf("v"), "target");
    const { point, isRolledBack } = await receive.known("v").promote(true);
    t.is(point.point, 3);
    t.true(isRolledBack);
    await t.throwsAsync(demote("v", false), { code: "EBUSY", message: /to be rolled back/ });
  }
  await using volume = await openVolume((await readConfig("v")).volume);
  await finishRollback("v", volume);
  t.deepEqual([await blockOf(spec, 3), await blockOf(spec, 9)], [0x22, 0x33]);
});

test.serial(
  "a source that gives its volume up has it promoted; one that asks, or that it lacks something of, changes nothing",
  async (t) => {
    const { spec } = await place(t);
    await using receive = await started();
    const source = await mirrored(receive);
    const hello = helloOf("v", VOLUME_BYTES, { lastPoint: 2, connection: 0 });
    const said = async (change: Partial<Hello>): Promise<string> => {
      const other = await FakeSource.connect(receive.address);
      const answer = await other.takeOver({ ...hello, ...change });
      await other.ended.promise;
      return answer;
    };
    t.is(await said({}), "taken over");
    const alone = wentAlone(created(A), B);
    t.regex(await said({ generations: alone }), /^EBEHIND: .*wanted all that the source has, found 0*bb after 0*aa at/);
    const given = { role: "target" } as const;
    for (const change of [{}, given]) {
      t.regex(await said({ ...change, generations: alone }), /^EBEHIND/);
      t.regex(await said({ ...change, generations: created(B) }), /^EUNRELATED/);
      t.regex(await said({ ...change, lastPoint: 4 }), /^EBEHIND: .*wanted point 4 of the source, found 2 here/);
      t.regex(await said({ ...change, incarnation: 0 }), /^ESTALE/);
      t.regex(await said({ ...change, volumeBytes: 4096 }), /^ESIZE/);
      t.regex(await said({ ...change, volume: "w" }), /^ENOENT/);
    }
    const [status] = (await receive.status()).volumes;
    t.is(status?.state, "connected", "nobody has taken the source's place");
    t.is(await roleOf("v"), "target");

    t.is(await said(given), "taken over");
    t.regex(String(await source.ended.promise), /promoted/);
    t.is(await roleOf("v"), "source");
    t.deepEqual([await blockOf(spec, 3), await blockOf(spec, 9)], [0x22, 0x33]);
    t.is(await said(given), "taken over", "it was before, and nobody may have heard of it");
    t.regex(await said({}), /^EAHEAD/);
    t.regex(await said({ ...given, generations: alone }), /^ESPLIT/);
  },
);

test.serial("a receiver that could not be mirrored from in turn takes nothing over", async (t) => {
  const { spec } = await place(t);
  const folder = process.env["SLUICE_CONFIG_DIR"] ?? "";
  await writeFile(`${folder}/v.toml`, `path = "${spec.path}"\n[snapshots]\nstore = "${spec.store}"\n`);
  await using receive = await started();
  await gone(await mirrored(receive), receive);
  const other = await FakeSource.connect(receive.address);
  const hello = helloOf("v", VOLUME_BYTES, { role: "target", lastPoint: 2, connection: 0 });
  t.regex(await other.takeOver(hello), /v\.toml: wanted \[mirror\].*found none/);
  t.is(await roleOf("v"), "target");
});

/** What the other side says to whoever asks it to take over, one answer after the other; and the roles of who asked. */
async function otherSide(
  t: ExecutionContext,
  answers: readonly (Reason | "taken over" | "nothing")[],
): Promise<{ port: number; roles: string[] }> {
  const roles: string[] = [];
  const left = [...answers];
  const server = await clearTransport.listen(
    { host: "127.0.0.1", port: 0 },
    (stream) => {
      const connection: Connection = new Connection(stream, 30_000, {
        onFrame: (type, payload) => {
          if (type !== FRAME.TAKE_OVER) throw new UblkError("EPROTOCOL", `no frame has type ${type}`);
          roles.push(decodeHello(payload).role);
          const answer = left.shift() ?? "nothing";
          if (answer === "taken over") connection.send(FRAME.TAKEN_OVER);
          else if (answer !== "nothing") connection.send(FRAME.REFUSED, encodeReason(answer));
          connection.close();
        },
        onEnd: () => undefined,
      });
    },
    () => undefined,
  );
  t.teardown(() => server.close());
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("it listens nowhere");
  return { port: address.port, roles };
}

test.serial("who reverses has given up all that is written here before the other side is told", async (t) => {
  const { spec, nvram } = await place(t);
  await using receive = await started();
  await t.throwsAsync(hasGivenUp("v"), { code: "EMIRROR", message: /is not the source of a mirror here/ });
  await gone(await mirrored(receive), receive);
  await receive.known("v").promote(false);
  t.false(await hasGivenUp("v"));
  // It has not been in step with anybody since.
  await t.throwsAsync(refuseLeft("v"), { code: "EBEHIND", message: /mirror wait v/ });
  const file = await SourceStateFile.open(mirrorStatePath("v"));
  await file.save({ generations: inStep(file.state.generations) });
  await refuseLeft("v");
  const { record } = file.state;
  await file.save({ record: null });
  await t.throwsAsync(refuseLeft("v"), { code: "EBEHIND" }, "something was written that no record knows of");
  await file.save({ record });

  const { port, roles } = await otherSide(t, [{ code: "EBEHIND", text: "not all" }, "nothing", "taken over"]);
  const folder = process.env["SLUICE_CONFIG_DIR"] ?? "";
  const files = `path = "${spec.path}"\n[snapshots]\nstore = "${spec.store}"\n[record]\nnvram = "${nvram}"\n`;
  await writeFile(`${folder}/v.toml`, `${files}[mirror]\nto = "127.0.0.1:${port}"\ntransport = "clear"\n`);
  await t.throwsAsync(askTakeOver("v", "source"), { code: "EBEHIND", message: /does not take volume v over: not all/ });
  await t.throwsAsync(askTakeOver("v", "source"), { code: "EPROTOCOL", message: /no answer/ });
  t.is(await roleOf("v"), "source");
  t.deepEqual(await demote("v", false), { isRecorded: true, hasAll: true });
  t.true(await hasGivenUp("v"));
  await askTakeOver("v", "target");
  t.deepEqual(roles, ["source", "source", "target"]);

  // What has come from the other side since is what the volume is.
  const note = await readNote(receiveStatePath("v"));
  await writeNote(receiveStatePath("v"), { ...note, base: null });
  await t.throwsAsync(hasGivenUp("v"), { code: "EMIRROR" });
});

/** Of a record that nobody has open: so many chunks are in it from then on. */
async function withRecorded(nvram: string, members: readonly number[]): Promise<{ salt: number; chunkBytes: number }> {
  await using handle = await open(nvram, "r+");
  const file = new ByteFile(handle.fd);
  const { salt, chunks, chunkBytes, offset, lengthBytes } = placeOf(file, readHeader(file));
  const lines = new RecordLines(file.read(offset, lengthBytes), chunks, salt);
  for (const chunk of members) lines.seal(lines.set(chunk, true));
  file.write(offset, lines.bytes);
  return { salt, chunkBytes };
}

test.serial("what is demoted and promoted again knows still what it had written alone", async (t) => {
  const { nvram } = await place(t);
  await using receive = await started();
  await gone(await mirrored(receive), receive);
  await receive.known("v").promote(false);
  const { salt } = await withRecorded(nvram, [2]);
  await SourceStateFile.begin(mirrorStatePath("v"), salt);
  const mine = (await SourceStateFile.open(mirrorStatePath("v"))).state.generations;
  await demote("v", false);
  await receive.known("v").follow();
  await receive.known("v").promote(false);
  const { state } = await SourceStateFile.open(mirrorStatePath("v"));
  t.deepEqual([state.record, state.generations], [salt, mine]);
  const runs = await recordedRuns("v", { nvram, salt }, VOLUME_BYTES, BLOCK_BYTES);
  t.is(runs.length, 1);
  await t.throwsAsync(recordedRuns("v", { nvram, salt: salt + 1 }, VOLUME_BYTES, BLOCK_BYTES), { code: "ENVRAM" });
});

test.serial("what is demoted asks its new source for all that its record tells of, until a closed point", async (t) => {
  const { spec, nvram } = await place(t);
  await using receive = await started();
  await gone(await mirrored(receive), receive);
  await receive.known("v").promote(false);
  await t.throwsAsync(demote("other", false), { message: /other\.toml does not exist/ });

  // It has written alone since: in the first chunk of its record, and in the third.
  const { salt, chunkBytes } = await withRecorded(nvram, [0, 2]);
  await SourceStateFile.begin(mirrorStatePath("v"), salt);
  const mine = (await SourceStateFile.open(mirrorStatePath("v"))).state.generations;

  t.deepEqual(await demote("v", false), { isRecorded: true, hasAll: false });
  await t.throwsAsync(refuseTarget("v"), { code: "EMIRROR" });
  await t.throwsAsync(demote("v", false), { code: "EMIRROR", message: /mirrored to here already/ });
  await receive.known("v").follow();
  const { lastClosed, state } = (await receive.status()).volumes[0] ?? {};
  t.is(state, "waiting");
  const base = lastClosed?.point ?? 0;
  t.true(base > 2, "points that the store has keep their numbers");

  const theirs = wentAlone(created(A), B);
  const hello = helloOf("v", VOLUME_BYTES, { incarnation: 7, generations: theirs });
  const first = await FakeSource.connect(receive.address);
  t.is((await first.refused(encodeHello(hello))).code, "ESPLIT");
  t.deepEqual(await demote("v", true), { isRecorded: true, hasAll: false });
  await receive.known("v").follow();
  const source = await FakeSource.connect(receive.address);
  const welcome = await source.welcomed({ ...hello, connection: 2 });
  t.is(welcome.wants, "recorded");
  t.deepEqual(welcome.generations, mine);
  const lost = welcome.lastPoint + 2;
  const begin = new Uint8Array(POINT_BEGIN_BYTES);
  encodePointBegin(begin, { point: lost, cut: NO_TRANSFER, createdMs: MOMENT, isClosed: true, next: 1, log: 1 });
  source.send(FRAME.POINT_BEGIN, begin);
  const geometry = { volumeSectors: VOLUME_BYTES / SECTOR_BYTES, blockSectors: BLOCK_BYTES / SECTOR_BYTES };
  const { runs } = decodeItems(await source.next(FRAME.NAK), geometry);
  const blocks = chunkBytes / BLOCK_BYTES;
  t.deepEqual(
    runs.map((run) => [run.block, run.blocks]),
    [
      [0, blocks],
      [2 * blocks, blocks],
    ],
  );
  await gone(source, receive);

  // What was asked for and did not come is asked for again; with the first closed point there is nothing more to ask for.
  const again = await FakeSource.connect(receive.address);
  await again.welcomed({ ...hello, connection: 3 });
  again.write(7, 1, 5, 0x55);
  await again.point(lost + 2, { incarnation: 7, counter: 1 }, [{ block: 5, transfer: 1 }], MOMENT);
  t.is((await receive.status()).volumes[0]?.lastClosed?.point, base);
  again.write(7, 2, 6, 0x66);
  await again.point(lost + 4, { incarnation: 7, counter: 2 }, [{ block: 6, transfer: 2 }], MOMENT);
  while ((await blockOf(spec, 6)) !== 0x66);
  await gone(again, receive);
  const last = await FakeSource.connect(receive.address);
  await last.welcomed({ ...hello, connection: 4 });
  const { record, isGivenUp, generations } = await readNote(receiveStatePath("v"));
  t.is(record, null);
  t.false(isGivenUp);
  t.is(generations.current, B);
  t.deepEqual([await blockOf(spec, 3), await blockOf(spec, 5), await blockOf(spec, 6)], [0x22, 0x55, 0x66]);
});
