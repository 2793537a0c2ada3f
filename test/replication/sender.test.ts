/** What a sender sends, and when: what was granted, and of the next point only so much that this one always has room. */
import test from "ava";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import { NO_GENERATIONS } from "../../src/replication/generations.ts";
import type { Welcome } from "../../src/replication/handshake.ts";
import {
  ACK_BYTES,
  chargeOf,
  encodeAck,
  encodePointCommitted,
  POINT_COMMITTED_BYTES,
  type Granted,
} from "../../src/replication/messages.ts";
import { decodeItems } from "../../src/replication/point-items.ts";
import { Sender, type LookDone, type SourceCut, type SourceVolume } from "../../src/replication/sender.ts";
import { limitsFor } from "../../src/replication/source-limits.ts";
import { encodeSumsReply } from "../../src/replication/sums.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
import { POINT_READS } from "../../src/targets/mirror/mirror-target.ts";
import type { ChunkRun } from "../../src/targets/mirror/owed-chunks.ts";
import { TransferReader, transferRingBytes, TransferWriter } from "../../src/targets/mirror/transfer-ring.ts";
import { newDirtyBlocks } from "./point-model.ts";

const GEOMETRY = { volumeSectors: 80_000, blockSectors: 8 } as const;
const CHUNK_SECTORS = 128;
const RING = { slots: 64, dataBytes: 2 ** 20 } as const;
const LOG_BYTES = 8 * 2 ** 20;
const BLOCK = new Uint8Array(4096);
const INCARNATION = 3;
const NO_GRANT = { transferBytes: 0, itemBytes: 0 };
const MUCH = { transferBytes: 2 ** 40, itemBytes: 2 ** 40 };

/** A sender that is connected, and has committed the first point of its log. */
class Bed {
  readonly sent: { readonly type: FrameType; readonly bytes: number; readonly payload: Uint8Array }[] = [];
  /** What the volume is to read: for a point, and to be compared. */
  readonly reads: { sector: number; sectors: number; done: (result: number, bytes: Uint8Array) => void }[] = [];
  readonly looks: { sector: number; sectors: number; done: LookDone }[] = [];
  readonly sender: Sender;
  readonly #writer: TransferWriter;
  readonly #granted: Granted;
  /** What the volume was asked to copy with each point, in chunks. */
  readonly copyChunks: number[] = [];
  nowMs = 0;
  /** How often it could not go on. */
  stuck = 0;
  #cut: ((cut: SourceCut | undefined) => void) | undefined;

  constructor(granted = MUCH, isComparing = false) {
    this.#granted = granted;
    const memory = new SharedArrayBuffer(transferRingBytes(RING));
    this.#writer = new TransferWriter(memory, RING, { number: 1, sequence: 1 });
    const volume: SourceVolume = {
      hostRequests: 0,
      awaitsMemory: false,
      restart: (_isFull, _partialsMax, done) => {
        const half = newDirtyBlocks(GEOMETRY, 8);
        done({ half, endTransfer: this.#writer.open, isClosed: true, copies: [] });
      },
      acknowledged: () => undefined,
      cut: (copyChunks, _isHeld, done) => {
        this.copyChunks.push(copyChunks);
        this.#cut = done;
      },
      read: (sector, sectors, done) => void this.reads.push({ sector, sectors, done }),
      look: (sector, sectors, done) => void this.looks.push({ sector, sectors, done }),
      hasRead: () => undefined,
      endPoint: () => undefined,
      lacks: () => undefined,
    };
    const ring = new TransferReader(memory, RING, INCARNATION);
    const parts = { volume, ring, incarnation: INCARNATION, geometry: GEOMETRY, chunkSectors: CHUNK_SECTORS };
    this.sender = new Sender(
      { ...parts, ringSize: RING, isComparing, nowMs: () => this.nowMs, later: () => undefined },
      { ready: () => undefined, committed: () => undefined, stuck: () => (this.stuck += 1) },
    );
    this.connect();
    this.commit(2);
  }

  connect(): void {
    const known = { lastTransfer: NO_TRANSFER, lastPoint: 0, logBytes: LOG_BYTES, generations: NO_GENERATIONS };
    const welcome: Welcome = { wants: "full", granted: this.#granted, ...known };
    this.sender.connect(welcome, (type, ...pieces) => {
      const payload = new Uint8Array(Buffer.concat(pieces));
      this.sent.push({ type, bytes: payload.length, payload });
    });
  }

  /** One write, in a transfer of its own, which is acknowledged as soon as it was sent; false where the log is full. */
  write(number: number): boolean {
    if (!this.log()) return false;
    this.acknowledge(Math.min(number, this.transfers.length));
    return true;
  }

  /** One write, of which the receiver says nothing. */
  log(): boolean {
    if (!this.#writer.appendData(0, BLOCK)) return false;
    this.#writer.close();
    this.sender.pump();
    return true;
  }

  /** `rested`: what has come when nothing was left to be done; undefined where something is. */
  acknowledge(counter: number, granted = this.#granted, rested?: Granted): void {
    const payload = new Uint8Array(ACK_BYTES);
    const last = counter === 0 ? NO_TRANSFER : { incarnation: INCARNATION, counter };
    const taken = rested ?? { transferBytes: 0, itemBytes: 0 };
    encodeAck(payload, { received: last, durable: last, granted, taken, isAtRest: rested !== undefined });
    this.sender.take(FRAME.ACK, payload);
  }

  /** The volume has done what it was asked: all that is logged by now belongs to the point. */
  cut(copies: readonly ChunkRun[] = []): void {
    const half = newDirtyBlocks(GEOMETRY, 8);
    this.#cut?.({ half, endTransfer: this.#writer.open, isClosed: copies.length === 0, copies });
  }

  /** The receiver has compared what it was asked to first, and these blocks of it differ. */
  compared(block: number, blocks: number, ...differing: readonly number[]): void {
    const differs = new Uint8Array(Math.ceil(blocks / 8));
    for (const each of differing) differs[each >>> 3] = (differs[each >>> 3] ?? 0) | (1 << (each & 7));
    this.sender.take(FRAME.SUMS_REPLY, encodeSumsReply({ block, blocks }, differs));
  }

  commit(point: number): void {
    const payload = new Uint8Array(POINT_COMMITTED_BYTES);
    encodePointCommitted(payload, point);
    this.sender.take(FRAME.POINT_COMMITTED, payload);
  }

  get transfers(): number[] {
    return this.sent.filter(({ type }) => type === FRAME.TRANSFER).map(({ bytes }) => bytes);
  }

  count(type: FrameType): number {
    return this.sent.filter((frame) => frame.type === type).length;
  }
}

test("of the next point so much is sent that it has room beside the one that is under way, and the rest with it", (t) => {
  const bed = new Bed();
  const { aheadBytes } = limitsFor(LOG_BYTES, RING, 4096, CHUNK_SECTORS * 512);
  let written = 0;
  while (bed.write(written + 1)) written++;
  const charges = bed.transfers.map(chargeOf);
  const sent = charges.reduce((sum, charge) => sum + charge, 0);
  t.true(sent <= aheadBytes);
  t.true(sent + (charges[0] ?? 0) > aheadBytes, "and no less");
  t.true(bed.sender.isFilling);
  t.true(written > charges.length, "the rest is in the log here");

  bed.sender.cut();
  bed.cut();
  t.is(bed.transfers.length, written, "what belongs to a point that was cut goes over whole");
  t.is(bed.count(FRAME.POINT_END), 2);
  t.false(bed.sender.isFilling);
});

test("a point is sent behind what belongs to it, and nothing that was not granted", (t) => {
  const bed = new Bed({ transferBytes: 0, itemBytes: 2 ** 20 });
  for (let number = 1; number <= 3; number++) t.true(bed.write(0));
  t.deepEqual(bed.transfers, [], "nothing is granted");
  bed.sender.cut();
  bed.cut();
  t.is(bed.count(FRAME.POINT_BEGIN), 1, "it waits for its transfers");
  const charge = chargeOf(512 + BLOCK.length);
  bed.acknowledge(0, { transferBytes: 2 * charge, itemBytes: 2 ** 20 });
  t.is(bed.transfers.length, 2);
  t.is(bed.count(FRAME.POINT_BEGIN), 1);
  bed.acknowledge(2, { transferBytes: 3 * charge, itemBytes: 2 ** 20 });
  t.is(bed.transfers.length, 3);
  t.is(bed.count(FRAME.POINT_BEGIN), 2);
  t.is(bed.sent.at(-1)?.type, FRAME.POINT_END);
});

test("a point that waits for room which only a point makes is stuck: nothing else is", (t) => {
  const charge = chargeOf(512 + BLOCK.length);
  const bed = new Bed({ transferBytes: charge, itemBytes: 0 });
  for (let number = 1; number <= 2; number++) bed.write(0);
  const rested = { transferBytes: charge, itemBytes: 0 };
  bed.acknowledge(1, rested, rested);
  t.is(bed.stuck, 0, "no point was cut: the next one makes room");
  bed.sender.cut();
  bed.acknowledge(1, rested);
  bed.cut();
  t.is(bed.stuck, 0, "the receiver is at work");
  bed.acknowledge(1, rested, { transferBytes: 0, itemBytes: 0 });
  t.is(bed.stuck, 0, "something is on its way to it");
  bed.acknowledge(1, rested, rested);
  t.is(bed.stuck, 1);
  bed.sender.beginAnew();
  t.is(bed.sent.at(-1)?.type, FRAME.POINT_END, "the log begins anew with a point that needs nothing");
  t.is(bed.transfers.length, 1);

  bed.commit(6);
  t.true(bed.log());
  bed.sender.cut();
  bed.cut();
  t.is(bed.stuck, 1, "what the point makes room for is still to be told");
  bed.acknowledge(1, rested, rested);
  t.is(bed.stuck, 2);
});

test("a limit holds copying up, and never points", (t) => {
  const bed = new Bed();
  // Two chunks in half a second.
  bed.sender.limitCopying(2 * CHUNK_SECTORS * 512 * 2);
  const copy = (count: number): void => {
    bed.sender.cut();
    bed.cut([{ first: 0, count }]);
    for (const { sectors, done } of bed.reads.splice(0)) done(0, new Uint8Array(sectors * 512));
    bed.commit(2 * bed.count(FRAME.POINT_END));
  };
  copy(2);
  copy(0);
  t.is(bed.sender.copyWaitMs, 500);
  bed.nowMs += 375;
  copy(0);
  bed.nowMs += 125;
  copy(1);
  bed.nowMs += 125;
  copy(0);
  bed.nowMs += 125;
  bed.sender.limitCopying(1);
  copy(1);
  bed.sender.limitCopying(null);
  copy(1);
  t.deepEqual(bed.copyChunks.slice(0, -1), [2, 0, 0, 2, 0, 1]);
  t.true((bed.copyChunks.at(-1) ?? 0) > 2);
});

test("a point that nobody has sent cannot be committed", (t) => {
  const bed = new Bed(NO_GRANT);
  t.throws(
    () => {
      bed.commit(4);
    },
    { code: "EPROTOCOL", message: /point 4 was not sent/ },
  );
});

test("what is copied is compared first: what differs is sent, and the point ends behind it", (t) => {
  const bed = new Bed(MUCH, true);
  bed.sender.cut();
  bed.cut([{ first: 2, count: 1 }]);
  const [read] = bed.reads;
  t.deepEqual([read?.sector, read?.sectors], [2 * CHUNK_SECTORS, CHUNK_SECTORS]);
  const bytes = new Uint8Array(16 * 4096).map((_, index) => Math.floor(index / 4096));
  read?.done(0, bytes);
  t.is(bed.count(FRAME.SUMS), 1);
  t.is(bed.count(FRAME.POINT_ITEMS), 0);
  t.is(bed.count(FRAME.POINT_END), 1, "that of the first point");
  bed.compared(32, 16, 2, 3, 9);
  const items = bed.sent.find(({ type }) => type === FRAME.POINT_ITEMS);
  const { runs, data } = decodeItems(items?.payload ?? new Uint8Array(0), GEOMETRY);
  t.deepEqual(
    runs.map(({ block, blocks }) => [block, blocks]),
    [
      [34, 2],
      [41, 1],
    ],
  );
  t.deepEqual([data[0], data[4096], data[8192]], [2, 3, 9]);
  t.is(bed.count(FRAME.POINT_END), 2);
  t.deepEqual(bed.sender.compareCounts.copied, { comparedBytes: 16 * 4096, equalBytes: 13 * 4096 });
});

test("no more is compared at once than may be without an answer, and no more is in memory", (t) => {
  const bed = new Bed(MUCH, true);
  bed.sender.cut();
  bed.cut([{ first: 0, count: 100 }]);
  for (let read = bed.reads.shift(); read !== undefined; read = bed.reads.shift()) {
    read.done(0, new Uint8Array(read.sectors * 512));
  }
  t.is(bed.count(FRAME.SUMS), POINT_READS);
  bed.compared(0, 64);
  t.is(bed.reads.length, 1);
});

test("no point ends while something is compared, and who is compared waits for a point that is being sent", (t) => {
  const bed = new Bed();
  bed.sender.verify(false);
  t.is(bed.looks.length, 1);
  bed.looks[0]?.done(0, new Uint8Array(64 * 4096), new Uint8Array(8));
  t.is(bed.count(FRAME.SUMS), 1);
  t.is(bed.looks.length, 2, "the next part is read meanwhile");
  bed.sender.cut();
  bed.cut();
  bed.looks[1]?.done(0, new Uint8Array(64 * 4096), new Uint8Array(8));
  t.is(bed.count(FRAME.SUMS), 2);
  t.is(bed.looks.length, 2, "the point goes first");
  bed.compared(0, 64);
  t.is(bed.count(FRAME.POINT_END), 1);
  bed.compared(64, 64);
  t.is(bed.count(FRAME.POINT_END), 2);
  t.is(bed.looks.length, 3);
});

test("verifying counts as different what differs and is not on its way; what was not answered is asked again", (t) => {
  const bed = new Bed();
  bed.sender.verify(false);
  t.throws(() => bed.sender.verify(true), { code: "EBUSY" });
  bed.looks[0]?.done(0, new Uint8Array(64 * 4096), new Uint8Array([0b1000, 0, 0, 0, 0, 0, 0, 0]));
  bed.compared(0, 64, 3, 5, 6, 20);
  const found = bed.sender.verification;
  t.is(found?.differentBytes, 3 * 4096);
  t.is(found?.onTheirWayBytes, 4096);
  t.deepEqual(found?.places, [
    { offset: 5 * 4096, length: 8192 },
    { offset: 20 * 4096, length: 4096 },
  ]);
  bed.looks[1]?.done(0, new Uint8Array(64 * 4096), new Uint8Array(8));
  bed.sender.disconnect();
  bed.looks[2]?.done(0, new Uint8Array(64 * 4096), new Uint8Array(8));
  bed.connect();
  t.is(bed.looks.at(-1)?.sector, 64 * 8);
  t.is(bed.sender.verification?.doneBytes, 64 * 4096);
});

test("an answer that nobody has asked for is refused", (t) => {
  const bed = new Bed();
  t.throws(
    () => {
      bed.compared(0, 64);
    },
    { code: "EPROTOCOL", message: /nobody asked/ },
  );
});
