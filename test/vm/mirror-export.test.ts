// vm-kernel: 7.2
/** Points of a mirrored volume as read-only devices of the receiver's host, while it is written to and points go on. */
import { writeFile } from "node:fs/promises";
import test from "ava";
import { askMirror, askMirrorPoint } from "../../src/control/client.ts";
import type { ExportedPointRow } from "../../src/control/receive-status.ts";
import type { SnapshotList, SnapshotRow } from "../../src/control/snapshot-status.ts";
import { configure, Daemon } from "./daemon.ts";
import { Remote, REMOTE } from "./remote.ts";
import { image, MIB, sh, tried, until, VerifiedLoad } from "./support.ts";

const VOLUME = "data";
/** What the disk has, and not what the page cache has of it. */
const hash = (path: string): Promise<string> => sh(`dd if=${path} bs=1M iflag=direct status=none | sha256sum`);

test("a point is what the source was, whatever is written, until it is taken back or the receiver ends", async (t) => {
  await Remote.connect();
  const path = await image(VOLUME, 8 * MIB);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 30\ninterval = 0.2`;
  await configure(VOLUME, `path = "${path}"\n[record]\nnvram = "/dev/shm/nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`bin/sluice nvram create ${VOLUME}`);
  const remote = await Remote.make(VOLUME, "clear", { size: "8MiB", store: "64MiB", log: "64MiB" });
  await remote.start();
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  const shown = async (what: string): Promise<ExportedPointRow> =>
    JSON.parse(await remote.sluice(`receive export ${what} --json`)) as ExportedPointRow;
  /** What the source is, and the number of its point. */
  const pointOf = async (): Promise<{ point: number; wanted: string }> => {
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=64k count=100 oflag=direct status=none`);
    await until(async () => (await askMirror(VOLUME)).state === "in step");
    const { point, isClosed } = await askMirrorPoint(VOLUME);
    t.true(isClosed);
    return { point, wanted: await hash(daemon.path) };
  };

  const first = await pointOf();
  const { device, point } = await shown(VOLUME);
  t.is(point, first.point, "the last one");
  const second = await pointOf();
  const other = await shown(`${VOLUME}@${second.point}`);
  t.not(first.wanted, second.wanted);
  t.is((await shown(`${VOLUME}@${first.point}`)).device, device, "it is there already");
  // Slower than the link, so that points are closed.
  const load = new VerifiedLoad(daemon.path, ["--rate=512k"]);
  const before = (await askMirror(VOLUME)).points.closed;
  await until(async () => (await askMirror(VOLUME)).points.closed > before + 5);
  t.is(await hash(device), first.wanted);
  t.is(await hash(other.device), second.wanted);
  await until(async () => (await askMirror(VOLUME)).points.closed > before + 10);
  t.is(await hash(device), first.wanted);
  t.is(await hash(other.device), second.wanted);
  t.true((await load.stop()) > 0);
  t.not(await hash(daemon.path), second.wanted);
  const { exports } = await remote.status();
  t.deepEqual(
    exports.map((each) => [each.point, each.device, each.state]),
    [
      [first.point, device, "valid"],
      [second.point, other.device, "valid"],
    ],
  );
  t.regex(await remote.sluice("receive status"), new RegExp(`exported +${first.point} of .*: ${device}`));
  t.regex(await sh("bin/sluice list"), /shows a received point/);

  const refused = /not permitted|Read-only|Permission denied/;
  t.regex((await tried(`dd if=/dev/zero of=${device} bs=4k count=1 conv=fsync`)).output, refused);
  t.is(await sh(`blockdev --getro ${device}`), "1\n");
  t.is(await sh(`blockdev --getss ${device}`), "512\n");
  t.is(await hash(device), first.wanted);

  // While it is in use it is not taken back.
  await sh(`sleep 1000 <${device} >/dev/null 2>&1 & echo $! >/dev/shm/user`);
  const busy = await t.throwsAsync(remote.sluice(`receive unexport ${VOLUME}@${first.point}`));
  t.regex(busy.message, /in use: open in process .*sleep/);
  await remote.sluice(`receive unexport ${VOLUME}@${first.point} --force`);
  await sh("kill $(cat /dev/shm/user)");
  await until(async () => (await tried(`test -b ${device}`)).code !== 0);
  await remote.sluice(`receive unexport ${VOLUME}@${second.point}`);
  const gone = await t.throwsAsync(remote.sluice(`receive unexport ${VOLUME}@${second.point}`));
  t.regex(gone.message, /is not exported/);
  t.deepEqual((await remote.status()).exports, []);

  // Devices are gone with the receiver, and nothing is left of them when the next one has started.
  const third = await pointOf();
  const last = await shown(VOLUME);
  await remote.end("SIGKILL");
  await until(async () => (await tried(`test -b ${last.device}`)).code !== 0);
  await remote.start();
  t.is(await sh("bin/sluice orphans"), "no orphans\n");
  t.is(await hash((await shown(`${VOLUME}@${third.point}`)).device), third.wanted);
  await daemon.end("SIGTERM");

  // Written there, the volume has them among its snapshots.
  const store = Remote.path(`${VOLUME}.store`);
  const paths = `path = "${Remote.path(`${VOLUME}.path`)}"\n[snapshots]\nstore = "${store}"`;
  await writeFile(Remote.path(`etc/${VOLUME}.toml`), `${paths}\n`);
  await remote.sluice(`mirror promote ${VOLUME}`);
  t.is(await sh("bin/sluice orphans"), "no orphans\n");
  const list = async (): Promise<readonly SnapshotRow[]> =>
    (JSON.parse(await remote.sluice(`snapshot list ${VOLUME} --json`)) as SnapshotList).snapshots;
  const name = `@${third.point}`;
  const rows = await list();
  t.true(rows.length > 1 && rows.every(({ kind, name: each }) => kind === "mirror" && each.startsWith("@")));
  const row = JSON.parse(await remote.sluice(`snapshot export ${VOLUME} ${name} --json`)) as SnapshotRow;
  await remote.sluice(`snapshot create ${VOLUME} ${third.point}`);
  t.is(await hash(row.device ?? ""), third.wanted);
  await remote.sluice(`snapshot unexport ${VOLUME} ${name}`);
  for (const each of rows) await remote.sluice(`snapshot delete ${VOLUME} ${each.name}`);
  t.deepEqual(
    (await list()).map((each) => each.name),
    [String(third.point)],
  );
  await remote.sluice(`down ${VOLUME}`);
  await remote.end("SIGTERM");
});
