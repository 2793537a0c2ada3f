// vm: --disk 256M --disk 1G
// vm-kernel: 7.2
/**
 * Power cuts of either side. A recorder under the file system of all that it keeps (dm-log-writes) knows what would have survived
 * one at any moment: a receiver is started from that, and promoted, or goes on with its source; a source goes on with its receiver.
 *
 * One write follows the other, so that what the volume was at any time is told by how many there had been.
 */
import { constants } from "node:fs";
import { open, readFile, writeFile, type FileHandle } from "node:fs/promises";
import test from "ava";
import { askMirror, askMirrorChange, askMirrorPoint } from "../../src/control/client.ts";
import type { Promoted } from "../../src/control/receive-status.ts";
import { MappedMemory } from "../../src/ublk/memory.ts";
import { configure, Daemon } from "./daemon.ts";
import { readLog } from "./log-writes.ts";
import { Remote, REMOTE } from "./remote.ts";
import { image, MIB, sh, until } from "./support.ts";

const VOLUME = "cut";
const SOURCE = "lost";
/** Where a source keeps what it has to know; here all of it. */
const STATE = "/var/lib/sluice";
const SIZE = 8 * MIB;
const BLOCK = 4096;
const BLOCKS = SIZE / BLOCK;
const ROUNDS = 3;
const WRITES_PER_ROUND = 16;
const FOLDER = Remote.path("");
const IMAGE = Remote.path(`${VOLUME}.path`);

/** Of which write a block is. */
const blockOf = (write: number): number => (write * 7919) % BLOCKS;

/** Writes that follow each other, each known by its number; the next one begins when the last one was answered. */
class Writer {
  readonly #file: FileHandle;
  readonly #memory = MappedMemory.anonymous(BLOCK);
  readonly #block = Buffer.from(this.#memory.buffer);
  answered = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async write(count: number): Promise<void> {
    for (const end = this.answered + count; this.answered < end; this.answered++) {
      const write = this.answered + 1;
      for (let word = 0; word < BLOCK / 4; word++) this.#block.writeUInt32LE(write, word * 4);
      await this.#file.write(this.#block, 0, BLOCK, blockOf(write) * BLOCK);
    }
  }

  /** Notes in the recorder that so many were answered. */
  async mark(mode: string): Promise<void> {
    await sh(`dmsetup message recorder 0 mark ${mode}-${this.answered}`);
  }

  async close(): Promise<void> {
    await this.#file.close();
    this.#memory[Symbol.dispose]();
  }
}

/** What is written to this folder from now on is recorded. */
async function record(folder: string): Promise<void> {
  const sectors = Number(await sh("modprobe -a dm-log-writes loop; blockdev --getsz /dev/vda"));
  await sh(`dmsetup create recorder --table "0 ${sectors} log-writes /dev/vda /dev/vdb"; mkdir -p ${folder}`);
  await sh("mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/recorder");
  // The file system flushes nothing by itself.
  await sh(`mount -o commit=3600 /dev/mapper/recorder ${folder}`);
}

/** Ends the record of a folder, and does it again: /dev/shm/replay is what a power cut would have left at each mark. */
async function replay(folder: string, atMark: (mark: string) => Promise<void>): Promise<void> {
  await sh(`umount ${folder}; dmsetup remove recorder; rm -f /dev/shm/replay; truncate --size=256M /dev/shm/replay`);
  const log = await open("/dev/vdb");
  const disk = await open("/dev/shm/replay", "r+");
  for await (const entry of readLog(log)) {
    if (entry.kind === "write") await disk.write(entry.data, 0, entry.length, entry.offset);
    if (entry.kind === "discard") throw new Error("nothing is discarded here");
    const [mark] = entry.kind === "mark" ? (/^\w+-\d+/.exec(entry.data.toString()) ?? []) : [];
    // The recorder's own mark, at the end of its log, is none of these.
    if (mark !== undefined) await atMark(mark);
  }
  await disk.close();
  await log.close();
}

async function mountLeft(folder: string): Promise<void> {
  await sh(`cp --sparse=always /dev/shm/replay /dev/shm/left && mount -o loop /dev/shm/left ${folder}`);
}

/** How many writes there had been when the volume was this; undefined where it never was. */
function writesIn(bytes: Buffer, most: number): number | undefined {
  const found = Array.from({ length: BLOCKS }, (_, block) => bytes.readUInt32LE(block * BLOCK));
  const writes = Math.max(...found);
  const wanted = new Uint32Array(BLOCKS);
  for (let write = 1; write <= Math.min(writes, most); write++) wanted[blockOf(write)] = write;
  const whole = Buffer.concat(found.map((stamp) => Buffer.from(new Uint32Array(BLOCK / 4).fill(stamp).buffer)));
  return bytes.equals(whole) && wanted.every((stamp, block) => stamp === found[block]) ? writes : undefined;
}

/** What a power cut has left, where the receiver has its files. */
async function restored<T>(remote: Remote, action: () => Promise<T>): Promise<T> {
  await mountLeft(FOLDER);
  await remote.start();
  const result = await action();
  await remote.end("SIGTERM");
  await sh(`umount ${FOLDER}`);
  return result;
}

async function promote(): Promise<Promoted> {
  const ask = `curl -s --unix-socket ${Remote.path("run/receive.sock")} -d '{"volume":"${VOLUME}","force":false}'`;
  const answer = JSON.parse(await sh(`${ask} http://x/v1/promote`)) as Promoted | { error: unknown };
  if ("error" in answer) throw new Error(JSON.stringify(answer));
  return answer;
}

test.before("the network", () => Remote.connect());

test.serial("a receiver that loses its power has what was answered, and each point that was told", async (t) => {
  await record(FOLDER);

  const path = await image(VOLUME, SIZE);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 30\ninterval = 0.5\nmode = "sync"`;
  await configure(VOLUME, `path = "${path}"\n[record]\nnvram = "/dev/shm/${VOLUME}.nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`bin/sluice nvram create ${VOLUME}`);
  const remote = await Remote.make(VOLUME, "clear", { size: "8MiB", store: "64MiB", log: "64MiB" });
  const there = `path = "${IMAGE}"\n[snapshots]\nstore = "${Remote.path(`${VOLUME}.store`)}"\n[record]\nnvram = "${Remote.path("nvram")}"`;
  await writeFile(Remote.path(`etc/${VOLUME}.toml`), `${there}\n`);
  await sh(`sync ${FOLDER}/etc/*.toml ${FOLDER}/etc`);
  await remote.start();
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  const isInStep = async (): Promise<boolean> => (await askMirror(VOLUME)).state === "in step";
  await until(isInStep);
  await askMirrorPoint(VOLUME);

  const writer = new Writer(await open(daemon.path, constants.O_RDWR | constants.O_DIRECT));
  for (let round = 0; round < ROUNDS; round++) {
    await writer.write(WRITES_PER_ROUND);
    await writer.mark("sync");
  }
  t.true(await isInStep(), "the receiver was waited for");
  await askMirrorChange(VOLUME, "mode", { mode: "async" });
  for (let round = 0; round < ROUNDS; round++) {
    await writer.write(WRITES_PER_ROUND);
    t.true((await askMirrorPoint(VOLUME)).isClosed);
    await writer.mark("async");
  }
  await askMirrorChange(VOLUME, "pause");
  await remote.end("SIGTERM");
  const cuts: string[] = [];
  await replay(FOLDER, async (cut) => {
    cuts.push(cut);
    const answered = Number(cut.split("-")[1]);
    await restored(remote, async () => {
      t.false((await promote()).isRolledBack, cut);
      t.is(writesIn(await readFile(IMAGE), writer.answered), answered, cut);
    });
    // At the middle one of each mode.
    if (answered % (ROUNDS * WRITES_PER_ROUND) !== 2 * WRITES_PER_ROUND) return;
    await restored(remote, async () => {
      await askMirrorChange(VOLUME, "resume");
      await until(isInStep);
      await writer.write(1);
      t.true((await askMirrorPoint(VOLUME)).isClosed, cut);
      // The image is brought to a point when it is committed.
      await until(async () => writesIn(await readFile(IMAGE), writer.answered) === writer.answered);
      await askMirrorChange(VOLUME, "pause");
    });
  });
  t.is(cuts.length, 2 * ROUNDS);
  await writer.close();
  await daemon.end("SIGTERM");
});

test.serial("a source that loses its power lacks what was not flushed, and so does the remote", async (t) => {
  const remote = await Remote.make(SOURCE, "clear", { size: "8MiB", store: "64MiB", log: "64MiB" });
  // Before anything is mounted that is unmounted later: a receiver has the mounts that there were when it began.
  await remote.start();
  await record(STATE);
  const path = `${STATE}/data`;
  await sh(`dd if=/dev/zero of=${path} bs=1M count=8 conv=fsync status=none`);
  const mirror = `[mirror]\nto = "${REMOTE}"\ntransport = "clear"\nlog = "4MiB"\nsilence = 30\ninterval = 3600\nmode = "sync"`;
  await configure(SOURCE, `path = "${path}"\n[record]\nnvram = "${STATE}/nvram"\nlimit = "16MiB"\n${mirror}`);
  await sh(`bin/sluice nvram create ${SOURCE}`);
  const daemon = new Daemon(SOURCE);
  await daemon.start();
  const isInStep = async (): Promise<boolean> => (await askMirror(SOURCE)).state === "in step";
  await until(isInStep);
  // All places are in the record: noting them flushes nothing below.
  await sh(`dd if=/dev/zero of=${daemon.path} bs=1M count=8 oflag=direct status=none`);

  const file = await open(daemon.path, constants.O_RDWR | constants.O_DIRECT);
  const writer = new Writer(file);
  await writer.write(WRITES_PER_ROUND);
  await file.datasync();
  const flushed = writer.answered;
  await writer.write(WRITES_PER_ROUND);
  t.true(await isInStep(), "the receiver was waited for, and has more than what is left here");
  await writer.mark("source");
  await daemon.end("SIGKILL");
  await replay(STATE, async () => {
    await mountLeft(STATE);
  });

  await daemon.start();
  await until(isInStep);
  t.true((await askMirrorPoint(SOURCE)).isClosed);
  const left = Buffer.from(await readFile(daemon.path));
  const stampOf = (write: number): number => left.readUInt32LE(blockOf(write) * BLOCK);
  const isThere = (write: number): boolean => stampOf(write) === write;
  const writes = Array.from({ length: writer.answered }, (_, index) => index + 1);
  t.true(writes.slice(0, flushed).every(isThere), "what was flushed is there");
  // Whatever has the file system flush makes all of it durable that came before.
  t.log(`${writes.filter((write) => !isThere(write)).length} of ${writes.length} writes were lost`);
  await until(async () => left.equals(await readFile(Remote.path(`${SOURCE}.path`))));
  await writer.close();
  await daemon.end("SIGTERM");
  await remote.end("SIGTERM");
});
