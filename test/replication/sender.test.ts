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
import { Sender, type SourceCut, type SourceVolume } from "../../src/replication/sender.ts";
import { limitsFor } from "../../src/replication/source-limits.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
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
  readonly sent: { readonly type: FrameType; readonly bytes: number }[] = [];
  readonly sender: Sender;
  readonly #writer: TransferWriter;
  readonly #granted: Granted;
  #cut: ((cut: SourceCut) => void) | undefined;

  constructor(granted = MUCH) {
    this.#granted = granted;
    const memory = new SharedArrayBuffer(transferRingBytes(RING));
    this.#writer = new TransferWriter(memory, RING, { number: 1, sequence: 1 });
    const volume: SourceVolume = {
      restart: (_isFull, _partialsMax, ready) => {
        ready(1);
      },
      acknowledged: () => undefined,
      cut: (_copyChunks, done) => {
        this.#cut = done;
      },
      read: () => undefined,
      look: () => undefined,
      hasRead: () => undefined,
      endPoint: () => undefined,
      lacks: () => undefined,
    };
    const ring = new TransferReader(memory, RING, INCARNATION);
    const parts = { volume, ring, incarnation: INCARNATION, geometry: GEOMETRY, chunkSectors: CHUNK_SECTORS };
    this.sender = new Sender(
      { ...parts, ringSize: RING, isComparing: false, nowMs: () => 0 },
      { ready: () => undefined, committed: () => undefined },
    );
    const known = { lastTransfer: NO_TRANSFER, lastPoint: 0, logBytes: LOG_BYTES, generations: NO_GENERATIONS };
    const welcome: Welcome = { wants: "full", granted, ...known };
    this.sender.connect(welcome, (type, ...pieces) => {
      this.sent.push({ type, bytes: pieces.reduce((sum, { length }) => sum + length, 0) });
    });
    this.cut();
    this.commit(1);
  }

  /** One write, in a transfer of its own, which is acknowledged as soon as it was sent; false where the log is full. */
  write(number: number): boolean {
    if (!this.#writer.appendData(0, BLOCK)) return false;
    this.#writer.close();
    this.sender.pump();
    this.acknowledge(Math.min(number, this.transfers.length));
    return true;
  }

  acknowledge(counter: number, granted = this.#granted): void {
    const payload = new Uint8Array(ACK_BYTES);
    const last = counter === 0 ? NO_TRANSFER : { incarnation: INCARNATION, counter };
    encodeAck(payload, { received: last, durable: last, granted });
    this.sender.take(FRAME.ACK, payload);
  }

  /** The volume has done what it was asked: all that is logged by now belongs to the point. */
  cut(): void {
    this.#cut?.({ half: newDirtyBlocks(GEOMETRY, 8), endTransfer: this.#writer.open, isClosed: true, copies: [] });
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

test("a point that nobody has sent cannot be committed", (t) => {
  const bed = new Bed(NO_GRANT);
  t.throws(
    () => {
      bed.commit(2);
    },
    { code: "EPROTOCOL", message: /point 2 was not sent/ },
  );
});
