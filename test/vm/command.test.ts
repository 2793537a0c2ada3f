/** The command sluice on a running volume, as a person uses it. */
import { readFile } from "node:fs/promises";
import test from "ava";
import { askStatus } from "../../src/control/client.ts";
import type { VolumeStatus } from "../../src/control/status.ts";
import { configure } from "./daemon.ts";
import { image, kernelVersion, MIB, sh, sluice, tried, until } from "./support.ts";

test.serial("up, status, metrics, refused down, kill -9, recovery, resize, forced down", async (t) => {
  const path = await image("data", 64 * MIB);
  await configure("data", `path = "${path}"`);
  t.regex(await sh("bin/sluice up data"), /^\/dev\/ublkb\d+ \(\/dev\/sluice\/data\), 64MiB/);
  t.regex((await tried("bin/sluice up data")).output, /is running already/);
  await sh("mkfs.ext4 -q /dev/sluice/data && mount /dev/sluice/data /mnt && cp -r src /mnt/ && sync -f /mnt");

  const before = await sluice<VolumeStatus>("status data");
  t.false(before.recovered);
  t.true(before.statistics.write.bytes > 0);
  t.not(before.statistics.flush.latencyUs, null);
  t.true(before.memory.residentBytes < 150 * MIB, `${before.memory.residentBytes} bytes resident`);
  const metrics = await sh("bin/sluice status data --metrics");
  t.regex(metrics, /sluice_requests_total\{operation="write",volume="data"\} [1-9]/);

  const refused = await tried("bin/sluice down data");
  t.is(refused.code, 1);
  t.regex(refused.output, /in use: mounted at \/mnt/);

  await sh(`kill -9 ${before.pid}`);
  t.is(await sh("echo 3 > /proc/sys/vm/drop_caches; diff -r src /mnt/src"), "");
  let after = before;
  await until(async () => {
    after = await askStatus("data").catch(() => before);
    return after.pid !== before.pid;
  });
  t.true(after.recovered);
  t.is(after.device.id, before.device.id);

  await sh(`truncate -s 96M ${path}`);
  const resized = await tried("bin/sluice resize data");
  if (kernelVersion === "6.12") t.regex(resized.output, /cannot resize a live device/);
  else t.is(await sh("blockdev --getsize64 /dev/sluice/data"), `${96 * MIB}\n`);

  // What is dirty reaches the backing store even when the stop is forced; the journal, left open, is replayed by the mount.
  await sh("echo precious > /mnt/dirty; bin/sluice down data --force");
  await tried("umount /mnt");
  await sh(`modprobe loop; mount -o loop ${path} /mnt`);
  t.is(await readFile("/mnt/dirty", "utf8"), "precious\n");
  await sh("umount /mnt");
  t.regex(await sh("bin/sluice list"), /data +stopped/);
  t.is((await tried("ls /dev/sluice/data")).code, 2);
});

test.serial("a start that cannot work says why in one line, and leaves nothing behind", async (t) => {
  const path = await image("bad", 64 * MIB + 100);
  for (const [toml, wanted] of [
    [`path = "/dev/shm/missing"`, /\/dev\/shm\/missing does not exist/],
    [`path = "${path}"`, /is no multiple of the block of 512/],
    [`path = "${path}"\nsize = "1GiB"`, /is too small: it has \d+ bytes, the volume wants 1073741824/],
    [`path = "/dev/shm"`, /is neither a regular file nor a block device/],
  ] as const) {
    await configure("bad", toml);
    const { code, output } = await tried("bin/sluice up bad");
    t.is(code, 1, output);
    t.regex(output, wanted);
    t.is(output.match(/^sluice: /gm)?.length, 1, output);
  }
  await configure("first", `path = "${await image("shared", MIB)}"\ndevice = 3`);
  await configure("second", `path = "/dev/shm/shared"`);
  await configure("third", `target = "null"\nsize = "1MiB"\ndevice = 3`);
  await sh("bin/sluice up first");
  t.regex((await tried("bin/sluice up second")).output, /\/dev\/shm\/shared is in use/);
  t.regex((await tried("bin/sluice up third")).output, /ADD_DEV of device 3: EEXIST/);
  await sh("bin/sluice down first");
  t.regex(await sh("bin/sluice orphans"), /no orphans/);
});

test.serial("without the driver, and without rights, there is one line that says so", async (t) => {
  await configure("nothing", `target = "null"\nsize = "1MiB"`);
  t.regex((await tried("setpriv --reuid 65534 --clear-groups bin/sluice features")).output, /run as root/);
  await sh("rmmod ublk_drv");
  t.regex((await tried("bin/sluice up nothing")).output, /^sluice: This kernel has no ublk driver at work.*modprobe/m);
  await sh("modprobe ublk_drv");
});
