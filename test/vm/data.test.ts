// vm: --disk 256M --disk 256M
/** What is written is what is read: fio with verification, discards and zeroes, on every kind of target. */
import test from "ava";
import { fileVolume, image, MIB, Server, sh } from "./support.ts";

const SIZE = 128 * MIB;
const SLACK = 64 * 1024;

function fio(path: string, depth: number, block: number): string {
  return `fio --name=verify --filename=${path} --direct=1 --ioengine=libaio --rw=randwrite --bsrange=${block}-256k \
    --size=100% --io_size=24M --verify=crc32c --verify_fatal=1 --iodepth=${depth} --output-format=terse`;
}

for (const [name, queues, block] of [
  ["one queue, blocks of 512", 1, 512],
  ["two queues, blocks of 4096", 2, 4096],
] as const) {
  test(`file on tmpfs, ${name}: fio verifies at depth 1 and 32`, async (t) => {
    await using server = await new Server(fileVolume(await image("data", SIZE), { logicalBlockBytes: block }), {
      queues,
    }).start();
    await sh(fio(server.path, 1, block));
    await sh(fio(server.path, 32, block));
    t.is((await sh(`blockdev --getss ${server.path}`)).trim(), String(block));
    t.is((await sh(`ls /sys/block/ublkb${server.id}/mq | wc -l`)).trim(), String(queues));
  });
}

test("block device: fio verifies, and discards and zeroes go through to it", async (t) => {
  await using server = await new Server(fileVolume("/dev/vda")).start();
  await sh(fio(server.path, 32, 512));
  await sh(`blkdiscard ${server.path}`);
  await sh(`dd if=/dev/urandom of=${server.path} bs=1M count=8 oflag=direct`);
  await sh(`blkdiscard --zeroout --offset 1048576 --length 2097152 ${server.path}`);
  await sh(`cmp --ignore-initial=1048576:0 --bytes=2097152 ${server.path} /dev/zero`);
  const around = await sh(`head -c 1048576 ${server.path} | tr -d '\\0' | wc -c`);
  t.true(Number(around) > 1_000_000, "what lies before the zeroed range is still there");
});

test("memory with two queues: fio verifies, zeroes are zeroes", async (t) => {
  const backing = { kind: "memory", path: "/dev/shm/memory", sizeBytes: SIZE } as const;
  await using server = await new Server(fileVolume("", { backing }), { queues: 2 }).start();
  await sh(fio(server.path, 1, 512));
  await sh(fio(server.path, 32, 512));
  await sh(`blkdiscard --zeroout ${server.path}`);
  t.is((await sh(`cmp --bytes=${SIZE} ${server.path} /dev/zero`)).trim(), "");
});

test("zeroes on a file: NO_UNMAP keeps the space, the other kind may free it, a discard frees it", async (t) => {
  await sh("mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && dd if=/dev/urandom of=/mnt/data bs=1M count=32 conv=fsync");
  const allocated = async (): Promise<number> => Number(await sh("sync -f /mnt; stat --format=%b /mnt/data")) * 512;
  try {
    await using server = await new Server(fileVolume("/mnt/data")).start();
    const full = await allocated();
    // BLKZEROOUT asks for NO_UNMAP; fallocate --punch-hole for zeroes that may free the space.
    await sh(`blkdiscard --zeroout --offset 0 --length 8M ${server.path}`);
    t.true((await allocated()) >= full);
    await sh(`cmp --bytes=${8 * MIB} ${server.path} /dev/zero`);
    await sh(`fallocate --punch-hole --offset 8M --length 8M ${server.path}`);
    const punched = await allocated();
    // The file system may need a block or two more to describe the hole.
    t.true(punched <= full - 8 * MIB + SLACK, `${punched} of ${full}`);
    await sh(`cmp --ignore-initial=${8 * MIB}:0 --bytes=${8 * MIB} ${server.path} /dev/zero`);
    await sh(`blkdiscard --offset 16M --length 8M ${server.path}`);
    t.true((await allocated()) <= punched - 8 * MIB + SLACK);
  } finally {
    await sh("umount /mnt");
  }
});
