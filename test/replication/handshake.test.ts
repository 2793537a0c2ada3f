/** The beginning of a connection, byte by byte, and what a receiver answers to each kind of source. */
import test from "ava";
import { type Generations, NO_GENERATIONS } from "../../src/replication/generations.ts";
import {
  decodeHello,
  decodeWelcome,
  encodeHello,
  encodeWelcome,
  HANDSHAKE_PAYLOAD_MAX,
  type Hello,
  HELLO_BYTES,
  judge,
  type Known,
  reasonOf,
  type Welcome,
  WELCOME_BYTES,
} from "../../src/replication/handshake.ts";
import { encodeReason, REASON_BYTES_MAX } from "../../src/replication/messages.ts";
import { NO_TRANSFER } from "../../src/replication/transfer-id.ts";
import { UblkError } from "../../src/ublk/errors.ts";

const A = "00000000000000aa";
const B = "00000000000000bb";
const C = "fedcba9876543210";
const NONE = NO_GENERATIONS.current;

const HELLO: Hello = {
  role: "source",
  volume: "dåta",
  mark: 0x534c123456789abcn,
  volumeBytes: 2 ** 40 + 4096,
  blockBytes: 4096,
  mode: "memory",
  policy: "stop",
  generations: { current: C, bitmap: B, offered: A, history: [B, A] },
  incarnation: 6,
  connection: 3,
  lastPoint: 2 ** 33 + 1,
};
const WELCOME: Welcome = {
  wants: "recorded",
  lastTransfer: { incarnation: 5, counter: 8 },
  lastPoint: 2 ** 33,
  granted: { transferBytes: 64 * 2 ** 20, itemBytes: 16 * 2 ** 20 },
  logBytes: 2 ** 33 + 2 ** 20,
  generations: { current: B, bitmap: NONE, offered: NONE, history: [A, NONE] },
};

/** Change them only with the version. The zeros behind the name are left out. */
const PINNED = {
  hello: [
    "0100000001020200bc9a785634124c530010000000010000001000000600000003000000000000000100000002000000",
    "1032547698badcfebb00000000000000aa00000000000000bb00000000000000aa0000000000000064c3a57461",
  ].join(""),
  welcome: [
    "01000000020000000500000008000000000000000200000000000004000000000000000100000000",
    "0000100002000000bb0000000000000000000000000000000000000000000000aa000000000000000000000000000000",
  ].join(""),
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function changed(bytes: Uint8Array, at: number, ...to: number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(to, at);
  return copy;
}

function generations(current: string, bitmap = NONE): Generations {
  return { ...NO_GENERATIONS, current, bitmap };
}

/** A source that this receiver takes data from, as it did until now. */
const FITTING: Hello = { ...HELLO, generations: generations(A), volume: "data", lastPoint: 7 };
const KNOWN: Known = {
  mark: FITTING.mark,
  volumeBytes: FITTING.volumeBytes,
  blockBytes: 4096,
  generations: generations(A),
  isPromoted: false,
  isGivenUp: false,
  hasRecord: false,
  incarnation: 5,
  connection: 2,
  lastTransfer: { incarnation: 5, counter: 9 },
  lastPoint: 7,
  granted: { transferBytes: 1000, itemBytes: 2000 },
  logBytes: 3000,
};

function refusal(hello: Partial<Hello>, known: Partial<Known> | "none" = {}): { code: string; text: string } {
  const judged = judge({ ...FITTING, ...hello }, known === "none" ? undefined : { ...KNOWN, ...known });
  return judged.kind === "refused" ? judged.reason : { code: "welcome", text: judged.welcome.wants };
}

/** What the receiver wants of a source that it takes data from; the code of the refusal where it does not. */
function wanted(hello: Partial<Hello>, known: Partial<Known> = {}): string {
  const { code, text } = refusal(hello, known);
  return code === "welcome" ? text : code;
}

test("the bytes of version 1 are pinned, and say the same when they are read", (t) => {
  const hello = encodeHello(HELLO);
  t.is(hello.length, HELLO_BYTES);
  t.is(hex(hello), PINNED.hello.padEnd(2 * HELLO_BYTES, "0"));
  t.deepEqual(decodeHello(hello), HELLO);
  const welcome = encodeWelcome(WELCOME);
  t.is(welcome.length, WELCOME_BYTES);
  t.is(hex(welcome), PINNED.welcome);
  t.deepEqual(decodeWelcome(welcome), WELCOME);
});

test("every role, mode, policy and want is carried", (t) => {
  for (const role of ["source", "target"] as const) t.is(decodeHello(encodeHello({ ...HELLO, role })).role, role);
  for (const mode of ["async", "memory", "sync"] as const)
    t.is(decodeHello(encodeHello({ ...HELLO, mode })).mode, mode);
  for (const policy of ["continue", "stop"] as const) {
    t.is(decodeHello(encodeHello({ ...HELLO, policy })).policy, policy);
  }
  for (const wants of ["resume", "recorded", "full"] as const) {
    t.is(decodeWelcome(encodeWelcome({ ...WELCOME, wants })).wants, wants);
  }
});

test("another version is refused whatever else it says, what cannot be as well", (t) => {
  const hello = encodeHello(HELLO);
  const welcome = encodeWelcome(WELCOME);
  for (const other of [changed(hello, 0, 2), changed(hello, 0, 2).subarray(0, 10), new Uint8Array(4)]) {
    t.throws(() => decodeHello(other), { code: "EVERSION", message: /wanted version 1, found [02]/ });
    t.throws(() => decodeWelcome(other), { code: "EVERSION" });
  }
  const wrong = [
    new Uint8Array(0),
    hello.subarray(0, HELLO_BYTES - 1),
    Buffer.concat([hello, new Uint8Array(1)]),
    // Role, mode, policy, sizes and points beyond their ends.
    ...[4, 5, 6].flatMap((at) => [changed(hello, at, 0), changed(hello, at, 4)]),
    changed(hello, 22, 0x20),
    changed(hello, 46, 0x20),
    // No name, and one that a terminal would take for an order.
    changed(hello, 88, 0),
    changed(hello, 88, 0x1b),
  ];
  for (const bytes of wrong) t.throws(() => decodeHello(bytes), { code: "EPROTOCOL" });
  const wrongAnswers = [
    welcome.subarray(1, 1),
    welcome.subarray(0, WELCOME_BYTES - 1),
    changed(welcome, 4, 0),
    changed(welcome, 4, 4),
    changed(welcome, 22, 0x20),
    changed(welcome, 30, 0x20),
  ];
  for (const bytes of wrongAnswers) t.throws(() => decodeWelcome(bytes), { code: "EPROTOCOL" });
});

test("the longest name fits, a longer one does not", (t) => {
  const volume = "n".repeat(64);
  t.is(decodeHello(encodeHello({ ...HELLO, volume })).volume, volume);
  t.throws(() => encodeHello({ ...HELLO, volume: `${volume}n` }), { code: "ENAME" });
});

test("all that is sent before a welcome fits into the bound for it", (t) => {
  t.true(Math.max(HELLO_BYTES, WELCOME_BYTES, REASON_BYTES_MAX) <= HANDSHAKE_PAYLOAD_MAX);
});

test("a source that fits is told what the receiver has", (t) => {
  t.deepEqual(judge(FITTING, KNOWN), {
    kind: "welcome",
    welcome: {
      wants: "resume",
      lastTransfer: KNOWN.lastTransfer,
      lastPoint: 7,
      granted: { transferBytes: 1000, itemBytes: 2000 },
      logBytes: 3000,
      generations: KNOWN.generations,
    },
  });
});

test("a source that does not fit is refused with what was wanted and what was found", (t) => {
  t.like(refusal({ role: "target" }), { code: "EROLE", text: 'volume "data": wanted a source, found a target' });
  t.like(refusal({}, "none"), { code: "ENOENT" });
  t.regex(refusal({}, "none").text, /no volume "data"/);
  const mark = refusal({ mark: 5n });
  t.is(mark.code, "EOWNER");
  t.regex(mark.text, /wanted mark 0x534c123456789abc, found 0x0000000000000005/);
  t.deepEqual(refusal({ volumeBytes: 8192 }), {
    code: "ESIZE",
    text: 'volume "data": wanted 1099511631872 bytes, found 8192',
  });
  t.deepEqual(refusal({ blockBytes: 8192 }), {
    code: "EBLOCK",
    text: 'volume "data": wanted blocks of 4096 bytes, found 8192',
  });
  t.deepEqual(refusal({ incarnation: 5, connection: 2 }), {
    code: "ESTALE",
    text: 'volume "data": wanted a connection after 5.2, found 5.2',
  });
  t.is(refusal({ incarnation: 4 }).code, "ESTALE");
  t.is(judge({ ...HELLO, incarnation: 5, connection: 3 }, KNOWN).kind, "welcome");
  t.is(refusal({ generations: NO_GENERATIONS }).code, "EEMPTY");
  // Whatever is the same every time is told before what may pass.
  t.is(refusal({ incarnation: 5, connection: 2, volumeBytes: 8192 }).code, "ESIZE");
});

test("every refusal can be sent", (t) => {
  const volume = "n".repeat(64);
  const cases = [
    refusal({ volume, role: "target" }),
    refusal({ volume }, "none"),
    refusal({ volume, mark: 5n }),
    refusal({ volume, incarnation: 0 }),
    refusal({ volume, generations: generations(B) }),
    refusal({ volume }, { isPromoted: true }),
    refusal({ volume }, { generations: generations(B, A) }),
    refusal({ volume, generations: generations(C, A) }, { generations: generations(B, A) }),
  ];
  for (const reason of cases) {
    t.not(reason.code, "welcome");
    t.is(encodeReason(reason).length, 32 + reason.text.length);
  }
});

test("no data is taken where this side was written alone, or is written now", (t) => {
  const split = { generations: generations(B, A) };
  const here = { generations: generations(C, A) };
  t.is(wanted(split, here), "ESPLIT");
  t.regex(refusal(split, here).text, new RegExp(`found ${B} after ${A} at the source and ${C} after ${A} here`));
  t.is(wanted({}, { generations: generations(C, A) }), "EAHEAD");
  t.is(wanted({}, { generations: generations(C, B) }), "EUNRELATED");
  t.is(wanted({}, { isPromoted: true }), "EPROMOTED");
  t.is(wanted({ generations: generations(C, A) }, { isPromoted: true }), "EPROMOTED");
  t.is(wanted({}, { generations: generations(C, A), isPromoted: true }), "EAHEAD");
  t.is(wanted(split, { ...here, isPromoted: true }), "ESPLIT");
});

test("what a person gave up may be overwritten, but not while it is written", (t) => {
  const isGivenUp = true;
  const split = { generations: generations(B, A) };
  const here = { generations: generations(C, A), isGivenUp };
  t.is(wanted(split, here), "recorded");
  t.is(wanted(split, { ...here, isPromoted: true }), "ESPLIT");
  t.is(wanted({}, { ...here, isPromoted: true }), "EAHEAD");
  t.is(wanted({}, here), "recorded");
  t.is(wanted({}, { generations: generations(C, B), isGivenUp }), "full");
  t.is(wanted({}, { generations: generations(C, B), isGivenUp, isPromoted: true }), "EUNRELATED");
  t.is(wanted({ incarnation: 5, connection: 2 }, here), "ESTALE");
});

test("a receiver wants no more than it lacks, and no less", (t) => {
  const ahead = { generations: generations(B, A) };
  t.is(wanted(ahead), "resume");
  t.is(wanted({}, { generations: NO_GENERATIONS }), "full");
  t.is(wanted({ generations: { ...generations(C, B), history: [A, NONE] } }), "full");
  // It knows more than the source was told.
  t.is(wanted({}, { lastTransfer: { incarnation: 5, counter: 10 }, lastPoint: 8 }), "resume");
  for (const hello of [{}, ahead]) {
    // Of a log that is lost the source has the transfers still, or else it does not go on from there.
    t.is(wanted(hello, { lastTransfer: NO_TRANSFER }), "resume");
    // It was a source itself, and has places of which the source does not know.
    t.is(wanted(hello, { hasRecord: true }), "recorded");
    // It is older than the source was told it is.
    t.is(wanted(hello, { lastPoint: 6 }), "full");
  }
});

test("what ends a connection has words for the other side", (t) => {
  t.deepEqual(reasonOf(new UblkError("EVERSION", "another one")), { code: "EVERSION", text: "another one" });
  t.deepEqual(reasonOf(new TypeError("oh")), { code: "EIO", text: "oh" });
});
