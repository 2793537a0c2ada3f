// vm: --disk 6G --disk 6G
// vm-kernel: 7.2
/**
 * How much memory it takes to be far behind: 64 MiB at most on either side, beyond what that side holds in step with a small volume.
 * The kernel sees to it: whoever wants to hold more is killed.
 *
 * All of 4 GiB is compared by both sides, with some 35 MiB a second in an emulated guest. What grows with a volume are some bytes
 * for each of its chunks, which are counted: 10 GiB are about one MiB more.
 */
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { askMirror, askMirrorPoint, askStatus } from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { MemoryGroup } from "./memory-group.ts";
import { Remote, REMOTE } from "./remote.ts";
import { MIB, sh, VerifiedLoad } from "./support.ts";

const SIZE_MIB = 4 * 1024;
const SMALL_MIB = 16;
const GROWTH = 64 * MIB;
/** An answer takes a good part of a tenth of a second in an emulated guest: asked seldom, what is measured goes on beside it. */
const POLL_MS = 2000;
const HERE = "/mnt/here";
/** Where the volume has data, and where the image has others, in MiB: at one place both. */
const DATA = [0, 1000, 2000, SIZE_MIB - 32];
const STALE = [500, 2008, 3777];

const SIDES = ["source", "receiver"] as const;
type Held = Record<(typeof SIDES)[number], number>;

/** A volume that is mirrored, with either side in a group of its own. */
async function mirrored(
  name: string,
  sizeMib: number,
): Promise<{ daemon: Daemon; remote: Remote; groups: Record<(typeof SIDES)[number], MemoryGroup>; paths: string[] }> {
  const paths = [`${HERE}/${name}`, Remote.path(`${name}.path`)];
  await sh(`truncate -s ${sizeMib}M ${paths.join(" ")}`);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nsilence = 60`;
  await configure(name, `path = "${HERE}/${name}"\n[record]\nnvram = "${HERE}/${name}.nvram"\n${mirror}`);
  await sh(`bin/sluice nvram create ${name} --in-sync`);
  const groups = {
    source: await MemoryGroup.make(`${name}-source`),
    receiver: await MemoryGroup.make(`${name}-receiver`),
  };
  const remote = await Remote.make(name, "clear", { store: "512MiB", log: "192MiB" });
  return { daemon: new Daemon(name, groups.source), remote, groups, paths };
}

async function heldIdle(): Promise<Held> {
  const { daemon, remote, groups } = await mirrored("small", SMALL_MIB);
  await remote.start(groups.receiver);
  await daemon.start();
  while ((await askMirror("small")).state !== "in step") await sleep(POLL_MS);
  await askMirrorPoint("small");
  const held = { source: await groups.source.held(), receiver: await groups.receiver.held() };
  await daemon.end("SIGTERM");
  await remote.end("SIGTERM");
  return held;
}

test("a source and a receiver that are gigabytes apart hold 64 MiB more than in step, and lose nothing", async (t) => {
  await Remote.connect();
  for (const [disk, folder] of Object.entries({ "/dev/vda": HERE, "/dev/vdb": Remote.path("") })) {
    await sh(`mkfs.ext4 -q -N 1024 ${disk} && mkdir -p ${folder} && mount ${disk} ${folder}`);
  }
  const idle = await heldIdle();

  const { daemon, remote, groups, paths } = await mirrored("large", SIZE_MIB);
  for (const side of SIDES) await groups[side].bound(idle[side] + GROWTH);
  const write = (path: string, at: number, mib: number, flag: string): Promise<string> =>
    sh(`dd if=/dev/urandom of=${path} bs=1M count=${mib} seek=${at} ${flag} status=none`);
  for (const at of STALE) await write(paths[1] ?? "", at, 8, "conv=notrunc");
  await daemon.start();
  await sh(`blkdiscard -z ${daemon.path}`);
  for (const at of DATA) await write(daemon.path, at, 32, "oflag=direct");
  const { record } = await askStatus("large");
  t.is(record?.owedBytes, SIZE_MIB * MIB, "all of it is behind");

  // Copying gives way to the host: a few requests a second leave it time.
  const load = new VerifiedLoad(daemon.path, ["--offset=3G", "--size=64M", "--iodepth=1", "--rate_iops=1"]);
  await remote.start(groups.receiver);
  const most = { ...idle };
  do {
    await sleep(POLL_MS);
    for (const side of SIDES) {
      if ((await groups[side].killed()) > 0) throw new Error(`the ${side} wanted more than ${idle[side] + GROWTH}`);
      most[side] = Math.max(most[side], await groups[side].held());
    }
  } while ((await askMirror("large")).state !== "in step");
  t.true((await load.stop()) > 0);
  t.true((await askMirrorPoint("large")).isClosed);
  await daemon.end("SIGTERM");
  await remote.end("SIGTERM");
  await sh(`cmp ${paths.join(" ")}`);
  for (const side of SIDES) {
    t.log(`${side}: ${Math.round(idle[side] / MIB)} MiB in step, ${Math.round(most[side] / MIB)} MiB at most`);
  }
});
