/** The ring on the real io_uring of this kernel. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { FALLOC, OPCODE, RWF_DSYNC } from "../../src/ublk/abi.ts";
import { RingEvent, signalEvent } from "../../src/ublk/event.ts";
import { MappedMemory } from "../../src/ublk/memory.ts";
import { native } from "../../src/ublk/native.ts";
import { highWord, lowWord, Ring } from "../../src/ublk/ring.ts";
import type { CompletionHandler } from "../../src/ublk/io.ts";

/** Remembers every completion. */
class Collector implements CompletionHandler {
  readonly results = new Map<number, number[]>();
  count = 0;

  completed(index: number, result: number): void {
    this.results.set(index, [...(this.results.get(index) ?? []), result]);
    this.count++;
  }
}

function waitFor(ring: Ring, collector: Collector, count: number): void {
  while (collector.count < count) {
    ring.submitAndWait();
    ring.reap();
  }
}

for (const singleThread of [true, false]) {
  test(`far more entries than the ring has room for: each completes once (singleThread ${singleThread})`, (t) => {
    using ring = new Ring({ entries: 4, completionEntries: 8, singleThread });
    const collector = new Collector();
    const handler = ring.addHandler(collector);
    // Nothing is reaped meanwhile: the submission queue overflows again and again, and so do the completions.
    for (let index = 0; index < 1000; index++) ring.next(OPCODE.NOP, handler, index);
    waitFor(ring, collector, 1000);
    t.is(collector.results.size, 1000);
    t.true([...collector.results.values()].every((results) => results.length === 1 && results[0] === 0));
    t.false(ring.hasCompletions());
  });
}

test("wide entries complete as well", (t) => {
  using ring = new Ring({ entries: 4, wideEntries: true, singleThread: false });
  const collector = new Collector();
  const handler = ring.addHandler(collector);
  for (let index = 0; index < 20; index++) ring.next(OPCODE.NOP, handler, index);
  waitFor(ring, collector, 20);
  t.is(collector.results.size, 20);
});

test("reserved entries keep their content and are never handed out", (t) => {
  using ring = new Ring({ entries: 8, reservedEntries: 4, singleThread: true });
  const collector = new Collector();
  const handler = ring.addHandler(collector);
  for (let entry = 0; entry < 4; entry++) {
    const at = entry << ring.entryShift;
    ring.entryWords.fill(0, at, at + 16);
    ring.entryWords[at + 8] = 100 + entry;
    ring.entryWords[at + 9] = handler;
  }
  for (let round = 0; round < 3; round++) {
    for (let entry = 0; entry < 4; entry++) ring.pushReserved(entry);
    for (let index = 0; index < 10; index++) ring.next(OPCODE.NOP, handler, index);
    waitFor(ring, collector, (round + 1) * 14);
  }
  for (let entry = 0; entry < 4; entry++) t.deepEqual(collector.results.get(100 + entry), [0, 0, 0]);
});

test("a handler that throws loses no completion, and none comes twice", (t) => {
  using ring = new Ring({ entries: 16, singleThread: true });
  const collector = new Collector();
  const handler = ring.addHandler(collector);
  const thrower = ring.addHandler({
    completed: () => {
      throw new Error("a fault");
    },
  });
  for (let index = 0; index < 10; index++) ring.next(OPCODE.NOP, index === 4 ? thrower : handler, index);
  ring.submitAndWait();
  t.throws(() => ring.reap(), { message: "a fault" });
  ring.reap();
  t.is(collector.count, 9);
  ring.reap();
  t.is(collector.count, 9);
});

test("registered files are written, made durable, zeroed and read; a wrong file gives its errno", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring-"));
  const path = join(directory, "file");
  const fd = openSync(path, "w+");
  try {
    using ring = new Ring({ entries: 8, singleThread: true });
    using memory = MappedMemory.anonymous(8192);
    const collector = new Collector();
    const handler = ring.addHandler(collector);
    ring.registerFiles([fd]);
    new Uint8Array(memory.buffer).fill(65, 0, 4096);
    ring.transfer(OPCODE.WRITE, 0, 4096, memory.address, 4096, RWF_DSYNC, handler, 1);
    waitFor(ring, collector, 1);
    ring.syncData(0, handler, 2);
    ring.allocate(0, 4096, 512, FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE, handler, 3);
    waitFor(ring, collector, 3);
    ring.transfer(OPCODE.READ, 0, 4096, memory.address + 4096, 4096, 0, handler, 4);
    ring.transfer(OPCODE.READ, 7, 0, memory.address, 16, 0, handler, 5);
    waitFor(ring, collector, 5);
    t.deepEqual(collector.results.get(1), [4096]);
    t.deepEqual(collector.results.get(2), [0]);
    t.deepEqual(collector.results.get(4), [4096]);
    t.deepEqual(collector.results.get(5), [-9]);
    const read = Buffer.from(memory.buffer, 4096, 4096);
    t.is(read.readUInt8(4095), 65);
    // A file system that cannot zero ranges says so; then nothing has changed.
    const [zeroed] = collector.results.get(3) ?? [];
    t.is(read.readUInt8(0), zeroed === 0 ? 0 : 65);
    t.is(readFileSync(path).readUInt8(8191), 65);
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});

test("an event that is signalled wakes a waiting ring, each time", (t) => {
  using ring = new Ring({ entries: 8, singleThread: true });
  const event = native.eventDescriptor();
  let woken = 0;
  new RingEvent(ring, event).listen(() => woken++);
  for (let round = 1; round <= 3; round++) {
    signalEvent(event);
    signalEvent(event);
    while (woken < round) {
      ring.submitAndWait();
      ring.reap();
    }
  }
  t.true(woken >= 3);
  closeSync(event);
});

test("an event is heard after completions have overflowed", (t) => {
  using ring = new Ring({ entries: 8, completionEntries: 8, singleThread: true });
  const collector = new Collector();
  const handler = ring.addHandler(collector);
  const event = native.eventDescriptor();
  let woken = 0;
  new RingEvent(ring, event).listen(() => woken++);
  const heard = (): void => {
    const before = woken;
    signalEvent(event);
    ring.waitUntil(() => woken > before);
  };
  heard();
  for (let index = 0; index < 64; index++) ring.next(OPCODE.NOP, handler, index);
  heard();
  heard();
  t.is(collector.results.size, 64);
  closeSync(event);
});

test("a timer ends after its time, not before", (t) => {
  using ring = new Ring({ entries: 8, singleThread: true });
  using memory = MappedMemory.anonymous(16);
  const collector = new Collector();
  const handler = ring.addHandler(collector);
  new BigInt64Array(memory.buffer, 0, 2)[1] = 30_000_000n;
  const start = performance.now();
  ring.timeout(memory.address, handler, 1);
  waitFor(ring, collector, 1);
  t.true(performance.now() - start >= 29);
});

test("numbers of 64 bits are exact in two words", (t) => {
  for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5, 2 ** 47, 2 ** 53 - 1]) {
    const words = Int32Array.of(lowWord(value), highWord(value));
    t.is(new BigInt64Array(words.buffer)[0], BigInt(value), String(value));
  }
});
