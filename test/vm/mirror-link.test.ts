// vm-kernel: 7.2
/** A mirror over a link that is slow, loses and doubles packets and brings them out of order, and is cut with nobody being told. */
import { basename } from "node:path";
import test from "ava";
import { askMirror, askMirrorChange, askMirrorPoint } from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { Remote, REMOTE } from "./remote.ts";
import { image, MIB, sh, until, VerifiedLoad } from "./support.ts";

const VOLUME = "far";
const SIZE = 8 * MIB;
/** Each way; `delay` is that of either. */
const FAULTS = "delay 10ms 5ms loss 2% duplicate 1% reorder 20%";
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";
const isInStep = async (): Promise<boolean> => (await askMirror(VOLUME)).state === "in step";

/** Writes that the device has answered. */
async function writesOf(device: string): Promise<number> {
  const [, , , , writes] = (await sh(`cat /sys/class/block/${basename(device)}/stat`)).trim().split(/\s+/);
  return Number(writes);
}

/** What the link does to packets, on both ends. */
async function link(what: string): Promise<void> {
  await sh(`tc qdisc replace dev here root netem ${what}`);
  await sh(`ip netns exec remote tc qdisc replace dev there root netem ${what}`);
}

test.before("the network", async () => {
  await sh("modprobe sch_netem");
  await Remote.connect();
});

test("what is answered in the mode sync is at the remote, whatever the link does, and the host goes on when it is gone", async (t) => {
  const path = await image(VOLUME, SIZE);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 5\ninterval = 0.2\nmode = "sync"\ncompression = "zstd"`;
  await configure(VOLUME, `path = "${path}"\n[record]\nnvram = "/dev/shm/far.nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`bin/sluice nvram create ${VOLUME}`);
  const remote = await Remote.make(VOLUME, "clear", { size: "8MiB", store: "64MiB", log: "64MiB" });
  await link(FAULTS);
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=8 oflag=direct status=none`);
  await remote.start();
  await until(isInStep);

  const load = new VerifiedLoad(daemon.path, ["--iodepth=8"]);
  const { closed } = (await askMirror(VOLUME)).points;
  await until(async () => (await askMirror(VOLUME)).points.closed > closed + 5);
  t.true(await isInStep(), "losses are made good below");

  await link("loss 100%");
  await until(async () => (await askMirror(VOLUME)).state === "connecting");
  const before = await writesOf(daemon.path);
  await until(async () => (await writesOf(daemon.path)) > before + 100);
  t.false(load.hasEnded, "the host goes on alone");
  await link(FAULTS);
  await until(isInStep);
  t.true((await load.stop()) > 0);

  /** All of it is counted when a point has come to its end. */
  const sent = async (): Promise<number[]> => {
    t.true((await askMirrorPoint(VOLUME)).isClosed);
    const { sentBytes, wireBytes } = await askMirror(VOLUME);
    return [sentBytes.transfers, wireBytes];
  };
  const [bytes = 0, wire = 0] = await sent();
  await sh(`yes "the same again" | dd of=${daemon.path} bs=64k count=64 iflag=fullblock oflag=direct status=none`);
  const [moreBytes = 0, moreWire = 0] = await sent();
  t.true(moreBytes - bytes >= 4 * MIB && moreWire - wire < MIB, "what can be packed is");

  await askMirrorChange(VOLUME, "mode", { mode: "async" });
  const { point, isClosed } = await askMirrorPoint(VOLUME);
  t.true(isClosed);
  const wanted = await hash(daemon.path);
  await until(
    async () => (await remote.status()).lastPoint !== point || (await hash(Remote.path("far.path"))) === wanted,
  );
  t.is(await hash(Remote.path("far.path")), wanted);
  await daemon.end("SIGTERM");
  await remote.end("SIGTERM");
});
