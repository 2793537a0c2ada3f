/** A connection over a pair of streams in memory: what is said arrives, and each end of it is told once, with its reason. */
import { once } from "node:events";
import { type Duplex, duplexPair } from "node:stream";
import test, { type ExecutionContext } from "ava";
import { Connection } from "../../src/replication/connection.ts";
import { FRAME, type FrameType, HEADER_BYTES, PAYLOAD_MAX, sealFrame } from "../../src/replication/frame.ts";
import { FrameReader } from "../../src/replication/frame-reader.ts";
import { HANDSHAKE_PAYLOAD_MAX } from "../../src/replication/handshake.ts";
import { decodeReason, encodePing, encodeReason, PING_BYTES } from "../../src/replication/messages.ts";
import { UblkError } from "../../src/ublk/errors.ts";

/** Longer than any test. */
const PATIENT_MS = 600_000;

/** What was heard of one side, in its order. */
interface Side {
  readonly connection: Connection;
  readonly heard: (string | Error)[];
  /** Resolves with its error, if any, when it has ended. */
  readonly ended: Promise<Error | undefined>;
  /** Resolves with the first batch. */
  readonly batch: Promise<undefined>;
  /** Called with each frame. */
  onFrame: (type: FrameType, payload: Uint8Array) => void;
}

function sideOf(t: ExecutionContext, stream: Duplex, silenceMs = PATIENT_MS): Side {
  const heard: Side["heard"] = [];
  const { promise: ended, resolve } = Promise.withResolvers<Error | undefined>();
  const { promise: batch, resolve: tellBatch } = Promise.withResolvers<undefined>();
  const side: Side = {
    heard,
    ended,
    batch,
    onFrame: () => undefined,
    connection: new Connection(stream, silenceMs, {
      onFrame: (type, payload) => {
        heard.push(`${type} ${Buffer.from(payload).toString()}`);
        side.onFrame(type, payload);
      },
      onBatch: () => {
        heard.push("batch");
        tellBatch(undefined);
      },
      onEnd: (error) => {
        heard.push(error ?? "end");
        resolve(error);
      },
    }),
  };
  t.teardown(() => {
    side.connection.destroy(new Error("the test is over"));
  });
  return side;
}

function pair(t: ExecutionContext, silenceMs?: number): [Side, Side] {
  const [left, right] = duplexPair();
  return [sideOf(t, left, silenceMs), sideOf(t, right, silenceMs)];
}

function frame(type: FrameType, sequence: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  bytes.set(payload, HEADER_BYTES);
  sealFrame(bytes, type, sequence);
  return bytes;
}

/** A frame may come in several pieces, each of which is a batch. */
function without(heard: Side["heard"]): (string | Error)[] {
  return heard.filter((what) => what !== "batch");
}

const text = (words: string): Uint8Array => new TextEncoder().encode(words);

/** The frames that a side sends, until there are `count` of them. */
async function framesFrom(stream: Duplex, count: number): Promise<{ type: FrameType; payload: Uint8Array }[]> {
  const found: { type: FrameType; payload: Uint8Array }[] = [];
  const reader = new FrameReader((type, payload) => found.push({ type, payload: payload.slice() }));
  stream.on("data", (piece: Buffer) => {
    reader.take(piece);
  });
  while (found.length < count) await once(stream, "data");
  return found;
}

test("frames of both directions arrive in their order, their payloads put together, and a BYE ends both in peace", async (t) => {
  const [left, right] = pair(t);
  right.onFrame = (type) => {
    if (type === FRAME.HELLO) right.connection.send(FRAME.WELCOME, text("welcome"));
  };
  left.onFrame = () => {
    left.connection.send(FRAME.TRANSFER, text("in "), text(""), text("pieces"));
    left.connection.send(FRAME.POINT_END);
    left.connection.close();
  };
  left.connection.send(FRAME.HELLO, text("hello"));
  t.is(await right.ended, undefined);
  t.is(await left.ended, undefined);
  t.deepEqual(without(right.heard), ["1 hello", "4 in pieces", "8 ", "end"]);
  t.deepEqual(without(left.heard), ["2 welcome", "end"]);
});

test("a batch is told after its frames, and none after the end", async (t) => {
  const [raw, stream] = duplexPair();
  const side = sideOf(t, stream);
  const bye = frame(FRAME.BYE, 3, encodeReason({ code: "EPEACE", text: "done" }));
  raw.write(Buffer.concat([frame(FRAME.ACK, 0, text("a")), frame(FRAME.NAK, 1, text("b"))]));
  await side.batch;
  raw.write(Buffer.concat([frame(FRAME.ACK, 2, text("c")), bye, frame(FRAME.ACK, 4, text("d"))]));
  await side.ended;
  const late = once(stream, "data");
  raw.write(frame(FRAME.ACK, 5, text("e")));
  await late;
  t.deepEqual(side.heard, ["5 a", "10 b", "batch", "5 c", "end"]);
});

test("a BYE with a reason tells it, with its code", async (t) => {
  const [left, right] = pair(t);
  left.connection.closeFor({ code: "ESPLIT", text: "both were written alone" });
  const error = (await right.ended) as UblkError;
  t.is(error.code, "ESPLIT");
  t.is(error.message, "the other side says: both were written alone");
  t.is(await left.ended, undefined);
});

test("a damaged byte ends the connection, which both sides are told of, and nothing is given after it", async (t) => {
  const [raw, stream] = duplexPair();
  const side = sideOf(t, stream);
  const damaged = frame(FRAME.TRANSFER, 1, text("payload"));
  damaged[HEADER_BYTES] = (damaged[HEADER_BYTES] ?? 0) ^ 1;
  raw.write(Buffer.concat([frame(FRAME.ACK, 0, text("a")), damaged, frame(FRAME.ACK, 2, text("b"))]));
  const error = (await side.ended) as UblkError;
  t.is(error.code, "EPROTOCOL");
  t.is(error.message, "frame 1: its payload is damaged");
  const [bye] = await framesFrom(raw, 1);
  t.is(bye?.type, FRAME.BYE);
  t.deepEqual(decodeReason(bye?.payload ?? new Uint8Array()), { code: "EPROTOCOL", text: error.message });
  t.deepEqual(side.heard, ["5 a", error]);
});

test("what is thrown for a frame ends the connection, and the other side is told why", async (t) => {
  const [left, right] = pair(t);
  right.onFrame = () => {
    throw new UblkError("ENOSPC", "no room for it");
  };
  left.connection.send(FRAME.TRANSFER, text("first"));
  left.connection.send(FRAME.TRANSFER, text("second"));
  const error = (await left.ended) as UblkError;
  t.is(error.code, "ENOSPC");
  t.is(error.message, "the other side says: no room for it");
  t.is(((await right.ended) as UblkError).message, "no room for it");
  t.is(without(right.heard).length, 2);
});

test("who is ended by its own onFrame is ended once, whatever that throws then", async (t) => {
  const [left, right] = pair(t);
  right.onFrame = () => {
    right.connection.closeFor({ code: "EBUSY", text: "not now" });
    throw new Error("and this");
  };
  left.connection.send(FRAME.TRANSFER, text("first"));
  t.is(((await left.ended) as UblkError).code, "EBUSY");
  t.deepEqual(without(right.heard), ["4 first", "end"]);
});

test("a PING is answered with its number, and neither is given to anybody", async (t) => {
  const [raw, stream] = duplexPair();
  const side = sideOf(t, stream);
  const ping = new Uint8Array(PING_BYTES);
  encodePing(ping, 4711);
  raw.write(Buffer.concat([frame(FRAME.PING, 0, ping), frame(FRAME.PONG, 1, ping)]));
  const [pong] = await framesFrom(raw, 1);
  t.is(pong?.type, FRAME.PONG);
  t.deepEqual(new Uint8Array(pong?.payload ?? []), ping);
  t.deepEqual(side.heard, ["batch"]);
});

test("before the welcome a frame is short, after it as long as any", async (t) => {
  const [left, right] = pair(t);
  right.onFrame = () => {
    right.connection.acceptLargeFrames();
    right.connection.send(FRAME.WELCOME);
  };
  const { promise: welcomed, resolve } = Promise.withResolvers<unknown>();
  left.onFrame = resolve;
  left.connection.send(FRAME.HELLO, new Uint8Array(HANDSHAKE_PAYLOAD_MAX));
  await welcomed;
  right.onFrame = (_type, payload) => {
    t.is(payload.length, PAYLOAD_MAX);
    right.connection.close();
  };
  left.connection.send(FRAME.TRANSFER, new Uint8Array(PAYLOAD_MAX));
  t.is(await right.ended, undefined);
  const [early, strict] = pair(t);
  early.connection.send(FRAME.HELLO, new Uint8Array(HANDSHAKE_PAYLOAD_MAX + 1));
  t.regex((await strict.ended)?.message ?? "", /wanted at most 4096 here/);
});

test("what is too long is refused where it is sent, and leaves no gap", async (t) => {
  const [left, right] = pair(t);
  t.throws(
    () => {
      left.connection.send(FRAME.TRANSFER, new Uint8Array(PAYLOAD_MAX + 1));
    },
    { message: /room for/ },
  );
  left.connection.send(FRAME.ACK, text("a"));
  left.connection.close();
  t.is(await right.ended, undefined);
  t.is(without(right.heard)[0], "5 a");
});

test("who hears nothing for the time that was agreed takes the connection for lost, and not before", async (t) => {
  const silenceMs = 90;
  const begun = performance.now();
  const [raw, stream] = duplexPair();
  raw.resume();
  const side = sideOf(t, stream, silenceMs);
  const error = (await side.ended) as UblkError;
  t.is(error.code, "ELINK");
  t.is(error.message, "the other side was silent for 0.09 s");
  t.true(performance.now() - begun >= silenceMs);
  t.true(stream.destroyed);
});

test("two sides that have welcomed each other, and have nothing to say, stay connected by PING and PONG", async (t) => {
  const [far, left] = duplexPair();
  const side = sideOf(t, left, 60);
  side.connection.acceptLargeFrames();
  let answers = 0;
  const reader = new FrameReader((type, payload) => {
    t.is(type, FRAME.PING);
    far.write(frame(FRAME.PONG, answers++, payload.slice()));
  });
  far.on("data", (piece: Buffer) => {
    reader.take(piece);
  });
  // More than the time in which silence would have ended it.
  while (answers < 5) await once(far, "data");
  t.false(side.heard.some((what) => what !== "batch"));
});

test("before the welcome there is no PING: a side that waits says nothing", async (t) => {
  const [raw, stream] = duplexPair();
  const pieces: Buffer[] = [];
  raw.on("data", (piece: Buffer) => pieces.push(piece));
  await sideOf(t, stream, 30).ended;
  t.deepEqual(pieces, []);
});

test("a stream that ends without a BYE is told from one that is cut within a frame, and from one that never spoke", async (t) => {
  for (const [bytes, said] of [
    [frame(FRAME.ACK, 0, text("a")), /^the other side has closed the connection$/],
    [frame(FRAME.ACK, 0, text("a")).subarray(0, 20), /^frame 0: the stream ends within it$/],
    [new Uint8Array(), /without a word: both sides have to name the same transport/],
  ] as const) {
    const [raw, stream] = duplexPair();
    const side = sideOf(t, stream);
    raw.end(bytes);
    t.regex((await side.ended)?.message ?? "", said);
    t.is(side.heard.filter((what) => what instanceof Error).length, 1);
  }
});

test("a stream that fails, or was closed before, is told once, in one line", async (t) => {
  const [, stream] = duplexPair();
  const side = sideOf(t, stream);
  stream.destroy(new Error("error:0A0003FC\nand more"));
  const error = (await side.ended) as UblkError;
  t.is(error.code, "ELINK");
  t.regex(error.message, /^the connection failed: error:0A0003FC without a word/);
  const late = sideOf(t, stream);
  t.is(((await late.ended) as UblkError).code, "ELINK");
  late.connection.send(FRAME.ACK, text("nobody hears it"));
  late.connection.close();
  t.is(late.heard.length, 1);
});

test("what speaks TLS to one that does not is known by its first bytes", async (t) => {
  const [raw, stream] = duplexPair();
  const side = sideOf(t, stream);
  // An alert is shorter than a header.
  raw.write(Buffer.from("15030300020246", "hex"));
  t.regex((await side.ended)?.message ?? "", /the other side speaks TLS, and this one transport = "clear"/);
});

test("a frame that was packed arrives as it was, and tells what went over", async (t) => {
  const [left, right] = pair(t);
  right.connection.acceptLargeFrames();
  const come = new Promise<Uint8Array>((resolve) => {
    right.onFrame = (_type, payload) => {
      resolve(payload.slice());
    };
  });
  const table = text("a table");
  const data = new Uint8Array(100_000).fill(7);
  const over = left.connection.sendPacked(FRAME.TRANSFER, table, data);
  t.true(over < 1000);
  t.deepEqual(await come, new Uint8Array(Buffer.concat([table, data])));
  left.connection.close();
  t.is(left.connection.sendPacked(FRAME.TRANSFER, data), 0, "it has ended");
});
