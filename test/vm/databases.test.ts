// vm: --disk 256M --disk 64M --disk 96M
// vm: --packages postgresql-15,postgresql-client-15,sqlite3,libpq5,libldap-2.5-0,libxml2,libgssapi-krb5-2,libkrb5-3,libk5crypto3,libkrb5support0,libkeyutils1
// vm-kernel: 6.12
/**
 * What copies are for: databases that go on working, with nothing that brings them to rest. SQLite and PostgreSQL lie on
 * one file system of one volume. At each of twenty moments both are opened as they were then, as after a power cut: they
 * find no fault with themselves, and hold every transaction that had been acknowledged before, whole, and none from after.
 */
import test from "ava";
import {
  askBulkBegin,
  askCopies,
  askCopyCancel,
  askCopyStart,
  askSnapshot,
  askSnapshotDelete,
  askSnapshotUnexport,
} from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { Load, type Database } from "./databases/database.ts";
import { postgresql } from "./databases/postgresql.ts";
import { sqlite } from "./databases/sqlite.ts";
import { image, MIB, sh, until } from "./support.ts";

const SIZE = 96 * MIB;
const VOLUME = "bases";
const IMAGE = "/var/tmp/bases.img";
const LIVE = "/mnt/live";
const THEN = "/mnt/then";

/** The volume as it was at a moment. */
interface Moment {
  /** What can be mounted, and written to. */
  show(): Promise<string>;
  forget(): Promise<void>;
}

async function snapshot(name: string): Promise<Moment> {
  await askSnapshot(VOLUME, "create", name);
  return {
    async show() {
      const { device } = await askSnapshot(VOLUME, "export", name);
      // Journals and logs are replayed: what that writes goes to a disk beside the snapshot.
      const table = `0 ${SIZE / 512} snapshot ${String(device)} /dev/vdb N 8`;
      await sh(`dmsetup create shown --table '${table}' && dmsetup mknodes shown`);
      return "/dev/mapper/shown";
    },
    async forget() {
      await sh("dmsetup remove --retry shown");
      await askSnapshotUnexport(VOLUME, name, false);
      await askSnapshotDelete(VOLUME, name);
    },
  };
}

const copyTo =
  (destination: string) =>
  async (name: string): Promise<Moment> => {
    await askCopyStart(VOLUME, {
      ...{ name, destinations: [destination], segmentBytes: MIB, order: "linear", bytesPerSecond: null },
      ...{ recordBytes: null, force: true, staged: false },
    });
    return {
      async show() {
        await until(async () => {
          const [row] = await askCopies(VOLUME);
          if (row?.state === "complete") return true;
          if (row?.state === "running") return false;
          throw new Error(`${name} is ${String(row?.state)}: ${String(row?.error)}`);
        });
        return destination;
      },
      forget: () => askCopyCancel(VOLUME, name),
    };
  };

const daemon = new Daemon(VOLUME);

async function bulkCopy(): Promise<Moment> {
  await askBulkBegin(VOLUME, null);
  return {
    async show() {
      await sh(`dd if=${daemon.path} of=${IMAGE} bs=1M iflag=direct status=none`);
      await sh(`bin/sluice bulk finish ${VOLUME} --overlay ${IMAGE}`);
      return IMAGE;
    },
    forget: () => Promise.resolve(),
  };
}

const SNAPSHOTS = [snapshot, snapshot, snapshot, snapshot];
const MOMENTS = [
  ...SNAPSHOTS,
  copyTo(IMAGE),
  ...SNAPSHOTS,
  copyTo("/dev/vdc"),
  ...SNAPSHOTS,
  copyTo(IMAGE),
  ...SNAPSHOTS,
  bulkCopy,
];

interface Loaded {
  readonly database: Database;
  readonly load: Load;
}

test.serial("databases under load are whole in every copy, and lack nothing that was acknowledged", async (t) => {
  const path = await image(VOLUME, SIZE);
  await configure(VOLUME, `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  await sh(`modprobe -a dm-snapshot loop; bin/sluice snapshot init ${VOLUME} --block 4KiB`);
  await daemon.start();
  await sh(`mkfs.ext4 -q ${daemon.path} && mkdir -p ${LIVE} ${THEN} && mount ${daemon.path} ${LIVE}`);
  const loaded: Loaded[] = [];
  for (const database of [sqlite, postgresql]) {
    await database.create(LIVE);
    loaded.push({ database, load: new Load(database, LIVE) });
  }
  for (const [index, take] of MOMENTS.entries()) {
    for (const { load } of loaded) load.goOn();
    // Several at least are there and, later, overwritten.
    for (const { load } of loaded) await load.acknowledges(10);
    const before = loaded.map(({ load }) => load.acknowledged);
    const moment = await take(`moment-${index}`);
    const after = loaded.map(({ load }) => load.begun);
    for (const { load } of loaded) await load.acknowledges(10);
    const shown = await moment.show();
    for (const { load } of loaded) await load.rest();

    await sh(`mount ${shown} ${THEN}`);
    for (const [which, { database }] of loaded.entries()) {
      const [least = 0, most = 0] = [before[which], after[which]];
      const found = await database.verify(THEN);
      t.true(found >= least && found <= most, `${database.name}: ${least} to ${most} wanted, ${found} found`);
    }
    await sh(`umount ${THEN}`);
    await moment.forget();
  }
  for (const { database, load } of loaded) {
    await load.end();
    await database.stop();
  }
  await sh(`umount ${LIVE}`);
  await daemon.end("SIGTERM");
});
