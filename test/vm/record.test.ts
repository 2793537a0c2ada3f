// vm: --pmem 128M --disk 256M
// vm-kernel: 6.12
/** Volumes with a predictive record, on persistent memory (emulated, with DAX) and on an ordinary disk. */
import test from "ava";
import type { NvramInspection } from "../../src/cli/nvram.ts";
import { askRecord, askStatus } from "../../src/control/client.ts";
import type { RecordMap } from "../../src/control/record-status.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, sluice, tried, until, VerifiedLoad } from "./support.ts";
import { queueThread, systemCalls } from "./system-calls.ts";

const SIZE = 64 * MIB;
const LINE_CHUNKS_BYTES = 480 * 65536;
const HITS = 100_000;
/** Of x86-64. */
const IO_URING_ENTER = 426;
/**
 * pwrite64, writev, msync, fsync, fdatasync, sync_file_range, pwritev, pwritev2. Not write: Node's own threads wake one
 * another by it, a few times.
 */
const WRITING_CALLS = [18, 20, 26, 74, 75, 277, 296, 328];
const KINDS = {
  "persistent memory": `modprobe -a nfit nd_pmem && ndctl create-namespace --mode=fsdax --force --reconfig=namespace0.0 >/dev/null &&
    mkfs.ext4 -q -b 4096 /dev/pmem0 && mkdir -p /mnt/pmem && mount -o dax=always /dev/pmem0 /mnt/pmem`,
  "durable writes": "mkfs.ext4 -q /dev/vda && mkdir -p /mnt/disk && mount /dev/vda /mnt/disk",
} as const;
const PLACES = { "persistent memory": "/mnt/pmem", "durable writes": "/mnt/disk" } as const;

const inspect = (path: string): Promise<NvramInspection> => sluice<NvramInspection>(`nvram inspect ${path}`);

for (const kind of ["persistent memory", "durable writes"] as const) {
  test(`${kind}: recorded before it is written, free when it is recorded, kept over SIGKILL, empty after a clean stop`, async (t) => {
    await sh(KINDS[kind]);
    const name = kind.replace(" ", "-");
    const nvram = `${PLACES[kind]}/${name}.nvram`;
    const path = await image(name, SIZE);
    const withLimit = (limit: string): Promise<void> =>
      configure(name, `path = "${path}"\n[record]\nnvram = "${nvram}"\nlimit = "${limit}"`);
    await withLimit("16MiB");
    t.regex((await tried(`bin/sluice check ${name}`)).output, /does not exist: make it with "sluice nvram create/);
    await sh(`bin/sluice nvram create ${name} --in-sync`);
    t.regex((await tried(`bin/sluice nvram create ${name}`)).output, /exists already/);
    t.like(await inspect(nvram), { volume: name, chunks: SIZE / 65536, recordedChunks: 0, damagedLines: 0 });

    const daemon = new Daemon(name);
    await daemon.start();
    const first = await askStatus(name);
    t.is(first.record?.durableBy, kind);
    await sh(`dd if=/dev/urandom of=${daemon.path} bs=4k count=1 oflag=direct`);
    t.is((await askRecord(name)).status.counts.updates, 1);
    t.true((await inspect(nvram)).recordedChunks > 0);

    // R3: what is in the record is written without touching the file, and with no call but those that serve the queue.
    await sh(`echo 2 >/sys/block/ublkb${daemon.id}/queue/nomerges`);
    const small = `fio --name=hits --filename=${daemon.path} --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --size=64k --iodepth=8`;
    await sh(`${small} --io_size=64k`);
    const before = await sluice<RecordMap>(`record ${name}`);
    const hash = await sh(`sha256sum ${nvram}`);
    const thread = await queueThread(daemon.pid, daemon.id, 0);
    const calls = await systemCalls(thread, `${small} --io_size=${HITS * 4}k --norandommap`);
    const after = await askRecord(name);
    t.is(after.status.counts.writes - before.status.counts.writes, HITS);
    t.is(after.status.counts.updates, before.status.counts.updates);
    t.is(await sh(`sha256sum ${nvram}`), hash);
    const told = `system calls by number: ${[...calls].join("; ")}`;
    const entered = calls.get(IO_URING_ENTER) ?? 0;
    const all = [...calls.values()].reduce((sum, count) => sum + count, 0);
    t.true(entered > 0, told);
    t.true(all - entered < HITS / 100, told);
    t.deepEqual(
      WRITING_CALLS.filter((call) => calls.has(call)),
      [],
      told,
    );

    // Random writes over more than the record may hold: it evicts, and stays within its limit.
    const load = new VerifiedLoad(daemon.path);
    await until(async () => ((await askStatus(name)).record?.counts.removed ?? 0) > 0);
    await daemon.end("SIGKILL");
    const left = await inspect(nvram);
    t.true(left.recordedChunks > 0);
    // A line that was being copied to the file in that moment would read as recorded all through.
    t.true(left.recordedBytes <= 16 * MIB + left.damagedLines * LINE_CHUNKS_BYTES, JSON.stringify(left));
    // The largest requests of a device fit the limit that it was made with: that one stays, whatever is configured now.
    await withLimit("12MiB");
    await daemon.start();
    t.regex(daemon.output, /recovered/);
    t.false(load.hasEnded);
    t.true((await load.stop()) > 0);
    const { record } = await askStatus(name);
    t.true((record?.crashCopyBytes ?? Infinity) <= 16 * MIB + left.damagedLines * LINE_CHUNKS_BYTES);
    t.is(record?.counts.failures, 0);
    t.is(record?.limitBytes, 16 * MIB);
    await daemon.end("SIGTERM");
    t.is((await inspect(nvram)).recordedChunks, 0, "a clean stop owes nothing");
  });
}

test("an NVRAM file of another volume, or a damaged one, is refused in one line; damage in the record reads as recorded", async (t) => {
  const path = await image("mine", SIZE);
  await configure("mine", `path = "${path}"\n[record]\nnvram = "/dev/shm/mine.nvram"\nlimit = "16MiB"`);
  await configure("other", `path = "${await image("other", SIZE)}"\n[record]\nnvram = "/dev/shm/mine.nvram"`);
  await sh("bin/sluice nvram create mine --in-sync");
  t.regex((await tried("bin/sluice check other")).output, /belongs to volume mine, wanted other/);
  await sh("printf x | dd of=/dev/shm/mine.nvram bs=1 seek=8200 conv=notrunc");
  t.like(await inspect("/dev/shm/mine.nvram"), { damagedLines: 1, recordedChunks: 480 });
  await sh(`truncate -s 128M ${path}`);
  t.regex((await tried("bin/sluice check mine")).output, /grows with the volume/);
  t.like(await inspect("/dev/shm/mine.nvram"), { volumeBytes: SIZE, sequence: 1 }, "a check changes nothing");
  await sh("bin/sluice up mine && bin/sluice down mine");
  t.like(await inspect("/dev/shm/mine.nvram"), { volumeBytes: 128 * MIB, sequence: 2, recordedChunks: 0 });
  await sh("dd if=/dev/zero of=/dev/shm/mine.nvram bs=8192 count=1 conv=notrunc");
  t.regex((await tried("bin/sluice up mine")).output, /has no whole header/);
});
