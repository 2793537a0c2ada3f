// vm: --mem 3G
/** Unmodified file systems on the device (row by row: make, fill, compare, check, mount again, compare). */
import test from "ava";
import { fileVolume, image, MIB, Server, sh } from "./support.ts";

const FILE_SYSTEMS = {
  ext4: { make: "mkfs.ext4 -q", check: "fsck.ext4 -fn" },
  xfs: { make: "mkfs.xfs -q", check: "xfs_repair -n" },
  btrfs: { make: "mkfs.btrfs -q", check: "btrfs check --readonly" },
} as const;

for (const [name, { make, check }] of Object.entries(FILE_SYSTEMS)) {
  test(`${name} on a file volume`, async (t) => {
    await using server = await new Server(fileVolume(await image(name, 512 * MIB))).start();
    await sh(`${make} ${server.path} && mount -t ${name} ${server.path} /mnt`);
    await sh("cp -r src test package-lock.json /mnt/ && dd if=/dev/urandom of=/mnt/random bs=1M count=16 conv=fsync");
    const sums = await sh("cd /mnt && find . -type f | sort | xargs sha256sum");
    await sh(`fstrim /mnt; umount /mnt && ${check} ${server.path} && mount -t ${name} ${server.path} /mnt`);
    t.is(await sh("cd /mnt && find . -type f | sort | xargs sha256sum"), sums);
    t.is(await sh("diff -r src /mnt/src"), "");
    await sh("umount /mnt");
  });
}
