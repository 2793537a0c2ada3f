/** The link of a source to its receiver: what it notes before it does something, and what it tells. */
import { once } from "node:events";
import { closeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Duplex, duplexPair } from "node:stream";
import { MessageChannel } from "node:worker_threads";
import test, { type ExecutionContext } from "ava";
import { Connection } from "../../src/replication/connection.ts";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import { NO_GENERATIONS, type Generations } from "../../src/replication/generations.ts";
import { decodeHello, encodeWelcome, type Hello, type Welcome } from "../../src/replication/handshake.ts";
import { MirrorLink, type LinkStatus } from "../../src/replication/link.ts";
import {
  decodePointBegin,
  encodePointCommitted,
  encodeReason,
  POINT_COMMITTED_BYTES,
} from "../../src/replication/messages.ts";
import { SharedVolume } from "../../src/replication/shared-volume.ts";
import { SourceStateFile } from "../../src/replication/source-state.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
import type { Transport } from "../../src/replication/transport.ts";
import { allocateMirror, MirrorNumbers } from "../../src/targets/mirror/mirror-memory.ts";
import type { LinkOrder, LinkReport } from "../../src/targets/mirror/mirror-server.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import { native } from "../../src/ublk/native.ts";

const PATIENT_MS = 600_000;
const GEOMETRY = { volumeSectors: 2048, blockSectors: 8, chunkSectors: 128 } as const;
const MIB = 2 ** 20;

/** The receiver's end of a connection, by hand. */
class FakeReceiver {
  readonly #connection: Connection;
  readonly #heard: { type: FrameType; payload: Uint8Array }[] = [];
  #wake: () => void = () => undefined;

  constructor(stream: Duplex) {
    this.#connection = new Connection(stream, PATIENT_MS, {
      onFrame: (type, payload) => {
        this.#heard.push({ type, payload: payload.slice() });
        this.#wake();
      },
      onEnd: () => undefined,
    });
  }

  async next(wanted: FrameType): Promise<Uint8Array> {
    for (;;) {
      const found = this.#heard.shift();
      if (found?.type === wanted) return found.payload;
      if (found === undefined) await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async welcome(change: Partial<Welcome> = {}): Promise<Hello> {
    const hello = decodeHello(await this.next(FRAME.HELLO));
    const granted = { transferBytes: MIB, itemBytes: MIB };
    const rest = { lastTransfer: NO_TRANSFER, lastPoint: 0, granted, logBytes: 256 * MIB };
    const welcome: Welcome = { wants: "full", ...rest, generations: NO_GENERATIONS, ...change };
    this.#connection.send(FRAME.WELCOME, encodeWelcome(welcome));
    this.#connection.acceptLargeFrames();
    return hello;
  }

  refuse(code: string, text: string): void {
    this.#connection.send(FRAME.REFUSED, encodeReason({ code, text }));
  }

  /** Commits the next point that comes. */
  async commit(): Promise<number> {
    const { point } = decodePointBegin(await this.next(FRAME.POINT_BEGIN));
    return this.end(point);
  }

  /** Commits the point whose beginning has come. */
  async end(point: number): Promise<number> {
    await this.next(FRAME.POINT_END);
    const payload = new Uint8Array(POINT_COMMITTED_BYTES);
    encodePointCommitted(payload, point);
    this.#connection.send(FRAME.POINT_COMMITTED, payload);
    return point;
  }

  cut(): void {
    this.#connection.destroy(new Error("cut"));
  }
}

/** A link whose volume has nothing to be copied, with all that is around it. */
class Bed {
  readonly path: string;
  readonly numbers: MirrorNumbers;
  readonly link: MirrorLink;
  readonly statuses: LinkStatus[] = [];
  readonly orders: LinkOrder[] = [];
  isDamaged = false;
  /** The next point copies the last that is to be copied. */
  isCopying = false;
  /** The volume is held back when a point is cut that needs it. */
  isHeldBack = true;
  readonly #receivers: FakeReceiver[] = [];
  readonly #ended: Promise<void>;
  #wake: () => void = () => undefined;

  private constructor(t: ExecutionContext, folder: string, state: SourceStateFile) {
    this.path = join(folder, "state");
    const event = native.eventDescriptor();
    const memory = allocateMirror(GEOMETRY, 4 * MIB, event);
    this.numbers = new MirrorNumbers(memory);
    this.tellToCopy(0);
    const { port1, port2 } = new MessageChannel();
    port1.on("message", (order: LinkOrder) => {
      this.orders.push(order);
      const report = answerTo(order, this);
      if (order.kind === "cut") this.isCopying = false;
      if (report !== undefined) port1.postMessage(report);
    });
    const transport: Transport = {
      connect: () => {
        const [here, there] = duplexPair();
        this.#receivers.push(new FakeReceiver(there));
        this.#wake();
        return Promise.resolve(here);
      },
      listen: () => Promise.reject(new Error("nobody listens")),
    };
    const options = { volume: "data", mark: 7n, address: { host: "there", port: 1 }, transport };
    const times = { silenceMs: PATIENT_MS, intervalMs: PATIENT_MS, isComparing: false, compression: "none" } as const;
    const volume = new SharedVolume(memory, port2);
    this.link = new MirrorLink({ ...options, ...times }, memory, volume, state);
    this.link.whenChanged = () => {
      this.statuses.push(this.link.status);
      this.#wake();
    };
    this.#ended = this.link.run();
    t.teardown(async () => {
      await this.stop();
      volume.close();
      await once(port1, "close");
      closeSync(event);
      await rm(folder, { recursive: true });
    });
  }

  static async make(t: ExecutionContext): Promise<Bed> {
    const folder = await mkdtemp(join(tmpdir(), "sluice-"));
    await SourceStateFile.begin(join(folder, "state"), 1);
    return new Bed(t, folder, await SourceStateFile.open(join(folder, "state")));
  }

  async stop(): Promise<void> {
    this.link.stop();
    await this.#ended;
  }

  tellToCopy(chunks: number): void {
    this.numbers.tell({ isLogging: true, written: 0, onTheirWay: 0, overflows: 0, heldWrites: 0, requests: 0 }, chunks);
  }

  async receiver(): Promise<FakeReceiver> {
    return this.#await(() => this.#receivers.shift());
  }

  async status(state: LinkStatus["state"], isFaulty = false): Promise<LinkStatus> {
    return this.#await(() => {
      const { status } = this.link;
      return status.state === state && (status.fault !== null || !isFaulty) ? status : undefined;
    });
  }

  async #await<T>(found: () => T | undefined): Promise<T> {
    for (;;) {
      const value = found();
      if (value !== undefined) return value;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** What a process would find that began now. */
  async generations(): Promise<Generations> {
    return (await SourceStateFile.open(this.path)).state.generations;
  }

  /** Until the volume waits for the receiver, or does so no more. */
  async linked(isLinked: boolean): Promise<void> {
    while (this.numbers.isLinked !== isLinked) await new Promise(setImmediate);
  }
}

function answerTo(order: LinkOrder, { isDamaged, isCopying, isHeldBack }: Bed): LinkReport | undefined {
  if (order.kind === "read") return { kind: "read", place: order.place, result: isDamaged ? -ERRNO.EIO : 0 };
  if (order.kind !== "restart" && order.kind !== "cut") return undefined;
  if (order.kind === "cut" && order.isHeld && !isHeldBack) return { kind: "not cut", id: order.id };
  const answer = { kind: "cut", id: order.id, half: 0, endTransfer: 0 } as const;
  return isDamaged || isCopying
    ? { ...answer, isClosed: false, copies: order.kind === "cut" || isDamaged ? [{ first: 0, count: 1 }] : [] }
    : { ...answer, isClosed: true, copies: [] };
}

test("a source says what it has, copies what is wanted, and is in step with the first closed point", async (t) => {
  const bed = await Bed.make(t);
  const before = await bed.generations();
  const receiver = await bed.receiver();
  const hello = await receiver.welcome();
  t.like(hello, { role: "source", volume: "data", mark: 7n, incarnation: 1, connection: 1, generations: before });
  const point = await receiver.commit();
  // Before its end was sent it was noted that the receiver may have it.
  t.is((await bed.generations()).offered, before.current);
  const status = await bed.status("in step");
  t.like(bed.orders[0], { kind: "restart", isFull: true });
  t.is(status.lastClosed?.point, point);
  t.true(bed.numbers.isLinked);
});

test("the volume waits for a receiver that has gone until it is durable that it goes on alone", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.welcome();
  await receiver.commit();
  await bed.linked(true);
  const { current } = await bed.generations();
  receiver.cut();
  await bed.linked(false);
  const alone = await bed.generations();
  t.not(alone.current, current);
  t.is(alone.bitmap, current);
  const again = await (await bed.receiver()).welcome({ wants: "resume", lastPoint: 1 });
  t.is(again.connection, 2);
  t.is(again.generations.current, alone.current);
});

test("a connection that this side gives up is over when it is durable that it goes on alone", async (t) => {
  const bed = await Bed.make(t);
  const { current } = await bed.generations();
  const receiver = await bed.receiver();
  await receiver.welcome({ logBytes: MIB });
  const { fault } = await bed.status("connecting", true);
  t.is(fault?.code, "ESIZE");
  t.not((await bed.generations()).current, current);
});

test("a receiver that refuses is asked again, and what it says is shown", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.next(FRAME.HELLO);
  receiver.refuse("ESIZE", "wanted more");
  const { fault } = await bed.status("connecting", true);
  t.deepEqual(fault, { code: "ESIZE", text: "the receiver refuses: wanted more" });
  t.false(bed.numbers.isLinked);
  await (await bed.receiver()).welcome();
  await bed.linked(true);
  t.is(bed.link.status.fault, null);
});

test("what cannot be read is told, while the connection stands", async (t) => {
  const bed = await Bed.make(t);
  bed.isDamaged = true;
  await (await bed.receiver()).welcome();
  const { fault } = await bed.status("copying", true);
  t.is(fault?.code, "EIO");
  t.regex(fault?.text ?? "", /cannot be read, and is tried again: EIO/);
});

test("behind the last copy the closed point is cut at once, whatever the interval and the limit of copying are", async (t) => {
  const bed = await Bed.make(t);
  bed.isCopying = true;
  bed.link.limitCopying(1);
  bed.tellToCopy(1);
  const receiver = await bed.receiver();
  await receiver.welcome();
  // The first one, of the new log, is open, and so is the one that brings the copy.
  await receiver.commit();
  await receiver.commit();
  const closed = await receiver.commit();
  bed.tellToCopy(0);
  const status = await bed.status("in step");
  t.deepEqual([status.lastClosed?.point, status.points], [closed, { closed: 1, open: 2 }]);
});

test("the link tells since when the receiver is behind, and by how many points", async (t) => {
  const bed = await Bed.make(t);
  bed.isCopying = true;
  bed.tellToCopy(1);
  const receiver = await bed.receiver();
  await receiver.welcome();
  t.true(bed.link.status.behind.sinceMs !== null);
  await receiver.commit();
  await receiver.commit();
  bed.tellToCopy(0);
  const { point } = decodePointBegin(await receiver.next(FRAME.POINT_BEGIN));
  t.is(bed.link.status.behind.points, 3);
  await receiver.end(point);
  t.deepEqual((await bed.status("in step")).behind, { sinceMs: null, points: 0 });

  // Something was written behind the point that comes now.
  const asked = bed.link.cutPoint();
  const begin = decodePointBegin(await receiver.next(FRAME.POINT_BEGIN));
  t.deepEqual(bed.link.status.behind, { sinceMs: null, points: 1 });
  bed.tellToCopy(1);
  await receiver.end(begin.point);
  const { createdMs } = await asked;
  // The next one has been cut already.
  t.deepEqual(bed.link.status.behind, { sinceMs: createdMs, points: 1 });
});

test("a log that is too small at the receiver is said on both sides", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.welcome({ logBytes: MIB });
  const { fault } = await bed.status("connecting", true);
  t.is(fault?.code, "ESIZE");
  t.regex(fault?.text ?? "", /the receiver's log has 1048576 bytes, wanted \d+/);
  t.false(bed.numbers.isLinked);
});

test("a point on demand is one that was cut after it was asked for; without a connection there is none", async (t) => {
  const bed = await Bed.make(t);
  await t.throwsAsync(bed.link.cutPoint(), { code: "ELINK" });
  const receiver = await bed.receiver();
  await receiver.welcome();
  await bed.linked(true);
  // The first one, of the new log, was cut before.
  const asked = bed.link.cutPoint();
  const first = await receiver.commit();
  const second = await receiver.commit();
  t.true(second > first);
  t.is((await asked).point, second);
  const lost = bed.link.cutPoint();
  receiver.cut();
  await t.throwsAsync(lost, { code: "ELINK", message: /was lost/ });
});

test("a point that is cut while the host is held back has the moment that it was given, and is told before it is committed", async (t) => {
  const bed = await Bed.make(t);
  t.throws(() => bed.link.takePoint(7), { code: "ELINK" });
  const receiver = await bed.receiver();
  await receiver.welcome();
  await bed.linked(true);
  // Behind the first one, of the new log.
  const { taken, committed } = bed.link.takePoint(7);
  await receiver.commit();
  const point = await taken;
  const { createdMs } = decodePointBegin(await receiver.next(FRAME.POINT_BEGIN));
  t.is(createdMs, 7);
  await receiver.end(point);
  t.deepEqual(await committed, { point, createdMs: 7, isClosed: true });

  bed.isHeldBack = false;
  await t.throwsAsync(bed.link.takePoint(8).taken, { code: "EEXPIRED" });
  bed.isHeldBack = true;
  const last = bed.link.takePoint(9);
  await last.taken;
  receiver.cut();
  await t.throwsAsync(last.committed, { code: "ELINK" }, "it was cut, and the receiver has it not");
});

test("what is stopped while the receiver has all knows which point that is, and has not gone on alone", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.welcome();
  await receiver.commit();
  await bed.status("in step");
  const { current } = await bed.generations();
  // So soon after the first one it is not noted yet.
  const asked = bed.link.cutPoint();
  const point = await receiver.commit();
  await asked;
  await bed.stop();
  const { state } = await SourceStateFile.open(bed.path);
  t.deepEqual([state.lastPoint, state.generations.current], [point, current]);
});

test("a receiver that wants all of it is not in step again before a closed point of that", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.welcome();
  await receiver.commit();
  await bed.status("in step");
  receiver.cut();
  await bed.status("connecting");
  const seen = bed.statuses.length;
  const another = await bed.receiver();
  await another.welcome({ wants: "full" });
  const point = await another.commit();
  const { lastClosed } = await bed.status("in step");
  t.is(lastClosed?.point, point);
  t.deepEqual(
    bed.statuses.slice(seen).flatMap(({ state }) => (state === "connecting" ? [] : state)),
    ["copying", "in step"],
  );
});

test("a pause ends the connection in peace and makes none; after it there is one again", async (t) => {
  const bed = await Bed.make(t);
  const receiver = await bed.receiver();
  await receiver.welcome();
  await receiver.commit();
  await bed.status("in step");
  bed.link.pause();
  await bed.status("paused");
  await bed.linked(false);
  bed.link.resume();
  const hello = await (await bed.receiver()).welcome({ wants: "resume", lastPoint: 1 });
  t.is(hello.connection, 2);
  await bed.linked(true);
});
