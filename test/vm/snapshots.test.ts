// vm: --disk 256M --disk 64M --disk 64M
// vm-kernel: 7.2
/** Snapshots of a running volume: what they show, and that they go on showing it, whatever dies. */
import { open } from "node:fs/promises";
import test from "ava";
import {
  askSnapshot,
  askSnapshotDelete,
  askSnapshotDiff,
  askSnapshots,
  askSnapshotUnexport,
} from "../../src/control/client.ts";
import type { SnapshotDiff, SnapshotList, SnapshotRow } from "../../src/control/snapshot-status.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, sluice, tried, until, VerifiedLoad } from "./support.ts";

const SIZE = 24 * MIB;
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";
const moved = async (name: string): Promise<number> => (await askSnapshots(name)).store.counts.moved;

test.serial("a snapshot shows what was there, under load, over SIGKILL of the daemon and a clean stop", async (t) => {
  const path = await image("snapped", SIZE);
  await configure("snapped", `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  t.regex((await tried("bin/sluice check snapped")).output, /no whole superblock/);
  t.regex((await tried("bin/sluice snapshot init snapped --size 1GiB")).output, /used whole: leave out the size/);
  await sh("bin/sluice snapshot init snapped --block 4KiB");
  t.regex((await tried("bin/sluice snapshot init snapped")).output, /exists already/);
  const daemon = new Daemon("snapped");
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M oflag=direct`).catch(() => undefined);
  const first = await hash(path);
  t.like(await sluice<SnapshotRow>("snapshot create snapped first"), {
    name: "first",
    state: "valid",
    sizeBytes: SIZE,
  });
  t.regex((await tried("bin/sluice snapshot create snapped first")).output, /has a snapshot "first" already/);
  await t.throwsAsync(askSnapshot("snapped", "create", "a b"), { message: /no name for a snapshot/ });

  const load = new VerifiedLoad(daemon.path);
  await until(async () => (await moved("snapped")) > 1000);
  const { device } = await sluice<SnapshotRow>("snapshot export snapped first");
  t.is(await hash(String(device)), first);
  await daemon.end("SIGKILL");
  await daemon.start();
  t.regex(daemon.output, /recovered/);
  t.false(load.hasEnded);
  // The device that shows the snapshot was there all the time.
  t.is(await hash(String(device)), first);
  await askSnapshot("snapped", "create", "second");
  const second = await askSnapshot("snapped", "export", "second");
  const secondHash = await hash(String(second.device));
  t.not(secondHash, first);
  // Killed once more while originals are being moved, now for a third one.
  const before = await moved("snapped");
  await askSnapshot("snapped", "create", "third");
  await until(async () => (await moved("snapped")) > before);
  await daemon.end("SIGKILL");
  await daemon.start();
  t.true((await load.stop()) > 0);
  t.is(await hash(String(second.device)), secondHash);
  t.is(await hash(String(device)), first);

  // Nothing that is in use goes away.
  const user = await open(String(device));
  await t.throwsAsync(askSnapshotUnexport("snapped", "first", false), { message: /in use: open in process/ });
  t.regex((await tried("bin/sluice down snapped")).output, /in use: open in process/);
  await user.close();
  await t.throwsAsync(askSnapshotDelete("snapped", "first"), { message: /exported as/ });
  t.regex((await tried(`dd if=/dev/zero of=${String(device)} bs=4k count=1`)).output, /not permitted|Read-only/);

  // A clean stop takes the devices away, and keeps the snapshots.
  await daemon.end("SIGTERM");
  await daemon.start();
  t.notRegex(daemon.output, /recovered/);
  const kept = await sluice<SnapshotList>("snapshot list snapped");
  t.deepEqual(
    kept.snapshots.map(({ name, state, device: shown }) => [name, state, shown]),
    [
      ["first", "valid", null],
      ["second", "valid", null],
      ["third", "valid", null],
    ],
  );
  const again = await askSnapshot("snapped", "export", "second");
  t.is(await hash(String(again.device)), secondHash);
  await askSnapshotDelete("snapped", "first");
  t.is(await hash(String(again.device)), secondHash);
  await sh("bin/sluice snapshot unexport snapped second && bin/sluice snapshot delete snapped second");
  await askSnapshotDelete("snapped", "third");
  await until(async () => (await askSnapshots("snapped")).store.usedBytes === 0);
  await daemon.end("SIGTERM");
});

test.serial(
  "an original is moved once, whatever the number of snapshots, and what that costs is counted on the disk",
  async (t) => {
    const path = await image("counted", SIZE);
    await configure("counted", `path = "${path}"\n[snapshots]\nstore = "/dev/vdc"`);
    await sh("bin/sluice snapshot init counted --block 4KiB");
    const daemon = new Daemon("counted");
    await daemon.start();
    for (let number = 1; number <= 4; number++) await askSnapshot("counted", "create", `s${number}`);
    const written = async (): Promise<number> =>
      Number((await sh("cat /sys/block/vdc/stat")).trim().split(/ +/)[6]) * 512;
    const overwrite = `fio --name=w --filename=${daemon.path} --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bs=4k --size=16M`;
    const before = await written();
    await sh(overwrite);
    const { counts } = (await askSnapshots("counted")).store;
    t.is(counts.moved, 4096);
    t.is(counts.readBytes, 16 * MIB);
    const ratio = ((await written()) - before) / (16 * MIB);
    t.true(ratio >= 1 && ratio <= 1.05, `${ratio} bytes written for each that is overwritten`);
    // What has been moved is not moved again.
    await sh(overwrite);
    t.is(await moved("counted"), 4096);

    // What an incremental backup has to copy: what was written after the one, and before the other.
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=4k seek=5000 count=3 oflag=direct status=none`);
    await askSnapshot("counted", "create", "s5");
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=512 seek=${6000 * 8 + 3} count=1 oflag=direct status=none`);
    const diff = async (from: string, to?: string): Promise<unknown> =>
      (await askSnapshotDiff("counted", from, to)).ranges;
    const atS5 = [
      { offset: 0, length: 16 * MIB },
      { offset: 5000 * 4096, length: 3 * 4096 },
    ];
    t.deepEqual((await sluice<SnapshotDiff>("snapshot diff counted s1 s5")).ranges, atS5);
    t.deepEqual(await diff("s1"), [...atS5, { offset: 6000 * 4096, length: 4096 }]);
    t.deepEqual(await diff("s5"), [{ offset: 6000 * 4096, length: 4096 }]);
    t.deepEqual(await diff("s1", "s4"), []);
    await t.throwsAsync(diff("s5", "s1"), { message: /"s1" is older than "s5"/ });
    await daemon.end("SIGTERM");
  },
);

test.serial("a file system in a snapshot is the one that was there", async (t) => {
  const path = await image("files", SIZE);
  await configure("files", `path = "${path}"\n[snapshots]\nstore = "/dev/shm/files.store"`);
  await sh("bin/sluice snapshot init files --size 80MiB");
  const daemon = new Daemon("files");
  await daemon.start();
  const list = "find . -type f -exec sha256sum {} + | sort";
  await sh(`mkfs.ext4 -q ${daemon.path} && mkdir -p /mnt/live /mnt/then && mount ${daemon.path} /mnt/live`);
  await sh("cp -a /usr/share/zoneinfo/Europe /mnt/live && cp /bin/bash /mnt/live && sync -f /mnt/live");
  const files = await sh(`cd /mnt/live && ${list}`);
  await askSnapshot("files", "create", "then");
  await sh("rm -r /mnt/live/Europe && dd if=/dev/urandom of=/mnt/live/bash bs=64k count=16 conv=notrunc status=none");
  await sh("sync -f /mnt/live && fstrim /mnt/live");
  const { device } = await askSnapshot("files", "export", "then");
  await sh(`mount -o ro,noload ${String(device)} /mnt/then`);
  t.is(await sh(`cd /mnt/then && ${list}`), files);
  t.not(await sh(`cd /mnt/live && ${list}`), files);
  await sh("umount /mnt/then /mnt/live");
  await daemon.end("SIGTERM");
});

test.serial("a store that is full, or fails, costs snapshots; the host goes on and hears of nothing", async (t) => {
  const path = await image("full", 96 * MIB);
  await sh("dmsetup create store --table '0 131072 linear /dev/vdb 0'");
  await configure("full", `path = "${path}"\n[snapshots]\nstore = "/dev/mapper/store"`);
  await sh("bin/sluice snapshot init full --block 64KiB");
  const daemon = new Daemon("full");
  await daemon.start();
  const states = async (): Promise<unknown> =>
    (await askSnapshots("full")).snapshots.map(({ name, state }) => [name, state]);
  const write = (what: string): Promise<string> =>
    sh(`fio --name=w --filename=${daemon.path} --direct=1 --ioengine=libaio --iodepth=8 --bs=256k ${what}`);
  const verified = (seed: number): string => `--rw=write --verify=crc32c --do_verify=1 --randseed=${seed}`;
  await askSnapshot("full", "create", "old");
  await write(`${verified(1)} --size=8M`);
  await askSnapshot("full", "create", "new");
  await write(`${verified(2)} --size=8M`);
  t.deepEqual(await states(), [
    ["old", "valid"],
    ["new", "valid"],
  ]);
  // Room for 40 MiB, of which 32 are taken now; the warning comes when 30 are, or at any time after.
  await write(`${verified(7)} --offset=16M --size=16M`);
  await until(async () => (await askSnapshots("full")).store.warnings === 1);
  await until(() => daemon.output.includes(" % full"));
  t.regex(daemon.output, /Store \/dev\/mapper\/store is more than 75 % full: 3[0-2](\.\d+)?MiB of 40MiB, full in/);
  const { store } = await askSnapshots("full");
  t.true(store.fillingBytesPerSecond > 0);
  t.is(store.fullInSeconds, (store.sizeBytes - store.usedBytes) / store.fillingBytesPerSecond);
  await write(`${verified(3)} --size=96M`);
  t.deepEqual(await states(), [
    ["old", "full"],
    ["new", "full"],
  ]);
  await t.throwsAsync(askSnapshot("full", "export", "old"), { message: /is invalid \(full\)/ });
  await askSnapshotDelete("full", "old");
  await askSnapshotDelete("full", "new");

  await askSnapshot("full", "create", "lost");
  await write(`${verified(4)} --size=4M`);
  t.deepEqual(await states(), [["lost", "valid"]]);
  await sh("dmsetup suspend store && dmsetup load store --table '0 131072 error' && dmsetup resume store");
  await write(`${verified(5)} --offset=8M --size=16M`);
  t.deepEqual(await states(), [["lost", "failed"]]);
  await daemon.end("SIGKILL");
  await sh("dmsetup suspend store && dmsetup load store --table '0 131072 linear /dev/vdb 0' && dmsetup resume store");
  await daemon.start();
  t.deepEqual(await states(), [["lost", "failed"]], "what the store says of itself is not true any more");
  await askSnapshotDelete("full", "lost");
  await askSnapshot("full", "create", "anew");
  await write(`${verified(6)} --size=4M`);
  t.deepEqual(await states(), [["anew", "valid"]]);
  await daemon.end("SIGTERM");
});
