/** The receiver's log: by chance, dying at every step, and the cases that chance would not tell apart. */
import test from "ava";
import { offsetOf, type LogPlace } from "../../src/replication/log-geometry.ts";
import type { LogIo } from "../../src/replication/log-io.ts";
import { RECORD_HEADER_BYTES } from "../../src/replication/log-record.ts";
import { recoverLog, type RecoveredLog } from "../../src/replication/log-recovery.ts";
import { createLog } from "../../src/replication/log-superblock.ts";
import { LOG_BUSY, LOG_FULL, ReceiverLog } from "../../src/replication/receiver-log.ts";
import { ERRNO, UblkError } from "../../src/ublk/errors.ts";
import { SimDisk } from "../sim/disk.ts";
import { SimMemory } from "../sim/memory.ts";
import { Random } from "../sim/random.ts";
import { NVRAM_FILE, World } from "../sim/world.ts";
import { LogHistory, reached } from "./log-history.ts";

const SEEDS = 5000;
const LIVES = 8;

test(`${SEEDS} seeds of ${LIVES} lives: what was durable is found, and nothing else`, (t) => {
  t.timeout(120_000);
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      new LogHistory(seed).run(LIVES);
    } catch (error) {
      t.fail(`seed ${seed}: ${String(error)}`);
      return;
    }
  }
  for (const [what, times] of Object.entries(reached)) t.true(times > 300, `${what}: ${times} times`);
});

const OWNER = { volume: "data", mark: 7n };
const GEOMETRY = { sectorBytes: 512, windowBytes: 4096, ringBytes: 2 * 4096 };
const START = GEOMETRY.ringBytes;
/** Of a payload that fills so many sectors. */
const sectors = (count: number, byte = count): Uint8Array =>
  new Uint8Array(512 * count - RECORD_HEADER_BYTES).fill(byte);

class Fixture {
  readonly memory = new SimMemory(512, () => undefined);
  /** "kind number position". */
  found: string[] = [];
  /** Probability that a write or a sync fails. */
  readonly faults = { failures: 0, shortTransfers: 0 };
  recovered!: RecoveredLog;
  world!: World;
  log!: ReceiverLog;

  constructor() {
    this.memory.write(offsetOf(GEOMETRY, GEOMETRY.ringBytes - 512), new Uint8Array(512));
    createLog(this.memory, OWNER, GEOMETRY, 5, { committed: 0, applied: 0 });
    this.open();
  }

  open(): ReceiverLog {
    this.found = [];
    this.recovered = recoverLog(this.memory, OWNER, {
      transfer: (incarnation, counter, { place }) =>
        void this.found.push(`transfer ${incarnation}:${counter} ${place.position - START}`),
      pointItems: (point, { place }) => void this.found.push(`items ${point} ${place.position - START}`),
      pointEnd: (point, { place }) => void this.found.push(`end ${point} ${place.position - START}`),
    });
    const watcher = { storeChanges: () => undefined, tell: () => undefined };
    this.world = new World(new Random(1), new SimDisk(1), this.memory, this.faults, watcher, () => undefined);
    this.log = new ReceiverLog(this.recovered, this.world, NVRAM_FILE);
    return this.log;
  }

  /** The result of something, when it has ended. */
  result(begin: (done: (result: number) => void) => void): number {
    const results: number[] = [];
    begin((result) => results.push(result));
    this.world.waitUntil(() => results.length > 0);
    return results[0] as number;
  }

  sync(): number {
    return this.result((done) => this.log.sync(done));
  }

  release(tail: LogPlace, committed: number, applied = committed): number {
    return this.result((done) => this.log.release(tail, { committed, applied }, done));
  }

  /** As after a power cut in which nothing had luck. */
  loseCache(): void {
    this.memory.working.set(this.memory.durable);
  }
}

test("transfers, lists and ends of points are found again, with their numbers and places", (t) => {
  const fixture = new Fixture();
  const { log } = fixture;
  t.is(log.appendTransfer(2, 2 ** 32 - 1, sectors(1)), START);
  t.is(log.appendTransfer(3, 1, sectors(2)), START + 512);
  t.is(log.appendPointItems(2 ** 52 + 1, sectors(1)), START + 1536);
  t.is(log.appendPointEnd(2 ** 52 + 1, new Uint8Array(0)), START + 2048);
  const { head } = log;
  t.is(fixture.sync(), 0);
  fixture.loseCache();
  fixture.open();
  t.deepEqual(fixture.found, [
    `transfer 2:${2 ** 32 - 1} 0`,
    "transfer 3:1 512",
    `items ${2 ** 52 + 1} 1536`,
    `end ${2 ** 52 + 1} 2048`,
  ]);
  t.deepEqual(fixture.recovered.head, head);
  t.deepEqual(fixture.log.head, head);
  t.is(fixture.release(head, 2 ** 52 + 1), 0);
  fixture.loseCache();
  fixture.open();
  t.deepEqual(fixture.found, []);
  t.deepEqual(fixture.log.tail, head);
  t.deepEqual(fixture.log.points, { committed: 2 ** 52 + 1, applied: 2 ** 52 + 1 });
});

test("what is appended while a commit is under way shares the next one", (t) => {
  const { log, world } = new Fixture();
  const ended: string[] = [];
  const note = (name: string) => (): void => void ended.push(`${name} ${log.durable - START}`);
  log.appendTransfer(1, 1, sectors(1));
  log.sync(note("first"));
  log.appendTransfer(1, 2, sectors(1));
  log.sync(note("second"));
  log.appendTransfer(1, 3, sectors(1));
  log.sync(note("third"));
  world.waitUntil(() => world.isIdle);
  t.deepEqual(ended, ["first 512", "second 1536", "third 1536"]);
  log.sync(note("nothing new"));
  t.is(ended.at(-1), "nothing new 1536");
});

test("the window is full until a commit has ended, the ring until something is released, durably", (t) => {
  const fixture = new Fixture();
  const { log } = fixture;
  t.throws(() => log.appendTransfer(1, 1, new Uint8Array(4096 - RECORD_HEADER_BYTES + 1)), { code: "ESIZE" });
  t.is(log.appendTransfer(1, 1, sectors(8)), START, "a record may fill the window");
  const place = log.head;
  t.is(log.appendTransfer(1, 2, sectors(1)), LOG_BUSY);
  t.deepEqual(log.head, place, "what is refused changes nothing");
  t.is(fixture.sync(), 0);
  t.is(log.appendTransfer(1, 2, sectors(7)), START + 4096);
  t.is(fixture.sync(), 0);
  t.is(log.appendTransfer(1, 3, sectors(1)), LOG_FULL, "a sector stays free");
  const released: number[] = [];
  log.release(place, { committed: 0, applied: 0 }, (result) => released.push(result));
  t.is(log.appendTransfer(1, 3, sectors(1)), LOG_FULL, "the tail is not durable yet");
  fixture.world.waitUntil(() => released.length > 0);
  t.deepEqual(released, [0]);
  t.is(log.appendTransfer(1, 3, sectors(8)), START + 7680);
  t.is(fixture.sync(), 0);
  fixture.loseCache();
  fixture.open();
  t.deepEqual(fixture.found, ["transfer 1:2 4096", "transfer 1:3 7680"], "over the end of the ring");
});

test("behind a payload there are zeros, not what the window had before", (t) => {
  const fixture = new Fixture();
  fixture.log.appendTransfer(1, 1, sectors(8));
  fixture.sync();
  const position = fixture.log.appendTransfer(1, 2, new Uint8Array(10).fill(7));
  fixture.sync();
  const sector = fixture.memory.read(offsetOf(GEOMETRY, position), 512);
  t.deepEqual(sector.subarray(RECORD_HEADER_BYTES), new Uint8Array(512 - RECORD_HEADER_BYTES).fill(7, 0, 10));
});

test("the tail moves forward only, to what is durable", (t) => {
  const { log } = new Fixture();
  const start = log.head;
  log.appendTransfer(1, 1, sectors(1));
  const points = { committed: 0, applied: 0 };
  t.throws(() => log.release(log.head, points, () => undefined), { code: "ERANGE" });
  t.throws(() => log.release({ ...start, position: START - 512 }, points, () => undefined), { code: "ERANGE" });
});

test("a commit that failed is written again by the next one", (t) => {
  const fixture = new Fixture();
  const { log, faults } = fixture;
  faults.failures = 1;
  log.appendTransfer(1, 1, sectors(3));
  const { head } = log;
  t.is(fixture.sync(), -ERRNO.EIO);
  t.is(log.durable, START);
  t.is(fixture.release(log.tail, 1), -ERRNO.EIO);
  t.deepEqual(log.points, { committed: 0, applied: 0 });
  faults.failures = 0;
  t.is(fixture.sync(), 0);
  t.is(fixture.release(log.tail, 1), 0);
  fixture.loseCache();
  fixture.open();
  t.deepEqual(fixture.recovered.head, head);
  t.deepEqual(fixture.log.points, { committed: 1, applied: 1 });
});

test("a record is read back, over the end of the ring as well; what is damaged, released or not durable is refused", (t) => {
  const fixture = new Fixture();
  const { log, world, memory } = fixture;
  const into = world.memory(2 * 4096);
  const read = (position: number, length: number): number =>
    fixture.result((done) => log.read(position, length, into, 4096, done));
  log.appendTransfer(1, 1, sectors(7));
  const { head } = log;
  fixture.sync();
  log.appendTransfer(1, 2, sectors(7));
  fixture.sync();
  fixture.release(head, 0);
  const payload = sectors(6).map((_, index) => index % 251);
  const position = log.appendTransfer(1, 3, payload);
  t.throws(() => read(position, payload.length), { code: "ERANGE" });
  fixture.sync();
  t.throws(() => read(START, sectors(7).length), { code: "ERANGE" });
  t.true((position % GEOMETRY.ringBytes) + 6 * 512 > GEOMETRY.ringBytes);
  t.is(read(position, payload.length), 0);
  t.deepEqual(new Uint8Array(into.buffer, 4096 + RECORD_HEADER_BYTES, payload.length), payload);
  t.is(read(position, payload.length - 512), -ERRNO.EBADMSG, "not the record that is there");
  memory.rot(offsetOf(GEOMETRY, position + 2000), 3);
  t.is(read(position, payload.length), -ERRNO.EBADMSG);
});

test("several records are read at once; one that is not where it was appended is refused", (t) => {
  const fixture = new Fixture();
  const { log, world, memory } = fixture;
  const into = world.memory(2 * 4096);
  const payloads = [sectors(2, 1), sectors(2, 2)];
  const positions = payloads.map((payload, index) => log.appendTransfer(1, index, payload));
  fixture.sync();
  const readBoth = (): number[] => {
    const results: number[] = [];
    positions.forEach((position, index) => {
      log.read(position, 960, into, index * 4096, (result) => (results[index] = result));
    });
    world.waitUntil(() => world.isIdle);
    return results;
  };
  t.deepEqual(readBoth(), [0, 0]);
  payloads.forEach((payload, index) => {
    t.deepEqual(new Uint8Array(into.buffer, index * 4096 + RECORD_HEADER_BYTES, 960), payload);
  });
  // The disk has put it elsewhere.
  memory.working.copyWithin(
    offsetOf(GEOMETRY, START + 1024),
    offsetOf(GEOMETRY, START),
    offsetOf(GEOMETRY, START + 1024),
  );
  t.deepEqual(readBoth(), [0, -ERRNO.EBADMSG]);
});

test("what is lost in the middle is told from there on, until the tail has passed it", (t) => {
  const fixture = new Fixture();
  const { log } = fixture;
  log.appendTransfer(1, 1, sectors(1));
  log.appendTransfer(1, 2, sectors(2));
  fixture.sync();
  log.appendTransfer(1, 3, sectors(1));
  fixture.sync();
  fixture.memory.rot(offsetOf(GEOMETRY, START + 512 + 1000), 0);
  for (const life of [2, 3]) {
    fixture.open();
    t.deepEqual(fixture.found, ["transfer 1:1 0"], `life ${life}`);
    t.is(fixture.log.lostFrom, START + 512, "a life that ends before anybody has acted does not hide it");
  }
  fixture.log.appendTransfer(1, 4, sectors(1));
  fixture.sync();
  fixture.release(fixture.log.head, 1);
  t.is(fixture.log.lostFrom, 0);
  fixture.open();
  t.is(fixture.log.lostFrom, 0);
});

test("what the superblock says was durable is missed as well", (t) => {
  const fixture = new Fixture();
  fixture.log.appendTransfer(1, 1, sectors(1));
  fixture.sync();
  fixture.release(fixture.log.tail, 0);
  fixture.memory.rot(offsetOf(GEOMETRY, START), 0);
  fixture.open();
  t.is(fixture.log.lostFrom, START);
});

test("what was never durable is not missed", (t) => {
  const fixture = new Fixture();
  const { log } = fixture;
  log.appendTransfer(1, 1, sectors(1));
  fixture.sync();
  log.appendTransfer(1, 2, sectors(4));
  log.appendTransfer(1, 3, sectors(1));
  log.sync(() => undefined);
  fixture.world.complete();
  // Of the two that were being committed the second is there, and of the first its end.
  fixture.memory.working.fill(0, offsetOf(GEOMETRY, START + 512), offsetOf(GEOMETRY, START + 1024));
  fixture.open();
  t.deepEqual(fixture.found, ["transfer 1:1 0"]);
  t.is(fixture.log.lostFrom, 0);
});

test("what the medium fails to give is lost from there on, and what is read ahead of need is not missed", (t) => {
  for (const [bad, found, lostFrom] of [
    [4096, 2, 0],
    [1024, 1, START + 512],
    [512, 1, START + 512],
  ] as const) {
    const fixture = new Fixture();
    const { log, memory } = fixture;
    log.appendTransfer(1, 1, sectors(1));
    log.appendTransfer(1, 2, sectors(2));
    fixture.sync();
    const read = memory.read.bind(memory);
    const offset = offsetOf(GEOMETRY, START + bad);
    memory.read = (from, length) => {
      if (from <= offset && offset < from + length) throw new UblkError("EIO", "bad sector");
      return read(from, length);
    };
    fixture.open();
    t.is(fixture.found.length, found, `bad sector at ${bad}`);
    t.is(fixture.log.lostFrom, lostFrom, `bad sector at ${bad}`);
  }
});

test("a read or write that falls short is no success", (t) => {
  const fixture = new Fixture();
  const { world } = fixture;
  let isShort = false;
  const io: LogIo = {
    memory: (length) => world.memory(length),
    addHandler: (handler) =>
      world.addHandler({
        completed: (index, result, flags) => handler.completed(index, isShort ? result - 512 : result, flags),
      }),
    transfer: (...transfer) => world.transfer(...transfer),
  };
  const log = new ReceiverLog(fixture.recovered, io, NVRAM_FILE);
  const into = world.memory(4096);
  const position = log.appendTransfer(1, 1, sectors(2));
  const sync = (): number => fixture.result((done) => log.sync(done));
  const read = (): number => fixture.result((done) => log.read(position, 960, into, 0, done));
  const release = (): number => fixture.result((done) => log.release(log.tail, { committed: 1, applied: 1 }, done));
  isShort = true;
  t.is(sync(), -ERRNO.EIO);
  isShort = false;
  t.is(sync(), 0);
  t.is(read(), 0);
  isShort = true;
  t.is(read(), -ERRNO.EIO, "though memory has it from the time before");
  t.is(release(), -ERRNO.EIO);
  t.deepEqual(log.points, { committed: 0, applied: 0 });
  isShort = false;
  t.is(release(), 0);
});
