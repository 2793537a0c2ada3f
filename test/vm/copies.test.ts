// vm: --disk 256M --disk 64M
// vm-kernel: 7.2
/** Copies of a running volume: they are of the moment they began, whatever is written, fails, stands still or dies. */
import test from "ava";
import { askCopies, askCopy, askCopyCancel, askCopyStart, askSnapshots, askStatus } from "../../src/control/client.ts";
import type { CopyRemainder, CopyRow } from "../../src/control/copy-status.ts";
import type { NewCopy } from "../../src/control/new-copy.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, sluice, tried, until, VerifiedLoad } from "./support.ts";

const SIZE = 48 * MIB;
const hash = async (path: string): Promise<string> =>
  (await sh(`head -c ${SIZE} ${path} | sha256sum`)).split(" ")[0] ?? "";
const job = async (volume: string, name = "copy-1"): Promise<CopyRow> => {
  const found = (await askCopies(volume)).find((row) => row.name === name);
  if (found === undefined) throw new Error(`there is no copy job ${name}`);
  return found;
};

/** As `sluice copy start` asks for it, unless told otherwise. */
const copyTo = (destinations: readonly string[], changes: Partial<NewCopy> = {}): NewCopy => ({
  ...{ name: undefined, destinations, segmentBytes: MIB, order: "linear", bytesPerSecond: null },
  ...{ recordBytes: null, force: false, staged: false },
  ...changes,
});

/** So slow that no job ends by itself, however long commands take. */
const SLOWLY = "--segment 64KiB --limit 16KiB";
const SLOW = { segmentBytes: 65_536, bytesPerSecond: 16_384 };
/** Leaves a slow job paused when more than so many bytes are copied, and durable, which a pause makes them. */
async function pauseBeyond(volume: string, copiedBytes: number): Promise<void> {
  await until(async () => {
    await askCopy(volume, "pause", { name: "copy-1" });
    if ((await job(volume)).copiedBytes > copiedBytes) return true;
    // Paused before it has begun with anything more, it would stand still for good.
    await askCopy(volume, "resume", { name: "copy-1" });
    return false;
  });
}
async function copyPartly(volume: string): Promise<void> {
  await pauseBeyond(volume, 0);
  await askCopy(volume, "resume", { name: "copy-1" });
}
/** Waits until a job is complete. Throws where it has failed. */
async function complete(volume: string, name = "copy-1"): Promise<void> {
  await until(async () => {
    const { state, error } = await job(volume, name);
    if (state === "failed") throw new Error(`copy job ${name} has failed: ${String(error)}`);
    return state === "complete";
  });
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
  await until(async () => (await askSnapshots("copied")).store.counts.moved > 1000);
  await copyPartly("copied");
  await daemon.end("SIGKILL");
  await daemon.start();
  t.regex(daemon.output, /Copy job copy-1 goes on/);
  const resumed = await job("copied");
  t.true(resumed.copiedBytes > 0 && resumed.copiedBytes < SIZE, "it neither began anew nor is it done");
  await until(async () => (await askStatus("copied")).statistics.write.count > 100);
  await pauseBeyond("copied", resumed.copiedBytes);
  t.true((await load.stop()) > 0);
  t.not(await hash(path), before);
  await daemon.end("SIGTERM");
  await daemon.start();
  await sh("bin/sluice copy prioritize copied copy-1 40MiB+1MiB");
  t.is((await job("copied")).state, "paused");
  await sh("bin/sluice copy limit copied copy-1 none && bin/sluice copy resume copied copy-1");
  t.regex(await sh("bin/sluice copy watch copied copy-1 2>/tmp/progress"), /complete/);
  t.regex(await sh("cat /tmp/progress"), /100 %, complete/);
  t.is(await hash(file), before);
  t.is(await hash("/dev/vdb"), before);
  t.deepEqual((await sluice<CopyRemainder>("copy show copied copy-1")).ranges, []);
  // Nothing is kept for it any more.
  await until(async () => (await askSnapshots("copied")).store.usedBytes === 0);
  await daemon.end("SIGTERM");
});

test.serial("a destination that stands still, or fails, keeps nobody waiting", async (t) => {
  const { daemon, path } = await volume("patient");
  const before = await hash(path);
  const device = await mapped(WHOLE);
  await askCopyStart("patient", copyTo([device], SLOW));
  await copyPartly("patient");
  await sh("dmsetup suspend --nolockfs --noflush fickle");
  // All of the volume is written, flushed and read meanwhile, and the daemon answers.
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=64k oflag=direct conv=fsync`).catch(() => undefined);
  t.not(await hash(path), before);
  t.true((await job("patient")).copiedBytes < SIZE);
  // It wakes up to a device that fails, which is seen when something is made durable there.
  await sh(`dmsetup load fickle --table '${BROKEN}' && dmsetup resume fickle`);
  await askCopy("patient", "limit", { name: "copy-1", bytesPerSecond: null });
  await until(async () => (await job("patient")).state === "failed");
  t.regex(String((await job("patient")).error), /\/dev\/mapper\/fickle/);
  t.regex((await tried("bin/sluice copy watch patient copy-1")).output, /has failed/);
  await sh(
    `dmsetup suspend --nolockfs --noflush fickle; dmsetup load fickle --table '${WHOLE}' && dmsetup resume fickle`,
  );
  await askCopy("patient", "resume", { name: "copy-1" });
  await complete("patient");
  t.is(await hash(device), before);
  await daemon.end("SIGTERM");
  await sh("dmsetup remove --retry fickle");
});

test.serial("staged jobs begin as one; what cannot be is refused, and changes nothing", async (t) => {
  const { daemon, path } = await volume("staged");
  const start = (destination: string, changes: Partial<NewCopy> = {}): Promise<CopyRow> =>
    askCopyStart("staged", copyTo([destination], changes));
  const small = await sh(
    "modprobe loop; touch /var/tmp/there.img && truncate -s 1M /var/tmp/small && losetup -f --show /var/tmp/small",
  );
  t.regex((await tried("bin/sluice copy start staged /var/tmp/there.img")).output, /exists already/);
  await t.throwsAsync(start(small.trim()), { message: /less than the/ });
  await t.throwsAsync(start(daemon.path), { message: /is the volume itself/ });
  await t.throwsAsync(start(path, { force: true }), { message: /in use/ });
  await t.throwsAsync(start("/var/tmp/a.img", { segmentBytes: 5 * 1024 }), { message: /power of two/ });
  await t.throwsAsync(askCopy("staged", "release", {}), { message: /no staged copy job/ });
  await start("/var/tmp/a.img", { name: "one", staged: true });
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
  await complete("staged", "one");
  t.is(await read(), readBefore, "nothing was overwritten, so nothing came from the store");
  t.is(await hash("/var/tmp/a.img"), before);
  t.is(await hash("/var/tmp/there.img"), before);
  await askCopyCancel("staged", "one");
  // Through a pipe, and into a file that goes on after the daemon's death.
  await sh(
    "bin/sluice copy start staged /dev/stdout --stream --record 64KiB | bin/sluice copy restore /dev/stdin /var/tmp/c.img",
  );
  t.is(await hash("/var/tmp/c.img"), before);
  t.deepEqual(await askCopies("staged"), []);
  await start("/var/tmp/d.stream", { recordBytes: 65_536, bytesPerSecond: 16_384 });
  await copyPartly("staged");
  await daemon.end("SIGKILL");
  await daemon.start();
  await askCopy("staged", "limit", { name: "copy-1", bytesPerSecond: null });
  await complete("staged");
  await sh("bin/sluice copy restore /var/tmp/d.stream /var/tmp/d.img");
  t.is(await hash("/var/tmp/d.img"), before);
  await askCopyCancel("staged", "copy-1");
  await sh("bin/sluice copy start staged /var/tmp/b.img --limit 16KiB && bin/sluice copy pause staged copy-1");
  t.is((await job("staged")).state, "paused");
  await sh("bin/sluice copy cancel staged copy-1");
  t.deepEqual(await sluice<CopyRow[]>("copy list staged"), []);
  await sh(`losetup -d ${small}`);
  await daemon.end("SIGTERM");
});
