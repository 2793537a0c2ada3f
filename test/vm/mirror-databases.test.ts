// vm: --disk 64M
// vm: --packages postgresql-15,postgresql-client-15,sqlite3,libpq5,libldap-2.5-0,libxml2,libgssapi-krb5-2,libkrb5-3,libk5crypto3,libkrb5support0,libkeyutils1
// vm-kernel: 7.2
/**
 * Databases on a mirrored volume: SQLite and PostgreSQL under load, on one file system. At several moments, some of them after
 * either side was killed, the last point of the remote is opened there as after a power cut, while all goes on: both find no fault
 * with it, and hold every transaction that had been acknowledged before a point was asked for, whole, and none from after.
 */
import test from "ava";
import { askMirror, askMirrorPoint } from "../../src/control/client.ts";
import type { ExportedPointRow } from "../../src/control/receive-status.ts";
import { configure, Daemon } from "./daemon.ts";
import { Load, type Database } from "./databases/database.ts";
import { postgresql } from "./databases/postgresql.ts";
import { sqlite } from "./databases/sqlite.ts";
import { Remote, REMOTE } from "./remote.ts";
import { image, MIB, sh, until } from "./support.ts";

const VOLUME = "bases";
const SIZE = 96 * MIB;
const LIVE = "/mnt/live";
const THEN = "/mnt/then";
/** Who is killed before the point is asked for. */
const POINTS = ["nobody", "source", "remote", "source"] as const;

interface Loaded {
  readonly database: Database;
  readonly load: Load;
}

const isInStep = async (): Promise<boolean> => (await askMirror(VOLUME)).state === "in step";

test.before("the network", () => Remote.connect());

/** They may be faster than the link: with the policy to stop they wait for it. */
test("databases open clean at every point that the remote shows, and lack nothing that was acknowledged", async (t) => {
  const path = await image(VOLUME, SIZE);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "16MiB"\nsilence = 30\nwhen_down = "stop"`;
  await configure(VOLUME, `path = "${path}"\n[record]\nnvram = "/dev/shm/bases.nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`modprobe dm-snapshot; bin/sluice nvram create ${VOLUME}`);
  const remote = await Remote.make(VOLUME, "clear", { size: "96MiB", store: "128MiB", log: "128MiB" });
  await remote.start();
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  await sh(`mkfs.ext4 -q -E nodiscard ${daemon.path} && mkdir -p ${LIVE} ${THEN} && mount ${daemon.path} ${LIVE}`);
  const loaded: Loaded[] = [];
  for (const database of [sqlite, postgresql]) {
    await database.create(LIVE);
    loaded.push({ database, load: new Load(database, LIVE) });
  }
  const killed = {
    nobody: () => Promise.resolve(),
    source: async () => {
      await daemon.end("SIGKILL");
      await daemon.start();
    },
    remote: async () => {
      await remote.end("SIGKILL");
      await remote.start();
      // The source comes back by itself: not at once.
      await until(async () => (await remote.status()).source !== null);
    },
  } as const;

  for (const whom of POINTS) {
    for (const { load } of loaded) load.goOn();
    for (const { load } of loaded) await load.acknowledges(10);
    await killed[whom]();
    await until(isInStep);
    for (const { load } of loaded) await load.acknowledges(10);
    const before = loaded.map(({ load }) => load.acknowledged);
    const { point, isClosed } = await askMirrorPoint(VOLUME);
    t.true(isClosed);
    const shown = JSON.parse(await remote.sluice(`receive export ${VOLUME} --json`)) as ExportedPointRow;
    t.true(shown.point >= point);
    const after = loaded.map(({ load }) => load.begun);
    for (const { load } of loaded) await load.acknowledges(10);
    for (const { load } of loaded) await load.rest();

    // Journals and logs are replayed: what that writes goes to a disk beside it.
    const table = `0 ${SIZE / 512} snapshot ${shown.device} /dev/vda N 8`;
    await sh(`dmsetup create shown --table '${table}' && dmsetup mknodes shown && mount /dev/mapper/shown ${THEN}`);
    for (const [which, { database }] of loaded.entries()) {
      const [least = 0, most = 0] = [before[which], after[which]];
      const found = await database.verify(THEN);
      t.true(found >= least && found <= most, `${database.name}, ${whom} killed: ${least} to ${most}, found ${found}`);
    }
    await sh(`umount ${THEN} && dmsetup remove --retry shown`);
    await remote.sluice(`receive unexport ${VOLUME}@${shown.point}`);
  }
  for (const { database, load } of loaded) {
    await load.end();
    await database.stop();
  }
  await sh(`umount ${LIVE}`);
  // It was started while the file system was mounted, and has that mount in a name space of its own, as "ip netns exec" makes one.
  await remote.end("SIGTERM");
  await daemon.end("SIGTERM");
});
