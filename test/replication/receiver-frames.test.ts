/** What a receiver refuses, and what it asks for, on a log that has room for all. */
import test from "ava";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import type { ImageComparer } from "../../src/replication/image-comparer.ts";
import {
  decodeAck,
  encodePointBegin,
  encodePointEnd,
  POINT_BEGIN_BYTES,
  POINT_END_BYTES,
} from "../../src/replication/messages.ts";
import type { LogReplay } from "../../src/replication/log-replay.ts";
import type { PointApplier } from "../../src/replication/point-applier.ts";
import { decodeItems, encodeRuns, RUN_KIND, type PointRun } from "../../src/replication/point-items.ts";
import type { ReceiverLog } from "../../src/replication/receiver-log.ts";
import { Receiver } from "../../src/replication/receiver.ts";
import { decodeSumsReply, encodeSums, type Sums } from "../../src/replication/sums.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
import { TransferIndex } from "../../src/replication/transfer-index.ts";
import { encodeTable, ENTRY_KIND, SECTOR_BYTES } from "../../src/targets/mirror/transfer.ts";

const GEOMETRY = { volumeSectors: 800, blockSectors: 8 };
const LOG = { sectorBytes: 512, windowBytes: 2 ** 20, ringBytes: 2 ** 22 };
const place = { position: 0, link: 0 };

interface FakeLog {
  head: { position: number; link: number };
  durable: number;
  /** Who waits for what was appended. */
  readonly syncs: ((result: number) => void)[];
}

/** `compared` has what the image is being compared with. */
function connected(): {
  receiver: Receiver;
  sent: { type: FrameType; payload: Uint8Array }[];
  compared: { sums: Sums; done: (differs: Uint8Array) => void }[];
  log: FakeLog;
} {
  const compared: { sums: Sums; done: (differs: Uint8Array) => void }[] = [];
  const comparer: Pick<ImageComparer, "compare"> = { compare: (sums, done) => void compared.push({ sums, done }) };
  const sent: { type: FrameType; payload: Uint8Array }[] = [];
  const syncs: FakeLog["syncs"] = [];
  const log = {
    ...{ head: place, tail: place, durable: 0, appendTransfer: () => 0, appendPointItems: () => 0 },
    ...{ syncs, sync: (done: (result: number) => void) => void syncs.push(done) },
  };
  const receiver = new Receiver(
    {
      log: log as unknown as ReceiverLog,
      logGeometry: LOG,
      index: new TransferIndex(),
      applier: undefined as unknown as PointApplier,
      replay: undefined as unknown as LogReplay,
      nowMs: () => 0,
      comparer: comparer as ImageComparer,
      image: { keep: () => undefined, reached: () => undefined },
      geometry: GEOMETRY,
    },
    { last: NO_TRANSFER, committed: [], lastPoint: 4, lastClosed: 0, lastEnd: null },
  );
  receiver.connect({
    incarnation: 1,
    generation: "00000000000000aa",
    lacks: [],
    send: (type, payload) => void sent.push({ type, payload }),
  });
  return { receiver, sent, compared, log };
}

function transfer(incarnation: number, number: number, sectors: number, isAwaited = false): Uint8Array {
  const entries = [{ kind: ENTRY_KIND.DATA, sector: 0, sectors }];
  const table = encodeTable({ incarnation, number, sequence: 1, log: 1, isAwaited, entries });
  return new Uint8Array(Buffer.concat([table, new Uint8Array(sectors * SECTOR_BYTES)]));
}

function begin(point: number, counter: number): Uint8Array {
  const bytes = new Uint8Array(POINT_BEGIN_BYTES);
  encodePointBegin(bytes, {
    point,
    cut: { incarnation: 1, counter },
    createdMs: 0,
    isClosed: true,
    next: counter + 1,
    log: 1,
  });
  return bytes;
}

test("a reference to what is not there is asked for: another transfer, or beyond the data of one", (t) => {
  const { receiver, sent } = connected();
  receiver.take(FRAME.TRANSFER, transfer(1, 1, 12));
  receiver.take(FRAME.POINT_BEGIN, begin(5, 1));
  const run = (block: number, number: number, at: number): PointRun => ({
    kind: RUN_KIND.REFERENCE,
    block,
    blocks: 1,
    transfer: number,
    place: at,
  });
  const beyond = run(2, 1, 5);
  const missing = run(3, 2, 0);
  receiver.take(FRAME.POINT_ITEMS, encodeRuns([run(1, 1, 4), beyond, missing]));
  const [nak, ...others] = sent;
  t.is(nak?.type, FRAME.NAK);
  t.deepEqual(decodeItems(nak?.payload ?? new Uint8Array(0), GEOMETRY).runs, [beyond, missing]);
  t.deepEqual(others, []);
});

test("what a source may not send ends the connection", (t) => {
  const { receiver } = connected();
  receiver.take(FRAME.TRANSFER, transfer(1, 7, 8));
  const refused: Record<string, [FrameType, Uint8Array]> = {
    "the same transfer again": [FRAME.TRANSFER, transfer(1, 7, 8)],
    "one of another incarnation": [FRAME.TRANSFER, transfer(2, 8, 8)],
    "a point that was committed": [FRAME.POINT_BEGIN, begin(4, 7)],
    "a point of what was not sent": [FRAME.POINT_BEGIN, begin(5, 8)],
    "items without a point": [FRAME.POINT_ITEMS, new Uint8Array(512)],
    "what only a receiver sends": [FRAME.ACK, new Uint8Array(32)],
  };
  for (const [what, [type, payload]] of Object.entries(refused)) {
    t.throws(
      () => {
        receiver.take(type, payload);
      },
      { code: "EPROTOCOL" },
      what,
    );
  }
  t.throws(
    () => {
      for (let number = 8; ; number++) receiver.take(FRAME.TRANSFER, transfer(1, number, 800));
    },
    { code: "EPROTOCOL", message: /more transfers than were granted/ },
  );
});

test("what is to be compared is compared one after the other, and no point ends before all is answered", (t) => {
  const { receiver, sent, compared } = connected();
  const sums = (block: number): Uint8Array => encodeSums({ block, blocks: 2 }, new Uint8Array(8192), GEOMETRY);
  receiver.take(FRAME.TRANSFER, transfer(1, 1, 8));
  receiver.take(FRAME.POINT_BEGIN, begin(5, 1));
  for (let asked = 0; asked < 16; asked++) receiver.take(FRAME.SUMS, sums(asked));
  t.throws(
    () => {
      receiver.take(FRAME.SUMS, sums(16));
    },
    { code: "EPROTOCOL", message: /more than 16 SUMS/ },
  );
  t.deepEqual(
    compared.map(({ sums: { block } }) => block),
    [0],
  );
  compared[0]?.done(new Uint8Array([2]));
  t.deepEqual(
    compared.map(({ sums: { block } }) => block),
    [0, 1],
  );
  const reply = sent.at(-1);
  t.is(reply?.type, FRAME.SUMS_REPLY);
  t.deepEqual(decodeSumsReply(reply?.payload ?? new Uint8Array(0), GEOMETRY), {
    block: 0,
    blocks: 2,
    differs: new Uint8Array([2]),
  });
  const end = new Uint8Array(POINT_END_BYTES);
  encodePointEnd(end, { point: 5, items: 0, checksum: 0 });
  t.throws(
    () => {
      receiver.take(FRAME.POINT_END, end);
    },
    { code: "EPROTOCOL", message: /while something is being compared/ },
  );
});

test("what an earlier connection wanted compared is not answered on a later one", (t) => {
  const { receiver, sent, compared } = connected();
  receiver.take(FRAME.SUMS, encodeSums({ block: 0, blocks: 2 }, new Uint8Array(8192), GEOMETRY));
  receiver.disconnect();
  receiver.connect({
    incarnation: 1,
    generation: "00000000000000aa",
    lacks: [],
    send: (type, payload) => void sent.push({ type, payload }),
  });
  receiver.take(FRAME.SUMS, encodeSums({ block: 7, blocks: 1 }, new Uint8Array(4096), GEOMETRY));
  t.is(compared.length, 1);
  compared[0]?.done(new Uint8Array(1));
  t.deepEqual(sent, []);
  compared[1]?.done(new Uint8Array(1));
  t.is(decodeSumsReply(sent[0]?.payload ?? new Uint8Array(0), GEOMETRY).block, 7);
});

test("items are made durable as they come, and those that came meanwhile after them: a point goes on without its end", (t) => {
  const { receiver, sent, log } = connected();
  const items = encodeRuns([{ kind: RUN_KIND.ZEROES, block: 1, blocks: 1, transfer: 0, place: 0 }]);
  const take = (): void => {
    receiver.take(FRAME.POINT_ITEMS, items);
    receiver.endBatch();
    log.head = { position: log.head.position + 4096, link: 0 };
  };
  receiver.take(FRAME.TRANSFER, transfer(1, 1, 8));
  receiver.endBatch();
  t.is(log.syncs.length, 1);
  sent.length = 0;
  log.syncs.shift()?.(0);
  receiver.take(FRAME.POINT_BEGIN, begin(5, 1));
  take();
  take();
  t.is(log.syncs.length, 1);
  sent.length = 0;
  log.durable = 4096;
  log.syncs.shift()?.(0);
  t.deepEqual(
    sent.map(({ type }) => type),
    [FRAME.ACK],
  );
  t.is(log.syncs.length, 1);
  log.durable = 8192;
  log.syncs.shift()?.(0);
  t.is(sent.length, 2);
  t.is(log.syncs.length, 0);
});

test("what has come is acknowledged when it is durable; before that too where somebody waits for it in memory", (t) => {
  const { receiver, sent, log } = connected();
  const acknowledged = (): (number | undefined)[] =>
    sent.splice(0).map(({ type, payload }) => (type === FRAME.ACK ? decodeAck(payload).durable.counter : undefined));
  receiver.take(FRAME.TRANSFER, transfer(1, 1, 8));
  receiver.endBatch();
  t.deepEqual(acknowledged(), []);
  receiver.take(FRAME.TRANSFER, transfer(1, 2, 8, true));
  receiver.endBatch();
  t.deepEqual(acknowledged(), [0]);
  receiver.take(FRAME.TRANSFER, transfer(1, 3, 8));
  receiver.endBatch();
  t.deepEqual(acknowledged(), [], "nobody waits for this one");
  log.head = { position: 8192, link: 0 };
  log.durable = 4096;
  log.syncs.shift()?.(0);
  t.deepEqual(acknowledged(), [1]);
  log.durable = 8192;
  log.syncs.shift()?.(0);
  t.deepEqual(acknowledged(), [3]);
});

test("what has become durable with what came before it is acknowledged, though nothing comes behind it", (t) => {
  const { receiver, sent, log } = connected();
  receiver.take(FRAME.TRANSFER, transfer(1, 1, 8));
  receiver.endBatch();
  receiver.take(FRAME.TRANSFER, transfer(1, 2, 8));
  receiver.endBatch();
  log.head = { position: 8192, link: 0 };
  log.durable = 8192;
  while (log.syncs.length > 0) log.syncs.shift()?.(0);
  t.is(decodeAck(sent.at(-1)?.payload ?? new Uint8Array(0)).durable.counter, 2);
});
