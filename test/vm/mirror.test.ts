// vm-kernel: 7.2
/** A volume that is mirrored to another host: copied, followed, and caught up with, whoever dies, and with the link cut. */
import { open } from "node:fs/promises";
import test from "ava";
import { askMirror, askMirrorChange, askMirrorPoint, askMirrorVerification } from "../../src/control/client.ts";
import { cutGroup, type MirrorGroupRow } from "../../src/control/mirror-group.ts";
import type { MirrorStatus } from "../../src/control/mirror-status.ts";
import type { VerificationStatus } from "../../src/replication/verification.ts";
import { configure, Daemon } from "./daemon.ts";
import { Counter, inTime, numberIn } from "./one-instant.ts";
import { Remote, REMOTE } from "./remote.ts";
import { image, MIB, sh, sluice, tried, until, VerifiedLoad } from "./support.ts";

const VOLUME = "data";
const SIZE = 16 * MIB;
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";
const is =
  (state: MirrorStatus["state"], name = VOLUME) =>
  async (): Promise<boolean> =>
    (await askMirror(name)).state === state;

/** Turns a bit over at a place of a file. */
async function turnBit(path: string, at: number): Promise<void> {
  await using file = await open(path, "r+");
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, at);
  await file.write(
    byte.map((bits) => bits ^ 4),
    0,
    1,
    at,
  );
  await file.sync();
}

/** All of the volume, compared with what the remote has. */
async function verified(): Promise<VerificationStatus> {
  let last: VerificationStatus | undefined;
  for await (const status of askMirrorVerification(VOLUME, false)) last = status;
  if (last?.state !== "done") throw new Error(`verifying ended: ${JSON.stringify(last)}`);
  return last;
}

test.before("the network", () => Remote.connect());

/** A load may be faster than the link: with the policy to stop it waits for it, so that there is an end. */
test.serial("the remote becomes the volume, and stays it", async (t) => {
  const path = await image(VOLUME, SIZE);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 30\ninterval = 0.2\nwhen_down = "stop"`;
  await configure(VOLUME, `path = "${path}"\n[record]\nnvram = "/dev/shm/nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`bin/sluice nvram create ${VOLUME}`);
  const remote = await Remote.make(VOLUME, "clear", { size: "16MiB", store: "64MiB", log: "64MiB" });
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  /** Nothing is written: a point shows all that there is, and the remote is brought to it. */
  const isEqual = async (what: string): Promise<void> => {
    await until(is("in step"));
    const { point, isClosed } = await askMirrorPoint(VOLUME);
    t.true(isClosed, what);
    const wanted = await hash(daemon.path);
    // The image is brought to a point when it is committed.
    await until(
      async () => (await remote.status()).lastPoint !== point || (await hash(Remote.path("data.path"))) === wanted,
    );
    t.is(await hash(Remote.path("data.path")), wanted, what);
  };

  await askMirrorChange(VOLUME, "mode", { policy: "continue" });
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=12 oflag=direct status=none`);
  t.is((await askMirror(VOLUME)).state, "connecting");
  await askMirrorChange(VOLUME, "mode", { policy: "stop" });
  await remote.start();
  let load = new VerifiedLoad(daemon.path);
  await until(is("in step"));
  t.true((await load.stop()) > 0);
  await isEqual("a first copy under load");
  t.true((await askMirror(VOLUME)).points.open > 0);

  load = new VerifiedLoad(daemon.path);
  await until(is("in step"));
  await daemon.end("SIGKILL");
  await daemon.start();
  t.true((await load.stop()) > 0);
  await isEqual("the source is killed");

  load = new VerifiedLoad(daemon.path);
  for (let kill = 0; kill < 2; kill++) {
    await until(is("in step"));
    await remote.end("SIGKILL");
    await until(is("connecting"));
    await remote.start();
  }
  t.true((await load.stop()) > 0);
  await isEqual("the receiver is killed");

  const turned = 12 * MIB + 4096 + 123;
  load = new VerifiedLoad(daemon.path, ["--size=8M"]);
  await turnBit(Remote.path("data.path"), turned);
  const found = await verified();
  t.deepEqual(found.places, [{ offset: 12 * MIB + 4096, length: 4096 }], "one bit, under load");
  t.is(found.differentBytes, 4096);
  const repaired = await sluice<VerificationStatus>(`mirror verify ${VOLUME} --repair`);
  t.is(repaired.differentBytes, 4096);
  t.is((await verified()).differentBytes, 0);
  t.true((await load.stop()) > 0);
  await isEqual("what differed is copied again");

  await askMirrorChange(VOLUME, "mode", { policy: "continue" });
  await askMirrorChange(VOLUME, "pause");
  await until(is("paused"));
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=12 oflag=direct status=none`);
  const { overflows, toCopyBytes } = await askMirror(VOLUME);
  t.true(overflows > 0, "more than the log has room for");
  t.true(toCopyBytes >= 8 * MIB);
  await askMirrorChange(VOLUME, "resume");
  await isEqual("caught up after a pause");

  await sh(`dd if=/dev/urandom of=${daemon.path} bs=64k count=3 seek=7 oflag=direct status=none`);
  await daemon.end("SIGTERM");
  const wanted = await hash(path);
  await until(async () => (await hash(Remote.path("data.path"))) === wanted);
  await remote.end("SIGTERM");
});

test.serial("over TLS, hosts that know each other's keys, and no others", async (t) => {
  const name = "secret";
  const path = await image(name, 4 * MIB);
  const mirror = `[mirror]\nto = "${REMOTE}"\nreceiver = "backup"\nlog = "4MiB"\nsilence = 30`;
  await configure(name, `path = "${path}"\n[record]\nnvram = "/dev/shm/secret.nvram"\n${mirror}`);
  await sh(`bin/sluice nvram create ${name}`);
  const remote = await Remote.make(name, "tls", { size: "4MiB", store: "64MiB", log: "64MiB" });
  const there = (JSON.parse(await remote.sluice("identity show --json")) as { fingerprint: string }).fingerprint;
  const { fingerprint: here } = await sluice<{ fingerprint: string }>("identity show");
  t.not(here, there);
  await remote.start();
  const daemon = new Daemon(name);
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=4 oflag=direct status=none`);
  const refusal = async (words: RegExp): Promise<void> => {
    await until(async () => words.test((await askMirror(name)).fault?.text ?? ""));
  };
  await refusal(/identity trust backup SHA256:/);
  await sh(`bin/sluice identity trust backup ${there}`);
  await refusal(/does not know this host/);
  await remote.sluice(`identity trust source ${here}`);
  await until(is("in step", name));
  const { isClosed } = await askMirrorPoint(name);
  t.true(isClosed);
  await until(async () => (await hash(Remote.path(`${name}.path`))) === (await hash(daemon.path)));
  t.regex((await remote.status()).source ?? "", /^source \(/);
  await daemon.end("SIGTERM");
  await remote.end("SIGTERM");
});

test.serial(
  "points of two volumes at one instant: the later write is never there without the earlier one",
  async (t) => {
    const names = ["one", "other"] as const;
    const daemons = { one: new Daemon("one"), other: new Daemon("other") };
    const remote = await Remote.make(names, "clear", { size: "4MiB", store: "64MiB", log: "64MiB" });
    await remote.start();
    for (const name of names) {
      const path = await image(name, 4 * MIB);
      // The receivers get the points that are asked for here, and no others.
      const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 30\ninterval = 3600\ncopy_limit = "1MiB"`;
      await configure(name, `path = "${path}"\n[record]\nnvram = "/dev/shm/${name}.nvram"\n${mirror}`);
      await sh(`bin/sluice nvram create ${name}`);
      await daemons[name].start();
      await sluice(`mirror limit ${name} none`);
      t.is((await askMirror(name)).copyBytesPerSecond, null);
    }
    let counter = new Counter(daemons.one.path, daemons.other.path);
    t.teardown(() => counter.stop());
    for (const name of names) {
      await until(async () => {
        if (await is("connecting", name)()) return false;
        return (await askMirrorPoint(name)).isClosed;
      });
    }
    let before = 0;
    let rows: readonly MirrorGroupRow[] = [];
    for (let turn = 0; turn < 3; turn++) {
      await counter.goesOn();
      const since = counter.last;
      rows = await inTime<MirrorGroupRow>(() => cutGroup(names));
      t.deepEqual(
        rows.map(({ volume, isClosed }) => [volume, isClosed]),
        names.map((name) => [name, true]),
      );
      // Much more would be a point of its own. An image is brought to its point when that is committed.
      await counter.stop();
      await until(async () => (await numberIn(Remote.path("one.path"))) >= since);
      await until(async () => (await numberIn(Remote.path("other.path"))) >= since);
      const [one, other] = [await numberIn(Remote.path("one.path")), await numberIn(Remote.path("other.path"))];
      t.true(other <= one && one <= other + 1, `the receivers have ${one} and ${other}`);
      t.true(one > before && one <= counter.last + 1, `${one} of ${counter.last}, after ${before}`);
      before = one;
      if (turn < 2) counter = new Counter(daemons.one.path, daemons.other.path, counter.last);
    }

    const moment = new Date(rows[0]?.createdMs ?? 0).toISOString();
    t.deepEqual(
      (await remote.statuses()).map(({ lastClosed }) => [lastClosed?.point, lastClosed?.created]),
      rows.map(({ point }) => [point, moment]),
      "the instant has one name there",
    );

    counter = new Counter(daemons.one.path, daemons.other.path, counter.last);
    await counter.goesOn();
    await askMirrorChange("other", "pause");
    const { output } = await tried("bin/sluice mirror cp one,other");
    t.regex(output, /No consistency point at one instant: Volume other: .*(paused|no connection)/);
    await counter.goesOn();
    await counter.stop();
    for (const name of names) await daemons[name].end("SIGTERM");
    await remote.end("SIGTERM");
  },
);
