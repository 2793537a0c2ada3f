/** When a write or a flush of a mirrored volume is answered: in each mode, with the link and without it. */
import test from "ava";
import { Places } from "../../src/nvram/places.ts";
import { DirtyBlocks, dirtyBlocksBytes } from "../../src/targets/mirror/dirty-blocks.ts";
import { MirrorTarget } from "../../src/targets/mirror/mirror-target.ts";
import type { MirrorMode, MirrorPolicy } from "../../src/targets/mirror/modes.ts";
import { OwedChunks } from "../../src/targets/mirror/owed-chunks.ts";
import { transferRingBytes, TransferWriter } from "../../src/targets/mirror/transfer-ring.ts";
import type { Io } from "../../src/ublk/io.ts";
import { Operation, Request } from "../../src/ublk/request.ts";

const DEPTH = 4;
const SIZE = { slots: 16, dataBytes: 2 ** 20 };
const CAPACITY = 10;
const GEOMETRY = { volumeSectors: 800, blockSectors: 8 };

/** A mirror over a store that does at once what it is told; `answers` grow with each answer. */
class Volume {
  readonly target: MirrorTarget;
  readonly writer: TransferWriter;
  readonly answers: string[] = [];
  readonly #requests = Array.from({ length: DEPTH }, (_, slot) => new Request(slot, new Uint8Array(4096), 0));
  #endBatch: () => void = () => undefined;
  #next = 0;

  constructor(mode: MirrorMode, policy: MirrorPolicy) {
    this.writer = new TransferWriter(new SharedArrayBuffer(transferRingBytes(SIZE)), SIZE, { number: 1, sequence: 1 });
    const half = (): DirtyBlocks =>
      new DirtyBlocks(new ArrayBuffer(dirtyBlocksBytes(CAPACITY)), { capacity: CAPACITY, ...GEOMETRY });
    const ring = { memory: (length: number) => ({ address: 0, buffer: new ArrayBuffer(length) }) } as unknown as Io;
    this.target = new MirrorTarget(
      {
        writer: this.writer,
        halves: [half(), half()],
        owed: new OwedChunks(new Places({ chunks: 100 })),
        chunkBytes: 4096,
        mode,
        policy,
      },
      {
        submit: (request) => {
          request.succeed();
        },
      },
      {
        limits: undefined as never,
        depth: DEPTH,
        ring,
        useFile: () => 0,
        afterBatch: (callback) => {
          this.#endBatch = callback;
        },
      },
    );
  }

  ask(name: string, operation: Operation, block = 0): void {
    const request = this.#requests[this.#next++ % DEPTH] as Request;
    request.operation = operation;
    request.offset = operation === Operation.FLUSH ? 0 : block * 4096;
    request.length = operation === Operation.FLUSH ? 0 : 4096;
    request.pass(this.target, {
      answered: (_request, result) => {
        this.answers.push(result < 0 ? `${name} ${result}` : name);
      },
    });
    this.#endBatch();
  }

  /** What was answered since the last time. */
  answered(): string[] {
    return this.answers.splice(0);
  }
}

function linked(mode: MirrorMode, policy: MirrorPolicy = "continue"): Volume {
  const volume = new Volume(mode, policy);
  volume.target.startLogging(() => undefined);
  volume.target.isLinked = true;
  volume.target.acknowledged(1, 1);
  volume.target.endPoint(true, true);
  return volume;
}

test("async: at once, whatever the remote has", (t) => {
  const volume = linked("async");
  volume.ask("write", Operation.WRITE);
  volume.ask("flush", Operation.FLUSH);
  t.deepEqual(volume.answered(), ["write", "flush"]);
});

test("memory: a write when the remote has it, a flush when what was answered before is durable there", (t) => {
  const volume = linked("memory");
  volume.ask("first", Operation.WRITE);
  t.deepEqual(volume.answered(), []);
  volume.writer.close();
  volume.ask("second", Operation.WRITE, 1);
  volume.target.acknowledged(2, 1);
  t.deepEqual(volume.answered(), ["first"]);
  volume.writer.close();
  volume.target.acknowledged(3, 1);
  t.deepEqual(volume.answered(), ["second"]);
  volume.ask("flush", Operation.FLUSH);
  volume.target.acknowledged(3, 2);
  t.deepEqual(volume.answered(), []);
  volume.target.acknowledged(3, 3);
  t.deepEqual(volume.answered(), ["flush"]);
});

test("held back: no write goes on that comes, reads and flushes do, and all in their order afterwards", (t) => {
  const volume = linked("async");
  volume.ask("before", Operation.WRITE);
  volume.target.isHeldBack = true;
  const held = volume.writer.open;
  volume.ask("first", Operation.WRITE);
  volume.ask("read", Operation.READ);
  volume.ask("flush", Operation.FLUSH);
  volume.target.policy = "stop";
  volume.target.policy = "continue";
  t.deepEqual(volume.answered(), ["before", "read", "flush"]);
  let endTransfer = 0;
  volume.target.cut((cut) => (endTransfer = cut.endTransfer));
  volume.target.isHeldBack = false;
  t.deepEqual(volume.answered(), ["first"]);
  volume.writer.close();
  t.is(endTransfer, held + 1);
  t.is(volume.writer.open, endTransfer + 1, "what was held back is in none of the transfers of the point");
});

test("sync: a write when it is durable there, and a flush at once", (t) => {
  const volume = linked("sync");
  volume.ask("write", Operation.WRITE);
  volume.writer.close();
  volume.target.acknowledged(2, 1);
  t.deepEqual(volume.answered(), []);
  volume.target.acknowledged(2, 2);
  t.deepEqual(volume.answered(), ["write"]);
  volume.ask("flush", Operation.FLUSH);
  t.deepEqual(volume.answered(), ["flush"]);
  volume.ask("discard", Operation.DISCARD);
  t.deepEqual(volume.answered(), []);
});

test("the link goes down: with the policy to go on all is answered, else it waits for the link", (t) => {
  for (const policy of ["continue", "stop"] as const) {
    const volume = linked("sync", policy);
    volume.ask("write", Operation.WRITE);
    volume.target.isLinked = false;
    volume.ask("later", Operation.WRITE, 1);
    const isGoingOn = policy === "continue";
    t.deepEqual(volume.answered(), isGoingOn ? ["write", "later"] : []);
    volume.target.isLinked = true;
    volume.writer.close();
    volume.target.acknowledged(2, 2);
    t.deepEqual(volume.answered(), isGoingOn ? [] : ["write", "later"]);
  }
});

test("a change of the mode holds for what waits already", (t) => {
  const volume = linked("sync");
  volume.ask("write", Operation.WRITE);
  volume.target.mode = "async";
  t.deepEqual(volume.answered(), ["write"]);
  t.is(volume.target.mode, "async");
});

test("without a log: going on, a write is told to be copied; else it waits for one", (t) => {
  const going = new Volume("sync", "continue");
  going.ask("write", Operation.WRITE);
  t.deepEqual(going.answered(), ["write"]);
  const waiting = new Volume("sync", "stop");
  waiting.ask("write", Operation.WRITE);
  t.deepEqual(waiting.answered(), []);
  waiting.target.isLinked = true;
  waiting.target.startLogging(() => undefined);
  waiting.writer.close();
  waiting.target.acknowledged(2, 2);
  t.deepEqual(waiting.answered(), [], "what is to be copied is missing there");
  waiting.target.endPoint(true, false);
  t.deepEqual(waiting.answered(), []);
  waiting.target.cut(() => undefined);
  waiting.target.endPoint(true, true);
  t.deepEqual(waiting.answered(), ["write"]);
});

test("the log overflows while the remote is waited for: a write that is in no log waits until the link is known to be down", (t) => {
  for (const mode of ["memory", "sync"] as const) {
    const volume = linked(mode);
    for (let block = 0; block <= CAPACITY; block++) volume.ask(`write ${block}`, Operation.WRITE, block);
    t.false(volume.target.isLogging);
    t.deepEqual(volume.answered(), []);
    volume.target.isLinked = false;
    t.is(volume.answered().length, CAPACITY + 1);
  }
});

test("blocks that have to travel are bounded by what the receiver takes, with those of the point that was cut", (t) => {
  const volume = new Volume("async", "stop");
  volume.target.startLogging(() => undefined, 3);
  volume.target.endPoint(true, false);
  const part = (block: number): void => volume.ask(`part of ${block}`, Operation.WRITE, block + 0.5);
  part(0);
  part(4);
  t.deepEqual(volume.answered(), ["part of 0"], "each touches two blocks in part");
  volume.target.cut(() => undefined);
  part(8);
  t.deepEqual(volume.answered(), [], "what was cut may come back");
  volume.target.endPoint(true, true);
  t.deepEqual(volume.answered(), ["part of 4"]);
});

test("the log is full of blocks: going on it overflows, else the host waits until a point has made room", (t) => {
  const going = linked("async");
  let overflows = 0;
  going.target.whenOverflowed = () => overflows++;
  for (let block = 0; block <= CAPACITY; block++) going.ask("write", Operation.WRITE, block);
  t.is(going.answered().length, CAPACITY + 1);
  t.is(overflows, 1);
  t.false(going.target.isLogging);

  const waiting = linked("async", "stop");
  for (let block = 0; block < CAPACITY; block++) waiting.ask("write", Operation.WRITE, block);
  waiting.answered();
  waiting.ask("late", Operation.WRITE, CAPACITY);
  t.deepEqual(waiting.answered(), []);
  waiting.target.cut(() => undefined);
  t.deepEqual(waiting.answered(), [], "what was cut may come back");
  waiting.target.endPoint(true, true);
  t.deepEqual(waiting.answered(), ["late"]);
});
