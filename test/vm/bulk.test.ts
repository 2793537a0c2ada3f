// vm: --disk 256M --disk 64M
// vm-kernel: 6.12
/** Bulk copies: dd reads the live device under load, and its copy becomes what the volume was when it was begun. */
import { rm } from "node:fs/promises";
import test, { type ExecutionContext } from "ava";
import type { BulkStatus } from "../../src/control/bulk-status.ts";
import {
  askBulk,
  askBulkAction,
  askBulkBegin,
  askSnapshot,
  askSnapshotDelete,
  askSnapshots,
  askSnapshotUnexport,
  askStatus,
} from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, sluice, tried, until, VerifiedLoad } from "./support.ts";

const SIZE = 40 * MIB;
const IMAGE = "/dev/shm/bulk.copy";
const RESTORED = "/dev/shm/bulk.restored";
const moved = async (): Promise<number> => (await askSnapshots("bulk")).store.counts.moved;
const originalBytes = async (): Promise<number> => (await askBulk("bulk")).originalBytes;
const written = async (): Promise<number> => (await askStatus("bulk")).statistics.write.count;
const copy = (from: string, part: string): Promise<string> =>
  sh(`dd if=${from} of=${IMAGE} bs=1M iflag=direct conv=notrunc status=none ${part}`);

/** Begins a bulk copy at the moment of a snapshot, has dd read the volume under load and two deaths, and marks it. */
async function copyUnderLoad(t: ExecutionContext, daemon: Daemon): Promise<void> {
  // Nobody writes between the two: the snapshot says what the copy must become.
  await askSnapshot("bulk", "create", "then");
  t.like(await askBulkBegin("bulk", null), { state: "copying", sizeBytes: SIZE, originalBytes: 0 });
  const load = new VerifiedLoad(daemon.path);
  t.teardown(() => load.stop().catch(() => undefined));
  await until(async () => (await originalBytes()) > 0);
  await rm(IMAGE, { force: true });
  // The second half first; the daemon dies on the way, and dd waits for the next one.
  const reading = copy(daemon.path, "skip=20 seek=20");
  await daemon.end("SIGKILL");
  await daemon.start();
  t.regex(daemon.output, /recovered/);
  await reading;
  await copy(daemon.path, "count=20");
  t.like(await askBulkAction("bulk", "mark"), { state: "marked" });
  // The load goes on: what it overwrites now is no part of the copy.
  const before = await written();
  await until(async () => (await written()) > before + 100);
  const { originalBytes: marked } = await sluice<BulkStatus>("bulk end-cow bulk");
  await daemon.end("SIGKILL");
  await daemon.start();
  t.like(await askBulk("bulk"), { state: "marked", originalBytes: marked });
  await until(async () => (await written()) > 100);
  t.true((await load.stop()) > 0);
}

/** The device of the snapshot. */
async function exported(): Promise<string> {
  return String((await askSnapshot("bulk", "export", "then")).device);
}

async function forget(): Promise<void> {
  await askSnapshotUnexport("bulk", "then", false);
  await askSnapshotDelete("bulk", "then");
}

const daemon = new Daemon("bulk");
const shown = new Daemon("shown");
test.after.always(() => Promise.all([daemon.end("SIGKILL"), shown.end("SIGKILL")]));

test.serial("a copy by dd of the live device, overlaid, is the volume as it was when it was begun", async (t) => {
  const path = await image("bulk", SIZE);
  await configure("bulk", `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  await sh("bin/sluice snapshot init bulk --block 4KiB");
  await daemon.start();
  t.regex((await tried("bin/sluice bulk mark bulk")).output, /has no bulk copy: begin one/);
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M oflag=direct`).catch(() => undefined);
  await copyUnderLoad(t, daemon);
  const then = await exported();
  t.not((await tried(`cmp ${then} ${IMAGE}`)).code, 0, "the copy alone is not what the volume was");
  await sh(`bin/sluice bulk finish bulk --overlay ${IMAGE}`);
  await sh(`cmp ${then} ${IMAGE}`);
  t.regex((await tried("bin/sluice bulk status bulk")).output, /has no bulk copy/);
  await forget();
});

test.serial("appended to the copy, the originals make it the volume as it was when it is restored", async (t) => {
  await copyUnderLoad(t, daemon);
  const then = await exported();
  t.regex((await tried(`bin/sluice bulk finish bulk --overlay ${daemon.path}`)).output, /is the volume itself/);
  await sh(`bin/sluice bulk finish bulk --append ${IMAGE} --record 64KiB`);
  await sh(`bin/sluice bulk restore ${IMAGE} ${RESTORED} && cmp ${then} ${RESTORED}`);
  await sh(`bin/sluice bulk restore ${IMAGE} /dev/vdb && cmp --bytes=${SIZE} ${then} /dev/vdb`);
  await forget();
});

test.serial(
  "an appended copy is a volume at once: what was there when it was begun, with a file system that is whole",
  async (t) => {
    const checksum = (path: string): Promise<string> => sh(`dd if=${path} bs=1M iflag=direct status=none | sha256sum`);
    await sh(`mkfs.ext4 -q -F ${daemon.path} && mkdir -p /mnt/bulk && mount ${daemon.path} /mnt/bulk`);
    await sh(
      "dd if=/dev/urandom of=/mnt/bulk/kept bs=1M count=4 status=none && sha256sum /mnt/bulk/kept > /dev/shm/kept",
    );
    await sh("echo old > /mnt/bulk/changed && umount /mnt/bulk");
    const begun = await checksum(daemon.path);
    await sh("bin/sluice bulk begin bulk");
    await sh(`mount ${daemon.path} /mnt/bulk && echo new > /mnt/bulk/changed && cp /mnt/bulk/kept /mnt/bulk/more`);
    await sh("dd if=/dev/zero of=/mnt/bulk/kept bs=1M count=4 status=none && umount /mnt/bulk");
    await rm(IMAGE, { force: true });
    await copy(daemon.path, "count=40");
    await sh(`bin/sluice bulk finish bulk --append ${IMAGE} --record 16KiB`);
    await configure("shown", `target = "appended"\npath = "${IMAGE}"`);
    t.regex(await sh("bin/sluice check shown"), /bulk as it was at .* originals: \d+ bytes in \d+ runs/);
    await shown.start();
    t.is(await checksum(shown.path), begun);
    // It outlives its daemon like every volume, and stays what it was.
    await shown.end("SIGKILL");
    await shown.start();
    t.regex(shown.output, /recovered/);
    await sh(`e2fsck -fn ${shown.path} && mount -o ro ${shown.path} /mnt/bulk && sha256sum --check /dev/shm/kept`);
    t.is(await sh("cat /mnt/bulk/changed"), "old\n");
    t.is((await tried("test -e /mnt/bulk/more")).code, 1);
    await sh("umount /mnt/bulk");
    t.not((await tried(`dd if=/dev/zero of=${shown.path} bs=4k count=1 oflag=direct`)).code, 0);
    await shown.end("SIGTERM");
    await sh(`truncate --size=-1 ${IMAGE}`);
    t.regex((await tried("bin/sluice check shown")).output, /has no originals at its end/);
  },
);

test.serial(
  "what a copy is not of costs nothing, and a mark frees the writers: nothing is moved any more",
  async (t) => {
    const ranges = [{ offset: 0, length: MIB }];
    t.deepEqual((await sluice<BulkStatus>("bulk begin bulk --range 0+1MiB")).ranges, ranges);
    await t.throwsAsync(askBulkBegin("bulk", null), { message: /has a bulk copy already/ });
    const ask = `curl -s --unix-socket /run/sluice/bulk.sock -d '{"recordBytes":4096}' http://x/v1/bulk/originals`;
    t.regex(await sh(ask), /not marked yet/);
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=1 oflag=direct status=none`);
    t.is(await originalBytes(), MIB);
    // The copy is of the first part alone: nothing is moved of the rest, by the next daemon neither.
    const outside = (part: string): Promise<string> =>
      sh(`dd if=/dev/urandom of=${daemon.path} bs=1M ${part} oflag=direct status=none`);
    const kept = await moved();
    await outside("seek=1 count=4");
    t.is(await moved(), kept);
    await daemon.end("SIGKILL");
    await daemon.start();
    await outside("seek=5 count=4");
    t.is(await moved(), 0);
    t.like(await sluice<BulkStatus>("bulk status bulk"), { ranges, originalBytes: MIB });
    await sh("bin/sluice bulk mark bulk");
    await t.throwsAsync(askBulkAction("bulk", "mark"), { message: /is marked already/ });
    const counted = await moved();
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=8 oflag=direct status=none`);
    t.is(await moved(), counted);
    t.is(await originalBytes(), MIB);
    await sh("bin/sluice bulk cancel bulk");
    t.deepEqual((await askSnapshots("bulk")).snapshots, []);
    await until(async () => (await askSnapshots("bulk")).store.usedBytes === 0);
    await daemon.end("SIGTERM");
  },
);
