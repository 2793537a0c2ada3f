// vm: --disk 48M --disk 48M --disk 48M --packages mdadm,lvm2,libdevmapper-event1.02.1
// vm-kernel: 7.2
/** A volume over a logical volume over md RAID, and its store beside it: to snapshots and copies a device like any other. */
import test from "ava";
import {
  askCopies,
  askCopy,
  askCopyStart,
  askSnapshot,
  askSnapshots,
  askSnapshotUnexport,
} from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { sh, until, VerifiedLoad } from "./support.ts";

const VOLUME = "raided";
const COPY = "/var/tmp/raided.img";
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";
const copied = async (): Promise<{ state: string; copiedBytes: number }> => {
  const [row] = await askCopies(VOLUME);
  if (row === undefined || row.state === "failed") throw new Error(`the copy job is gone or failed: ${row?.error}`);
  return row;
};

test.serial("over LVM on RAID 5, of which a disk fails, copy and snapshot are of the moment they began", async (t) => {
  await sh("modprobe -a md_mod raid456 dm_mod");
  await sh(
    "mdadm --create /dev/md0 --run --level=5 --raid-devices=3 --chunk=64 --assume-clean --bitmap=none " +
      "/dev/vda /dev/vdb /dev/vdc 2>&1",
  );
  await sh(
    "vgcreate vg /dev/md0 && lvcreate --yes --size 20M --name data vg && lvcreate --yes -l 100%FREE -n store vg",
  );
  await configure(VOLUME, `path = "/dev/vg/data"\n[snapshots]\nstore = "/dev/vg/store"`);
  await sh(`bin/sluice snapshot init ${VOLUME} --block 4KiB`);
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=20 oflag=direct status=none`);
  const begun = await hash(daemon.path);
  await askSnapshot(VOLUME, "create", "then");
  await askCopyStart(VOLUME, {
    ...{ name: "copy", destinations: [COPY], segmentBytes: 65_536, order: "hot-first", bytesPerSecond: 65_536 },
    ...{ recordBytes: null, force: false, staged: false },
  });
  const load = new VerifiedLoad(daemon.path);
  await until(async () => (await askSnapshots(VOLUME)).store.counts.moved > 500 && (await copied()).copiedBytes > 0);
  await sh("mdadm --fail /dev/md0 /dev/vdb 2>&1");
  t.regex(await sh("cat /proc/mdstat"), /\[3\/2\] \[U_U\]/);
  t.is((await copied()).state, "running");
  await askSnapshot(VOLUME, "create", "degraded");
  const { moved } = (await askSnapshots(VOLUME)).store.counts;
  await until(async () => (await askSnapshots(VOLUME)).store.counts.moved > moved);
  await askCopy(VOLUME, "limit", { name: "copy", bytesPerSecond: null });
  await until(async () => (await copied()).state === "complete");
  t.true((await load.stop()) > 0);

  t.is(await hash(COPY), begun);
  const { device } = await askSnapshot(VOLUME, "export", "then");
  t.is(await hash(String(device)), begun);
  t.not(await hash(daemon.path), begun);
  await askSnapshotUnexport(VOLUME, "then", false);
  await daemon.end("SIGTERM");
});
