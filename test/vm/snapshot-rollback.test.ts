// vm: --disk 64M
// vm-kernel: 6.12
/** A volume is made what it was at a snapshot, beside others, over the death of the daemon that does it. */
import { open, writeFile } from "node:fs/promises";
import test from "ava";
import { askRollback, askSnapshot, askSnapshots, askSnapshotUnexport } from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, tried } from "./support.ts";

const SIZE = 16 * MIB;
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";

test.serial("a volume goes back to a snapshot, and forth to a newer one", async (t) => {
  const path = await image("back", SIZE);
  const volume = "/dev/sluice/back";
  await configure("back", `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  await sh("bin/sluice snapshot init back --block 4KiB && bin/sluice up back");
  const write = (seek: number, count: number): Promise<string> =>
    sh(`dd if=/dev/urandom of=${volume} bs=64k seek=${seek} count=${count} oflag=direct conv=notrunc status=none`);
  await write(0, 256);
  const monday = await hash(path);
  await askSnapshot("back", "create", "monday");
  await write(10, 40);
  const tuesday = await hash(path);
  await askSnapshot("back", "create", "tuesday");
  await write(30, 60);

  await t.throwsAsync(askRollback("back", "sunday"), { message: /has no snapshot "sunday"/ });
  const user = await open(volume);
  t.regex((await tried("bin/sluice snapshot rollback back monday")).output, /in use: open in process/);
  await user.close();
  await sh("bin/sluice snapshot rollback back monday");
  t.is(await hash(volume), monday);
  const { device } = await askSnapshot("back", "export", "tuesday");
  t.is(await hash(String(device)), tuesday);
  await askSnapshotUnexport("back", "tuesday", false);
  await sh("bin/sluice snapshot rollback back tuesday");
  t.is(await hash(volume), tuesday);
  t.is((await askSnapshots("back")).snapshots.length, 2);
  await sh("bin/sluice down back");

  // A daemon that dies while it rolls back is followed by one that begins again.
  await sh("mkdir -p /var/lib/sluice");
  await writeFile("/var/lib/sluice/back.rollback", JSON.stringify({ snapshot: "monday", epoch: 1 }));
  const dying = new Daemon("back");
  const served = dying.spawn().catch(() => undefined);
  while (!dying.output.includes("Rolling back to snapshot monday"))
    await new Promise((resolve) => setImmediate(resolve));
  await dying.end("SIGKILL");
  await served;
  const next = new Daemon("back");
  await next.start();
  t.regex(dying.output + next.output, /Rolled back to snapshot monday/);
  t.is(await hash(next.path), monday);
  await next.end("SIGTERM");

  // What cannot be is refused before anything is changed.
  await writeFile("/var/lib/sluice/back.rollback", JSON.stringify({ snapshot: "monday", epoch: 77 }));
  t.regex((await tried("bin/sluice up back")).output, /is as it was, and stopped: .*it is not there any more/);
  await next.start();
  t.is(await hash(next.path), monday);
  await next.end("SIGTERM");
});
