// vm: --systemd
// vm-prepare: test/vm/prepare-boot
/** A real boot with systemd and udev: a volume in fstab, crashes under it, and the order of the stop. */
import test from "ava";
import { askStatus } from "../../src/control/client.ts";
import { sh, tried, until } from "./support.ts";

const unitIs = async (unit: string): Promise<string> =>
  (await tried(`systemctl show --property=ActiveState --value ${unit}`)).output.trim();

const daemonPid = async (): Promise<number> => (await askStatus("data")).pid;
/** Another daemon than that one has taken up the service. */
const isFollowed = async (pid: number): Promise<boolean> => (await daemonPid().catch(() => pid)) !== pid;

test.serial("the file system in fstab is mounted at boot, from /dev/sluice/data", async (t) => {
  t.regex(await sh("findmnt --noheadings --output SOURCE,FSTYPE /mnt/data"), /\/dev\/ublkb\d+ +ext4/);
  t.regex(await sh("readlink /dev/sluice/data"), /^\.\.\/ublkb\d+/);
  t.is(await unitIs("sluice@data.service"), "active");
  await sh("cp -r src /mnt/data/ && sync -f /mnt/data");
});

test.serial("the daemon is protected: no swap, not to be killed for memory, buffers locked, IO_FLUSHER", async (t) => {
  const { pid } = JSON.parse(await sh("sluice status data --json")) as { pid: number };
  t.is((await sh(`cat /proc/${pid}/oom_score_adj`)).trim(), "-1000");
  t.is((await sh("systemctl show --property=MemorySwapMax --value sluice@data")).trim(), "0");
  const locked = /VmLck:\s+(\d+)/.exec(await sh(`cat /proc/${pid}/status`));
  t.true(Number(locked?.[1]) >= 128 * 256, "the buffers of 128 requests of 256 KiB");
  const flags = Number((await sh(`cut -d ' ' -f 9 /proc/${pid}/stat`)).trim());
  t.true((flags & 0x80000) !== 0, "PF_MEMALLOC_NOIO");
});

test.serial("the daemon is killed: the mount stays, the unit stays active, the next daemon serves", async (t) => {
  const pid = await daemonPid();
  await sh(`kill -9 ${pid}`);
  t.is(await sh("echo 3 > /proc/sys/vm/drop_caches; diff -r src /mnt/data/src"), "");
  await sh("dd if=/dev/urandom of=/mnt/data/after bs=1M count=4 conv=fsync");
  t.is(await unitIs("mnt-data.mount"), "active");
  t.is(await unitIs("sluice@data.service"), "active");
  // It serves the device a moment before it can be asked.
  await until(() => isFollowed(pid));
});

test.serial("everything of the unit is killed: systemd starts it again, and the file system goes on", async (t) => {
  const pid = await daemonPid();
  // By the control group itself: systemctl reads the list of processes, and fails (EIO) where one of them is just going.
  const group = (await sh("systemctl show --property=ControlGroup --value sluice@data.service")).trim();
  await sh(`echo 1 > /sys/fs/cgroup${group}/cgroup.kill`);
  await until(() => isFollowed(pid));
  t.is(await unitIs("mnt-data.mount"), "active");
  t.is(await sh("diff -r src /mnt/data/src"), "");
  await sh("dd if=/dev/urandom of=/mnt/data/again bs=1M count=1 conv=fsync");
});

test.serial("stopping the volume unmounts its file system first, and stops cleanly", async (t) => {
  await sh("echo precious > /mnt/data/precious");
  await sh("systemctl stop sluice@data.service");
  t.is(await unitIs("mnt-data.mount"), "inactive");
  t.is(await unitIs("sluice@data.service"), "inactive");
  t.is((await tried("ls /dev/ublkc*")).code, 2, "no device is left");
  t.regex(await sh("journalctl --unit sluice@data --output cat --no-pager"), /Volume data is stopped/);
  t.is(
    await sh("modprobe loop; mount -o loop,ro /srv/data.img /mnt && cat /mnt/precious && umount /mnt"),
    "precious\n",
  );
  await sh("systemctl start mnt-data.mount");
  t.is(await sh("cat /mnt/data/precious"), "precious\n");
});

test.serial("partitions of a volume are found, and have names", async (t) => {
  await sh("sluice up parted && udevadm settle");
  await sh(
    "for n in 1 2; do i=0; until [ -b /dev/sluice/parted-part$n ] || [ $i -gt 300 ]; do sleep 0.1; i=$((i+1)); done; done",
  );
  t.is(
    await sh("lsblk --noheadings --output TYPE /dev/sluice/parted | sort | uniq -c | tr -s ' '"),
    " 1 disk\n 2 part\n",
  );
  await sh("sluice down parted");
});
