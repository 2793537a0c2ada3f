// vm: --disk 64M --disk 512M
/**
 * Acknowledged is kept (R5): a recorder under the backing store (dm-log-writes) knows what would have survived a power
 * cut at any moment. At each mark, set after a flush or a FUA write was acknowledged to the host, everything that was
 * acknowledged before must be in what survives.
 */
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import test, { type ExecutionContext } from "ava";
import { openVolume } from "../../src/targets/volume.ts";
import { Device } from "../../src/ublk/device.ts";
import { MappedMemory } from "../../src/ublk/memory.ts";
import { fileVolume, MIB, sh, tried } from "./support.ts";
import { readLog } from "./log-writes.ts";

const BLOCK = 4096;
const BLOCKS = 512;
const ROUNDS = 24;
const WRITES_PER_ROUND = 12;

/** Writes stamped blocks, makes them durable in one of two ways, and marks each such moment in the log. */
async function load(path: string, way: "flush" | "fua"): Promise<Map<string, Map<number, number>>> {
  using memory = MappedMemory.anonymous(BLOCK);
  const block = Buffer.from(memory.buffer);
  const flags = constants.O_RDWR | constants.O_DIRECT | (way === "fua" ? constants.O_DSYNC : 0);
  const file = await open(path, flags);
  const promised = new Map<string, Map<number, number>>();
  const written = new Map<number, number>();
  let stamp = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (let write = 0; write < WRITES_PER_ROUND; write++) {
      stamp++;
      const at = (stamp * 7919) % BLOCKS;
      for (let word = 0; word < BLOCK / 4; word++) block.writeUInt32LE(stamp, word * 4);
      await file.write(block, 0, BLOCK, at * BLOCK);
      written.set(at, stamp);
    }
    if (way === "flush") await file.sync();
    const mark = `${way}-${round}`;
    await sh(`dmsetup message recorder 0 mark ${mark}`);
    promised.set(mark, new Map(written));
  }
  await file.close();
  return promised;
}

/** Replays the log; gives the promises that would have been broken by a power cut at their mark. */
async function broken(log: FileHandle, promised: Map<string, Map<number, number>>): Promise<string[]> {
  const survived = new Map<number, number>();
  const faults: string[] = [];
  let marks = 0;
  for await (const entry of readLog(log)) {
    if (entry.kind === "write") {
      for (let done = 0; done + BLOCK <= entry.length; done += BLOCK) {
        survived.set((entry.offset + done) / BLOCK, entry.data.readUInt32LE(done));
      }
    } else if (entry.kind === "mark") {
      const name = entry.data.toString().replace(/\0+$/, "");
      for (const [at, stamp] of promised.get(name) ?? []) {
        if (survived.get(at) !== stamp) faults.push(`${name}: block ${at} has ${survived.get(at)}, wanted ${stamp}`);
      }
      if (promised.has(name)) marks++;
    }
  }
  if (marks !== promised.size) faults.push(`the log has ${marks} marks, wanted ${promised.size}`);
  return faults;
}

async function cutEverywhere(t: ExecutionContext, way: "flush" | "fua", module?: string): Promise<string[]> {
  await sh("modprobe dm-log-writes; dd if=/dev/zero of=/dev/vdb bs=1M count=1 conv=fsync");
  const sectors = Number(await sh("blockdev --getsz /dev/vda"));
  await sh(`dmsetup create recorder --table "0 ${sectors} log-writes /dev/vda /dev/vdb"`);
  t.teardown(async () => {
    await tried("dmsetup remove recorder");
  });
  const volume = await openVolume(fileVolume("/dev/mapper/recorder"));
  const source = module === undefined ? volume.source : { ...volume.source, module };
  const device = await Device.create({ limits: volume.limits, source });
  const promised = await load(device.path, way);
  await device.stop();
  await volume[Symbol.asyncDispose]();
  await sh("dmsetup remove recorder");
  const log = await open("/dev/vdb");
  const faults = await broken(log, promised);
  await log.close();
  return faults;
}

test("every prefix of the log at a flush holds all that was acknowledged before it", async (t) => {
  t.deepEqual(await cutEverywhere(t, "flush"), []);
});

test("every write with FUA is in the log when it is acknowledged", async (t) => {
  t.deepEqual(await cutEverywhere(t, "fua"), []);
});

test("a target that lies about flushes is found out", async (t) => {
  const lying = new URL("./targets/lying.ts", import.meta.url).href;
  t.true((await cutEverywhere(t, "flush", lying)).length > 0);
});

test("a target that lies about FUA is found out", async (t) => {
  const lying = new URL("./targets/lying.ts", import.meta.url).href;
  t.true((await cutEverywhere(t, "fua", lying)).length > 0);
});

test("ext4 on the device survives a cut at every flush: fsck and its journal agree", async (t) => {
  await sh("modprobe dm-log-writes; dd if=/dev/zero of=/dev/vdb bs=1M count=1 conv=fsync");
  const sectors = (48 * MIB) / 512;
  await sh(`blkdiscard -z -f /dev/vda; dmsetup create recorder --table "0 ${sectors} log-writes /dev/vda /dev/vdb"`);
  const volume = await openVolume(fileVolume("/dev/mapper/recorder"));
  const device = await Device.create({ limits: volume.limits, source: volume.source });
  await sh(`mkfs.ext4 -q -E lazy_itable_init=0 ${device.path} && dmsetup message recorder 0 mark made`);
  await sh(`mount ${device.path} /mnt`);
  const files = 8;
  for (let index = 0; index < files; index++) {
    await sh(`echo content-${index} > /mnt/file-${index} && sync /mnt/file-${index} && sync /mnt`);
    await sh(`dmsetup message recorder 0 mark file-${index}`);
  }
  await sh("umount /mnt; modprobe loop");
  await device.stop();
  await volume[Symbol.asyncDispose]();
  await sh("dmsetup remove recorder; truncate --size=48M /dev/shm/replay");
  const log = await open("/dev/vdb");
  const replay = await open("/dev/shm/replay", "r+");
  let checked = 0;
  for await (const entry of readLog(log)) {
    if (entry.kind === "write") await replay.write(entry.data, 0, entry.length, entry.offset);
    if (entry.kind === "discard") await replay.write(Buffer.alloc(entry.length), 0, entry.length, entry.offset);
    if (entry.kind !== "mark" || !entry.data.toString().startsWith("file-")) continue;
    await sh("cp /dev/shm/replay /dev/shm/cut; e2fsck -fy /dev/shm/cut > /dev/null || test $? -le 1");
    await sh("mount -o loop /dev/shm/cut /mnt");
    for (let index = 0; index <= checked; index++) t.is(await sh(`cat /mnt/file-${index}`), `content-${index}\n`);
    await sh("umount /mnt");
    checked++;
  }
  t.is(checked, files);
  await replay.close();
  await log.close();
});
