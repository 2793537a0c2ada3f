// vm-kernel: 7.2
/** The instruments as ordinary targets, read-only volumes, and handlers that promise. */
import { readFile, rm } from "node:fs/promises";
import test from "ava";
import { createDevice } from "../../src/ublk/index.ts";
import { fileVolume, image, MIB, Server, sh, tried } from "./support.ts";

const SIZE = 64 * MIB;
const ALWAYS = { kind: "error", rate: 1, seed: 1, operations: null, range: null } as const;

test("error on a range: exactly the requests that touch it fail, with exactly that errno", async (t) => {
  const range = { offsetBytes: MIB, lengthBytes: 4096 };
  const volume = fileVolume(await image("error", SIZE), { filters: [{ ...ALWAYS, errno: "ENOSPC", range }] });
  await using server = await new Server(volume).start();
  const write = (offset: number): Promise<{ code: number; output: string }> =>
    tried(`dd if=/dev/zero of=${server.path} bs=4096 count=1 seek=${offset / 4096} oflag=direct`);
  t.is((await write(MIB - 4096)).code, 0);
  t.regex((await write(MIB)).output, /No space left on device/);
  t.is((await write(MIB + 4096)).code, 0);
  const spanning = await tried(`dd if=${server.path} of=/dev/null bs=64k count=1 skip=16 iflag=direct`);
  t.regex(spanning.output, /No space left on device/);
});

for (const [errno, text] of [
  ["EIO", /Input\/output error/],
  ["ETIMEDOUT", /Connection timed out/],
  ["EOPNOTSUPP", /Operation not supported/],
] as const) {
  test(`error: ${errno} reaches the host as itself`, async (t) => {
    const volume = fileVolume(await image("errno", SIZE), { filters: [{ ...ALWAYS, errno, operations: ["read"] }] });
    await using server = await new Server(volume).start();
    t.regex((await tried(`dd if=${server.path} of=/dev/null bs=4k count=1 iflag=direct`)).output, text);
    t.is((await tried(`dd if=/dev/zero of=${server.path} bs=4k count=1 oflag=direct`)).code, 0);
  });
}

test("error below a file system: ext4 sees it, and the daemon goes on serving", async (t) => {
  const volume = fileVolume(await image("fs-error", SIZE), {
    filters: [{ ...ALWAYS, errno: "EIO", operations: ["write"], range: { offsetBytes: 0, lengthBytes: 4096 } }],
  });
  await using server = await new Server(volume).start();
  t.not((await tried(`mkfs.ext4 -q ${server.path}`)).code, 0);
  t.is((await tried(`dd if=${server.path} of=/dev/null bs=64k count=4 iflag=direct`)).code, 0);
});

test("delay: a file system works over it, and requests wait as long as they should", async (t) => {
  const volume = fileVolume(await image("delay", SIZE), {
    filters: [{ kind: "delay", delayMs: 20, operations: null }],
  });
  await using server = await new Server(volume).start();
  await sh(
    `mkfs.ext4 -q -E nodiscard,lazy_itable_init=0 ${server.path} && mount ${server.path} /mnt && cp -r src/targets /mnt/ && umount /mnt`,
  );
  await sh(`fsck.ext4 -fn ${server.path}`);
  const start = performance.now();
  await sh(`dd if=${server.path} of=/dev/null bs=4k count=20 iflag=direct`);
  t.true(performance.now() - start >= 20 * 20, "20 requests, one after another, each at least 20 ms");
});

test("trace: each request is a line with what it was and how it was answered", async (t) => {
  const path = "/dev/shm/trace.txt";
  await rm(path, { force: true });
  const volume = fileVolume(await image("traced", SIZE), { filters: [{ kind: "trace", path }] });
  {
    await using server = await new Server(volume).start();
    await sh(`dd if=/dev/zero of=${server.path} bs=8k count=3 seek=5 oflag=direct,dsync`);
  }
  const lines = (await readFile(path, "utf8")).split("\n");
  for (const offset of [40960, 49152, 57344]) {
    t.is(lines.filter((line) => line.includes(` write ${offset} 8192 `) && line.endsWith(" 8192")).length, 1);
  }
});

test("read-only: the host cannot write, and can read and mount", async (t) => {
  const path = await image("readonly", SIZE);
  await sh(`mkfs.ext4 -q ${path}`);
  await using server = await new Server(fileVolume(path, { readOnly: true })).start();
  t.is((await sh(`blockdev --getro ${server.path}`)).trim(), "1");
  t.not((await tried(`dd if=/dev/zero of=${server.path} bs=4k count=1 oflag=direct`)).code, 0);
  await sh(`mount -o ro ${server.path} /mnt && ls /mnt/lost+found && umount /mnt`);
});

test("handlers that promise: a file system on them, and what they throw is what the host sees", async (t) => {
  const bytes = new Uint8Array(SIZE);
  const seen: string[] = [];
  await using device = await createDevice(
    {
      size: SIZE,
      read: (offset, length) => bytes.subarray(offset, offset + length),
      write: (offset, data) => bytes.set(data, offset),
      flush: () => undefined,
      discard: () => {
        throw Object.assign(new Error("not today"), { code: "ENOSPC" });
      },
    },
    { onError: (_error, { operation }) => void seen.push(operation) },
  );
  await sh(`mkfs.ext4 -q ${device.path} && mount ${device.path} /mnt && cp -r src /mnt/ && umount /mnt`);
  await sh(`fsck.ext4 -fn ${device.path} && mount ${device.path} /mnt && diff -r src /mnt/src && umount /mnt`);
  t.regex((await tried(`blkdiscard --force ${device.path}`)).output, /No space left on device/);
  t.true(seen.includes("discard"));
  const statistics = device.statistics();
  t.true(statistics.write.count > 0);
  t.true(statistics.discard.errors > 0);
});

test("handlers that give too little: the request fails, the next one is served", async (t) => {
  let short = true;
  await using device = await createDevice({
    size: SIZE,
    read: (_offset, length) => new Uint8Array(short ? length - 1 : length),
  });
  t.regex((await tried(`dd if=${device.path} of=/dev/null bs=4k count=1 iflag=direct`)).output, /Input\/output error/);
  short = false;
  t.is((await tried(`dd if=${device.path} of=/dev/null bs=4k count=1 iflag=direct`)).code, 0);
});
