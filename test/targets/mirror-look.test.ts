/** What a source says of blocks that are to be compared with what the remote has: which of them are on their way to it. */
import test from "ava";
import { Places } from "../../src/nvram/places.ts";
import { DirtyBlocks, dirtyBlocksBytes } from "../../src/targets/mirror/dirty-blocks.ts";
import { MirrorTarget } from "../../src/targets/mirror/mirror-target.ts";
import { OwedChunks } from "../../src/targets/mirror/owed-chunks.ts";
import { transferRingBytes, TransferWriter } from "../../src/targets/mirror/transfer-ring.ts";
import type { Io } from "../../src/ublk/io.ts";
import { Operation, Request } from "../../src/ublk/request.ts";

const SIZE = { slots: 16, dataBytes: 2 ** 20 };
const CAPACITY = 10;
const GEOMETRY = { volumeSectors: 8 * 99 + 3, blockSectors: 8 };
/** Two blocks. */
const CHUNK_BYTES = 8192;

/** A mirror over a store that does writes at once, and reads when it is told. */
class Volume {
  readonly target: MirrorTarget;
  readonly owed = new OwedChunks(new Places({ chunks: 50 }));
  readonly #reads: Request[] = [];
  readonly #request = new Request(0, new Uint8Array(4096), 0);

  constructor() {
    const writer = new TransferWriter(new SharedArrayBuffer(transferRingBytes(SIZE)), SIZE, { number: 1, sequence: 1 });
    const half = (): DirtyBlocks =>
      new DirtyBlocks(new ArrayBuffer(dirtyBlocksBytes(CAPACITY)), { capacity: CAPACITY, ...GEOMETRY });
    const ring = { memory: (length: number) => ({ address: 0, buffer: new ArrayBuffer(length) }) } as unknown as Io;
    this.target = new MirrorTarget(
      { writer, halves: [half(), half()], owed: this.owed, chunkBytes: CHUNK_BYTES, mode: "async", policy: "continue" },
      {
        submit: (request) => {
          if (request.operation === Operation.READ) this.#reads.push(request);
          else request.succeed();
        },
      },
      { limits: undefined as never, depth: 1, ring, useFile: () => 0, afterBatch: () => undefined },
    );
    this.target.startLogging(() => undefined);
    this.target.endPoint(true, true);
  }

  write(block: number): void {
    this.#request.operation = Operation.WRITE;
    this.#request.offset = block * 4096;
    this.#request.length = 512;
    this.#request.pass(this.target, { answered: () => undefined });
  }

  get reads(): number {
    return this.#reads.length;
  }

  read(result?: number): void {
    const request = this.#reads.shift();
    request?.answer(result ?? request.length);
  }

  /** Of the ten blocks from `block` on, those that are on their way, once they are read. */
  look(block: number): { onTheirWay: number[] | undefined } {
    const seen: { onTheirWay: number[] | undefined } = { onTheirWay: undefined };
    this.target.look(block * 8, 80, (_result, _bytes, bits) => {
      seen.onTheirWay = Array.from({ length: 10 }, (_, index) => index)
        .filter((index) => ((bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0)
        .map((index) => block + index);
    });
    return seen;
  }
}

test("on its way is what was written since the last point that is committed, and what is to be copied", (t) => {
  const volume = new Volume();
  const { target, owed } = volume;
  volume.write(3);
  const before = volume.look(0);
  volume.write(5);
  t.is(before.onTheirWay, undefined);
  volume.read();
  t.deepEqual(before.onTheirWay, [3, 5], "also what was written while it was read");

  target.cut(() => undefined);
  volume.write(8);
  const cut = volume.look(0);
  volume.read();
  t.deepEqual(cut.onTheirWay, [3, 5, 8], "a point that was cut is not there yet");

  target.endPoint(true, true);
  const committed = volume.look(0);
  volume.read();
  t.deepEqual(committed.onTheirWay, [8]);

  owed.unlogged(1, 1);
  const copied = volume.look(0);
  volume.read();
  t.deepEqual(copied.onTheirWay, [2, 3, 8], "all blocks of a chunk");
});

test("what was read before a point that the remote has by now is read again", (t) => {
  const volume = new Volume();
  const seen = volume.look(0);
  volume.write(3);
  volume.target.cut(() => undefined);
  volume.target.endPoint(true, true);
  volume.read();
  t.is(seen.onTheirWay, undefined, "block 3 may have been read as it was before");
  t.is(volume.reads, 1);
  volume.read();
  t.deepEqual(seen.onTheirWay, []);
});

test("a point that is not committed changes nothing of what is on its way", (t) => {
  const volume = new Volume();
  volume.write(3);
  volume.target.cut(() => undefined);
  const seen = volume.look(0);
  volume.target.endPoint(false, false);
  volume.read();
  t.deepEqual(seen.onTheirWay, [3]);
});

test("who asks anew is answered in place of who asked before", (t) => {
  const volume = new Volume();
  const older = volume.look(0);
  const newer = volume.look(20);
  t.is(volume.reads, 1, "one part is read at a time");
  volume.read();
  volume.read();
  t.is(older.onTheirWay, undefined);
  t.deepEqual(newer.onTheirWay, []);
});
