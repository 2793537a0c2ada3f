// vm: --disk 256M --disk 64M
// vm-kernel: 7.2
/** Copies of a running volume: they are of the moment they began, whatever is written, fails, stands still or dies. */
import test from "ava";
import type { CopyRemainder, CopyRow } from "../../src/control/copy-status.ts";
import type { SnapshotList } from "../../src/control/snapshot-status.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, tried, VerifiedLoad } from "./support.ts";

const SIZE = 48 * MIB;
const sluice = async <T>(words: string): Promise<T> => JSON.parse(await sh(`bin/sluice ${words} --json`)) as T;
const hash = async (path: string): Promise<string> =>
  (await sh(`head -c ${SIZE} ${path} | sha256sum`)).split(" ")[0] ?? "";
/** Waits for an event, however long it takes. */
const until = async (happens: () => Promise<boolean>): Promise<void> => {
  while (!(await happens()));
};
const job = async (volume: string, name = "copy-1"): Promise<CopyRow> => {
  const found = (await sluice<CopyRow[]>(`copy list ${volume}`)).find((row) => row.name === name);
  if (found === undefined) throw new Error(`there is no copy job ${name}`);
  return found;
};

/** So slow that no job ends by itself, however long commands take. */
const SLOWLY = "--segment 64KiB --limit 16KiB";
/** Waits until something that a slow job has copied is durable, which a pause makes it; the job goes on. */
async function copyPartly(volume: string): Promise<void> {
  await sh(`bin/sluice copy pause ${volume} copy-1`);
  await until(async () => (await job(volume)).copiedBytes > 0);
  await sh(`bin/sluice copy resume ${volume} copy-1`);
}

/** A device over the second disk, whose table can be changed under it. */
async function mapped(table: string): Promise<string> {
  await sh("modprobe dm_mod");
  await sh(`dmsetup create fickle --table '${table}'`);
  await sh("dmsetup mknodes fickle");
  return "/dev/mapper/fickle";
}
const WHOLE = `0 ${SIZE / 512} linear /dev/vdb 0`;
const BROKEN = `0 ${SIZE / 512} error`;

async function volume(name: string): Promise<{ daemon: Daemon; path: string }> {
  const path = await image(name, SIZE);
  await configure(name, `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  await sh("wipefs --all /dev/vda; dd if=/dev/zero of=/dev/vda bs=1M count=1 oflag=direct");
  await sh(`bin/sluice snapshot init ${name} --block 4KiB`);
  const daemon = new Daemon(name);
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M oflag=direct`).catch(() => undefined);
  return { daemon, path };
}

test.serial("a copy is of the moment it began, under load, over SIGKILL of the daemon and a clean stop", async (t) => {
  const { daemon, path } = await volume("copied");
  const before = await hash(path);
  const file = "/var/tmp/copied.img";
  const begun = await sluice<CopyRow>(`copy start copied ${file} /dev/vdb ${SLOWLY} --order hot-first`);
  t.like(begun, { name: "copy-1", state: "running", destinations: [file, "/dev/vdb"], volumeBytes: SIZE });
  const load = new VerifiedLoad(daemon.path);
  await copyPartly("copied");
  await daemon.end("SIGKILL");
  await daemon.start();
  t.regex(daemon.output, /Copy job copy-1 goes on/);
  const resumed = await job("copied");
  t.true(resumed.copiedBytes > 0 && resumed.copiedBytes < SIZE, "it neither began anew nor is it done");
  await sh("bin/sluice copy pause copied copy-1");
  await until(async () => (await job("copied")).copiedBytes > resumed.copiedBytes);
  t.true((await load.stop()) > 0);
  t.not(await hash(path), before);
  await daemon.end("SIGTERM");
  await daemon.start();
  await sh("bin/sluice copy prioritize copied copy-1 40MiB+1MiB");
  t.is((await job("copied")).state, "paused");
  await sh("bin/sluice copy limit copied copy-1 none && bin/sluice copy resume copied copy-1");
  const { stdout, stderr } = await watch("copied");
  t.regex(stdout, /complete/);
  t.regex(stderr, /100 %, complete/);
  t.is(await hash(file), before);
  t.is(await hash("/dev/vdb"), before);
  t.deepEqual((await sluice<CopyRemainder>("copy show copied copy-1")).ranges, []);
  // Nothing is kept for it any more.
  await until(async () => (await sluice<SnapshotList>("snapshot list copied")).store.usedBytes === 0);
  await daemon.end("SIGTERM");
});

async function watch(name: string): Promise<{ stdout: string; stderr: string }> {
  const stdout = await sh(`bin/sluice copy watch ${name} copy-1 2>/tmp/progress`);
  return { stdout, stderr: await sh("cat /tmp/progress") };
}

test.serial("a destination that stands still, or fails, keeps nobody waiting", async (t) => {
  const { daemon, path } = await volume("patient");
  const before = await hash(path);
  const device = await mapped(WHOLE);
  await sh(`bin/sluice copy start patient ${device} ${SLOWLY}`);
  await copyPartly("patient");
  await sh("dmsetup suspend --nolockfs --noflush fickle");
  // All of the volume is written, flushed and read meanwhile, and the daemon answers.
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=64k oflag=direct conv=fsync`).catch(() => undefined);
  t.not(await hash(path), before);
  t.true((await job("patient")).copiedBytes < SIZE);
  // It wakes up to a device that fails, which is seen when something is made durable there.
  await sh(`dmsetup load fickle --table '${BROKEN}' && dmsetup resume fickle`);
  await sh("bin/sluice copy limit patient copy-1 none");
  await until(async () => (await job("patient")).state === "failed");
  t.regex(String((await job("patient")).error), /\/dev\/mapper\/fickle/);
  t.regex((await tried("bin/sluice copy watch patient copy-1")).output, /has failed/);
  await sh(
    `dmsetup suspend --nolockfs --noflush fickle; dmsetup load fickle --table '${WHOLE}' && dmsetup resume fickle`,
  );
  await sh("bin/sluice copy resume patient copy-1");
  t.regex((await watch("patient")).stdout, /complete/);
  t.is(await hash(device), before);
  await daemon.end("SIGTERM");
  await sh("dmsetup remove --retry fickle");
});

test.serial("staged jobs begin as one; what cannot be is refused, and changes nothing", async (t) => {
  const { daemon, path } = await volume("staged");
  const said = async (words: string): Promise<string> => (await tried(`bin/sluice copy ${words}`)).output;
  await sh(
    "modprobe loop; touch /var/tmp/there.img && truncate -s 1M /var/tmp/small && losetup -f --show /var/tmp/small > /tmp/small",
  );
  t.regex(await said("start staged /var/tmp/there.img"), /exists already/);
  t.regex(await said("start staged $(cat /tmp/small)"), /less than the/);
  t.regex(await said(`start staged ${daemon.path}`), /is the volume itself/);
  t.regex(await said(`start staged ${path} --force`), /in use/);
  t.regex(await said("start staged /var/tmp/a.img --segment 5KiB"), /power of two/);
  t.regex(await said("release staged"), /no staged copy job/);
  await sh("bin/sluice copy start staged /var/tmp/a.img --stage --as one");
  await sh("bin/sluice copy start staged /var/tmp/there.img --force --stage --as two");
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=8 oflag=direct`);
  const before = await hash(path);
  await sh("rm /var/tmp/there.img");
  const read = async (): Promise<number> => Number((await sh("cat /sys/block/vda/stat")).trim().split(/ +/)[2]);
  const readBefore = await read();
  t.like(await sluice<CopyRow>("copy release staged"), {
    name: "one",
    destinations: ["/var/tmp/a.img", "/var/tmp/there.img"],
  });
  await sh("bin/sluice copy watch staged one");
  t.is(await read(), readBefore, "nothing was overwritten, so nothing came from the store");
  t.is(await hash("/var/tmp/a.img"), before);
  t.is(await hash("/var/tmp/there.img"), before);
  await sh("bin/sluice copy cancel staged one");
  // Through a pipe, and into a file that goes on after the daemon's death.
  await sh(
    "bin/sluice copy start staged /dev/stdout --stream --record 64KiB | bin/sluice copy restore /dev/stdin /var/tmp/c.img",
  );
  t.is(await hash("/var/tmp/c.img"), before);
  t.deepEqual(await sluice<CopyRow[]>("copy list staged"), []);
  await sh("bin/sluice copy start staged /var/tmp/d.stream --stream --record 64KiB --limit 16KiB");
  await copyPartly("staged");
  await daemon.end("SIGKILL");
  await daemon.start();
  await sh("bin/sluice copy limit staged copy-1 none && bin/sluice copy watch staged copy-1");
  await sh("bin/sluice copy restore /var/tmp/d.stream /var/tmp/d.img");
  t.is(await hash("/var/tmp/d.img"), before);
  await sh("bin/sluice copy cancel staged copy-1");
  await sh("bin/sluice copy start staged /var/tmp/b.img --limit 16KiB && bin/sluice copy pause staged copy-1");
  t.is((await job("staged")).state, "paused");
  await sh("bin/sluice copy cancel staged copy-1");
  t.deepEqual(await sluice<CopyRow[]>("copy list staged"), []);
  await sh("losetup -d $(cat /tmp/small)");
  await daemon.end("SIGTERM");
});
