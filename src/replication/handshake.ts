/**
 * How a connection of a mirror begins: the source says what it has (HELLO), and the receiver says what it has itself (WELCOME),
 * or why there is nothing to be done (REFUSED).
 *
 * Invariant: a receiver takes data of a volume only from a source that speaks as it does, of the same volume, that was not
 * heard before, and that has all that the receiver has. Whatever else it is, nothing is changed on either side.
 */
import { MIRROR_MODES, MIRROR_POLICIES, type MirrorMode, type MirrorPolicy } from "../targets/mirror/modes.ts";
import { messageOf, UblkError } from "../ublk/errors.ts";
import { type Generations, NO_GENERATION, relationOf } from "./generations.ts";
import type { Granted, Reason } from "./messages.ts";
import { getSafeNumber, setSafeNumber } from "./safe-number.ts";
import { getTransferId, setTransferId, type TransferId } from "./transfer-id.ts";

/** Of what the frames say, and when. It is refused as a whole: both sides have to have the same. */
export const PROTOCOL_VERSION = 1;
export const HELLO_BYTES = 152;
export const WELCOME_BYTES = 88;
/** Enough for any frame before WELCOME. */
export const HANDSHAKE_PAYLOAD_MAX = 4096;

/** In the order of their numbers on the wire, which begin with 1. Add at the end only. */
const ROLES = ["source", "target"] as const;
const WANTS = ["resume", "recorded", "full"] as const;

const NAME_BYTES = 64;
const GENERATIONS_BYTES = 40;
const AT = {
  version: 0,
  role: 4,
  mode: 5,
  policy: 6,
  mark: 8,
  volumeBytes: 16,
  blockBytes: 24,
  incarnation: 28,
  connection: 32,
  lastPoint: 40,
  generations: 48,
  name: 48 + GENERATIONS_BYTES,
} as const;
const WELCOME_AT = {
  version: 0,
  wants: 4,
  lastTransfer: 8,
  lastPoint: 16,
  granted: 24,
  logBytes: 40,
  generations: 48,
} as const;
// eslint-disable-next-line no-control-regex
const NAME = /^[^\u0000-\u001f\u007f-\u009f]+$/;

export type Role = (typeof ROLES)[number];
/**
 * What the receiver has to get: what is behind its last transfer, where the source has it still (else as with "recorded"); what
 * the records of both sides hold; or all of the volume.
 */
export type Wants = (typeof WANTS)[number];

/** The first frame of whoever connects. */
export interface Hello {
  readonly role: Role;
  readonly volume: string;
  /** 64 bits that are the same for all who know the volume by its name. */
  readonly mark: bigint;
  readonly volumeBytes: number;
  /** Of a block of consistency points. */
  readonly blockBytes: number;
  readonly mode: MirrorMode;
  readonly policy: MirrorPolicy;
  readonly generations: Generations;
  /** Of the source's log. No other one of this volume has it; it was durable at the source before this was sent. */
  readonly incarnation: number;
  /** Counts the connections of this incarnation. */
  readonly connection: number;
  /** The last point that the source was told is committed there: its record does not hold what is older. 0: none. */
  readonly lastPoint: number;
}

/** The answer to it, where the receiver takes data from this source. */
export interface Welcome {
  readonly wants: Wants;
  /** The last transfer in its log, all before it being there or no longer needed. */
  readonly lastTransfer: TransferId;
  /** The last point that it has committed; 0 for none. */
  readonly lastPoint: number;
  /** As in an ACK: what it takes to begin with. */
  readonly granted: Granted;
  /** What its log has room for. Of that, the transfers of a point have 3/8 at most, and its items 1/4. */
  readonly logBytes: number;
  readonly generations: Generations;
}

/** What a receiver knows of a volume that it may be the target of. */
export interface Known {
  readonly mark: bigint;
  readonly volumeBytes: number;
  readonly blockBytes: number;
  readonly generations: Generations;
  /** It is written here. */
  readonly isPromoted: boolean;
  /** A person has said that what only this side has may be overwritten. */
  readonly isGivenUp: boolean;
  /** Its own record holds places: it was a source once, and may have what no other side ever got. */
  readonly hasRecord: boolean;
  /** Of the newest source that was heard of, as in its HELLO; 0 for none. */
  readonly incarnation: number;
  readonly connection: number;
  readonly lastTransfer: TransferId;
  readonly lastPoint: number;
  readonly granted: Granted;
  readonly logBytes: number;
}

export type Judgement =
  { readonly kind: "welcome"; readonly welcome: Welcome } | { readonly kind: "refused"; readonly reason: Reason };

/** Throws ENAME for a name that is too long. */
export function encodeHello(hello: Hello): Uint8Array {
  const name = new TextEncoder().encode(hello.volume);
  if (name.length > NAME_BYTES) throw new UblkError("ENAME", `"${hello.volume}" is longer than ${NAME_BYTES} bytes`);
  const bytes = new Uint8Array(HELLO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(AT.version, PROTOCOL_VERSION, true);
  view.setUint8(AT.role, ROLES.indexOf(hello.role) + 1);
  view.setUint8(AT.mode, MIRROR_MODES.indexOf(hello.mode) + 1);
  view.setUint8(AT.policy, MIRROR_POLICIES.indexOf(hello.policy) + 1);
  view.setBigUint64(AT.mark, hello.mark, true);
  setSafeNumber(view, AT.volumeBytes, hello.volumeBytes);
  view.setUint32(AT.blockBytes, hello.blockBytes, true);
  view.setUint32(AT.incarnation, hello.incarnation, true);
  view.setUint32(AT.connection, hello.connection, true);
  setSafeNumber(view, AT.lastPoint, hello.lastPoint);
  setGenerations(view, AT.generations, hello.generations);
  bytes.set(name, AT.name);
  return bytes;
}

/** Throws EVERSION for another protocol, whatever else it says; EPROTOCOL for what cannot be. */
export function decodeHello(payload: Uint8Array): Hello {
  const view = viewOf("HELLO", payload, HELLO_BYTES);
  return {
    role: oneOf(ROLES, "role", view.getUint8(AT.role)),
    volume: decodeName(payload.subarray(AT.name)),
    mark: view.getBigUint64(AT.mark, true),
    volumeBytes: getSafeNumber(view, AT.volumeBytes),
    blockBytes: view.getUint32(AT.blockBytes, true),
    mode: oneOf(MIRROR_MODES, "mode", view.getUint8(AT.mode)),
    policy: oneOf(MIRROR_POLICIES, "policy", view.getUint8(AT.policy)),
    generations: getGenerations(view, AT.generations),
    incarnation: view.getUint32(AT.incarnation, true),
    connection: view.getUint32(AT.connection, true),
    lastPoint: getSafeNumber(view, AT.lastPoint),
  };
}

export function encodeWelcome(welcome: Welcome): Uint8Array {
  const bytes = new Uint8Array(WELCOME_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(WELCOME_AT.version, PROTOCOL_VERSION, true);
  view.setUint8(WELCOME_AT.wants, WANTS.indexOf(welcome.wants) + 1);
  setTransferId(view, WELCOME_AT.lastTransfer, welcome.lastTransfer);
  setSafeNumber(view, WELCOME_AT.lastPoint, welcome.lastPoint);
  setSafeNumber(view, WELCOME_AT.granted, welcome.granted.transferBytes);
  setSafeNumber(view, WELCOME_AT.granted + 8, welcome.granted.itemBytes);
  setSafeNumber(view, WELCOME_AT.logBytes, welcome.logBytes);
  setGenerations(view, WELCOME_AT.generations, welcome.generations);
  return bytes;
}

/** Throws as `decodeHello` does. */
export function decodeWelcome(payload: Uint8Array): Welcome {
  const view = viewOf("WELCOME", payload, WELCOME_BYTES);
  return {
    wants: oneOf(WANTS, "want", view.getUint8(WELCOME_AT.wants)),
    lastTransfer: getTransferId(view, WELCOME_AT.lastTransfer),
    lastPoint: getSafeNumber(view, WELCOME_AT.lastPoint),
    granted: {
      transferBytes: getSafeNumber(view, WELCOME_AT.granted),
      itemBytes: getSafeNumber(view, WELCOME_AT.granted + 8),
    },
    logBytes: getSafeNumber(view, WELCOME_AT.logBytes),
    generations: getGenerations(view, WELCOME_AT.generations),
  };
}

/** What a receiver answers to a HELLO. `known` is undefined where it has no such volume to be mirrored to. */
export function judge(hello: Hello, known: Known | undefined): Judgement {
  if (known === undefined) {
    return { kind: "refused", reason: refused("ENOENT", `no volume "${hello.volume}" is mirrored to here`) };
  }
  const reason = faultOf(hello, known);
  if (reason !== undefined) return { kind: "refused", reason };
  const { lastTransfer, lastPoint, granted, logBytes, generations } = known;
  const wants = wantsOf(hello, known);
  return { kind: "welcome", welcome: { wants, lastTransfer, lastPoint, granted, logBytes, generations } };
}

/**
 * Why a receiver does not take the volume over from a source that gives it up, or would; undefined where it does. What it says is
 * a HELLO: with the role of a target once it has given the volume up.
 */
export function faultOfTakeOver(hello: Hello, known: Known): Reason | undefined {
  const volume = `volume "${hello.volume}"`;
  const fault = faultOfVolume(hello, known) ?? faultOfGenerations(hello, known);
  if (fault !== undefined) return fault;
  if (hello.incarnation < known.incarnation) {
    return refused(
      "ESTALE",
      `${volume}: wanted the source that was heard of last, incarnation ${known.incarnation}, found ${hello.incarnation}`,
    );
  }
  if (relationOf(hello.generations, known.generations).kind !== "same") {
    return refused(
      "EBEHIND",
      `${volume}: wanted all that the source has, found ${historyOf(hello.generations)} at the source and ${historyOf(known.generations)} here`,
    );
  }
  if (known.lastPoint >= hello.lastPoint) return undefined;
  return refused("EBEHIND", `${volume}: wanted point ${hello.lastPoint} of the source, found ${known.lastPoint} here`);
}

/** The words for a HELLO that cannot be read, or for whatever else ends a connection. */
export function reasonOf(error: unknown): Reason {
  return { code: error instanceof UblkError ? error.code : "EIO", text: messageOf(error) };
}

/** What is the same every time comes before what may pass. */
function faultOf(hello: Hello, known: Known): Reason | undefined {
  const { role, volume } = hello;
  if (role !== "source") return refused("EROLE", `volume "${volume}": wanted a source, found a ${role}`);
  return faultOfVolume(hello, known) ?? faultOfGenerations(hello, known) ?? faultOfConnection(hello, known);
}

function faultOfVolume(hello: Hello, known: Known): Reason | undefined {
  const volume = `volume "${hello.volume}"`;
  if (hello.mark !== known.mark) {
    return refused(
      "EOWNER",
      `${volume}: wanted mark ${hex(known.mark)}, found ${hex(hello.mark)}: it is another volume`,
    );
  }
  if (hello.volumeBytes !== known.volumeBytes) {
    return refused("ESIZE", `${volume}: wanted ${known.volumeBytes} bytes, found ${hello.volumeBytes}`);
  }
  if (hello.blockBytes !== known.blockBytes) {
    return refused("EBLOCK", `${volume}: wanted blocks of ${known.blockBytes} bytes, found ${hello.blockBytes}`);
  }
  return undefined;
}

function faultOfGenerations(hello: Hello, known: Known): Reason | undefined {
  const volume = `volume "${hello.volume}"`;
  const { kind } = relationOf(hello.generations, known.generations);
  const found = `found ${historyOf(hello.generations)} at the source and ${historyOf(known.generations)} here`;
  if (hello.generations.current === NO_GENERATION) {
    return refused("EEMPTY", `${volume}: wanted a source that has data, found none of any generation`);
  }
  const mayLose = known.isGivenUp && !known.isPromoted;
  if (kind === "split-brain" && !mayLose) {
    return refused(
      "ESPLIT",
      `${volume}: wanted one side that has all that the other has, ${found}: both were written alone`,
    );
  }
  if (kind === "unrelated" && !mayLose) {
    return refused(
      "EUNRELATED",
      `${volume}: wanted generations with something in common, ${found}, which have nothing`,
    );
  }
  if (kind === "they-are-ahead" && !mayLose) {
    return refused(
      "EAHEAD",
      `${volume}: wanted a source that has all that is here, ${found}, which is newer: mirror from here`,
    );
  }
  if (known.isPromoted) {
    return refused(
      "EPROMOTED",
      `${volume}: wanted one that nobody writes here, found it promoted: it is a source itself`,
    );
  }
  return undefined;
}

/** The newest one first. */
function historyOf({ current, bitmap, offered, history }: Generations): string {
  const names = [current, offered, bitmap, ...history].filter((name) => name !== NO_GENERATION);
  return [...new Set(names)].join(" after ") || "none";
}

function faultOfConnection({ volume, incarnation, connection }: Hello, known: Known): Reason | undefined {
  if (incarnation > known.incarnation) return undefined;
  if (incarnation === known.incarnation && connection > known.connection) return undefined;
  return refused(
    "ESTALE",
    `volume "${volume}": wanted a connection after ${known.incarnation}.${known.connection}, found ${incarnation}.${connection}`,
  );
}

function wantsOf(hello: Hello, known: Known): Wants {
  const { kind, copy } = relationOf(hello.generations, known.generations);
  // The receiver is older than the source was told it is: what the source's record let go since is missing.
  if (copy === "full" || known.lastPoint < hello.lastPoint) return "full";
  // It may have what the source does not know of.
  const isFollower = kind === "same" || kind === "i-am-ahead";
  if (!isFollower || known.hasRecord) return "recorded";
  return "resume";
}

function refused(code: string, text: string): Reason {
  return { code, text };
}

function hex(mark: bigint): string {
  return `0x${mark.toString(16).padStart(16, "0")}`;
}

/** The version stays in its place whatever else changes. */
function viewOf(what: string, payload: Uint8Array, wanted: number): DataView {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  if (payload.length >= 4 && view.getUint32(0, true) !== PROTOCOL_VERSION) {
    const version = view.getUint32(0, true);
    throw new UblkError(
      "EVERSION",
      `protocol: wanted version ${PROTOCOL_VERSION}, found ${version}: use equal sluices`,
    );
  }
  if (payload.length !== wanted) {
    throw new UblkError("EPROTOCOL", `${what} has ${payload.length} bytes, wanted ${wanted}`);
  }
  return view;
}

function oneOf<T>(names: readonly T[], what: string, number: number): T {
  const name = names[number - 1];
  if (name === undefined) throw new UblkError("EPROTOCOL", `no ${what} has number ${number}`);
  return name;
}

function decodeName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const name = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  if (!NAME.test(name)) throw new UblkError("EPROTOCOL", "the name of the volume is empty, or not to be printed");
  return name;
}

/** Current, bitmap, offered, and the two of the history, the newer one first. */
function setGenerations(view: DataView, at: number, side: Generations): void {
  [side.current, side.bitmap, side.offered, ...side.history].forEach((generation, index) => {
    view.setBigUint64(at + index * 8, BigInt(`0x${generation}`), true);
  });
}

function getGenerations(view: DataView, at: number): Generations {
  const generation = (index: number): string =>
    view
      .getBigUint64(at + index * 8, true)
      .toString(16)
      .padStart(16, "0");
  return {
    current: generation(0),
    bitmap: generation(1),
    offered: generation(2),
    history: [generation(3), generation(4)],
  };
}
