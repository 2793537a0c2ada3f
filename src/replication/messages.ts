/**
 * What the small frames say, byte by byte. Each goes to the payload's place in a frame, which must have as many bytes as are
 * told here; docs/protocol.md has the tables.
 *
 * Invariant: a payload that does not have exactly the size of its kind is refused, and so is a number that cannot be.
 */
import { UblkError } from "../ublk/errors.ts";
import { getSafeNumber, setSafeNumber } from "./safe-number.ts";
import { getTransferId, setTransferId, type TransferId } from "./transfer-id.ts";

export const ACK_BYTES = 56;
export const POINT_BEGIN_BYTES = 40;
export const POINT_END_BYTES = 24;
export const POINT_COMMITTED_BYTES = 8;
export const PING_BYTES = 8;
const CODE_BYTES = 32;
/** The longest text of a reason, in UTF-8. */
export const REASON_TEXT_MAX = 1024;
export const REASON_BYTES_MAX = CODE_BYTES + REASON_TEXT_MAX;

const CHARGE_HEADER_BYTES = 64;
const CHARGE_UNIT_BYTES = 4096;
const CLOSED = 1;
const OPEN = 2;
const AT_WORK = 0;
const AT_REST = 1;
const CODE = /^E[A-Z0-9]{1,31}$/;
// Whatever a terminal takes for an order.
// eslint-disable-next-line no-control-regex
const CONTROL_CHARACTERS = /[\u0000-\u001f\u007f-\u009f]/g;

/** What a receiver takes in all, by `chargeOf`: items never wait for room that transfers have taken. */
export interface Granted {
  readonly transferBytes: number;
  readonly itemBytes: number;
}

/** What a frame of TRANSFER or POINT_ITEMS counts as: no log needs more for it. */
export function chargeOf(payloadBytes: number): number {
  return Math.ceil((payloadBytes + CHARGE_HEADER_BYTES) / CHARGE_UNIT_BYTES) * CHARGE_UNIT_BYTES;
}

/** From the receiver: what it has, and what more it takes. */
export interface Ack {
  /** The last transfer that is in its memory, with all before it. */
  readonly received: TransferId;
  /** The last one that is durable in its log, with all before it. */
  readonly durable: TransferId;
  /** So much it takes in all, by `chargeOf`, from the connection's beginning: of transfers, and of items. Never shrinks. */
  readonly granted: Granted;
  /** So much of what was granted has come. */
  readonly taken: Granted;
  /** All that has come is durable, and of the points that are committed nothing is to be done: only another point makes room. */
  readonly isAtRest: boolean;
}

/** From the source, before the items of a consistency point. */
export interface PointBegin {
  /** Its number: larger than that of any other point of the volume before it. */
  readonly point: number;
  /** The last transfer that belongs to it. */
  readonly cut: TransferId;
  /** The moment of the source that it is, in milliseconds since 1970. */
  readonly createdMs: number;
  /** It reproduces that moment. Where it does not, as something is still to be copied, the receiver stays in the last one that did. */
  readonly isClosed: boolean;
  /** The number of the first transfer of this source that is not in it, whether it exists yet or not. */
  readonly next: number;
  /** Which log of the source it was cut from. */
  readonly log: number;
}

/** From the source, behind the items of a point: with it the point may be committed. */
export interface PointEnd {
  readonly point: number;
  /** How many POINT_ITEMS there were. */
  readonly items: number;
  /** CRC-32 of the payloads of all its POINT_ITEMS, one behind the other. */
  readonly checksum: number;
}

/** Why a connection is refused, or ends. */
export interface Reason {
  /** As of an error: up to 32 capital letters and digits, "E" first. */
  readonly code: string;
  /** For people. What is longer than REASON_TEXT_MAX bytes is cut. */
  readonly text: string;
}

export function encodeAck(into: Uint8Array, ack: Ack): void {
  const { received, durable, granted, taken, isAtRest } = ack;
  const view = viewOf("ACK", into, ACK_BYTES);
  setTransferId(view, 0, received);
  setTransferId(view, 8, durable);
  setSafeNumber(view, 16, granted.transferBytes);
  setSafeNumber(view, 24, granted.itemBytes);
  setSafeNumber(view, 32, taken.transferBytes);
  setSafeNumber(view, 40, taken.itemBytes);
  view.setUint32(48, isAtRest ? AT_REST : AT_WORK, true);
  view.setUint32(52, 0, true);
}

export function decodeAck(payload: Uint8Array): Ack {
  const view = viewOf("ACK", payload, ACK_BYTES);
  const state = view.getUint32(48, true);
  if (state !== AT_WORK && state !== AT_REST) throw new UblkError("EPROTOCOL", `no receiver is in state ${state}`);
  return {
    received: getTransferId(view, 0),
    durable: getTransferId(view, 8),
    granted: { transferBytes: getSafeNumber(view, 16), itemBytes: getSafeNumber(view, 24) },
    taken: { transferBytes: getSafeNumber(view, 32), itemBytes: getSafeNumber(view, 40) },
    isAtRest: state === AT_REST,
  };
}

export function encodePointBegin(into: Uint8Array, { point, cut, createdMs, isClosed, next, log }: PointBegin): void {
  const view = viewOf("POINT_BEGIN", into, POINT_BEGIN_BYTES);
  setSafeNumber(view, 0, point);
  setTransferId(view, 8, cut);
  setSafeNumber(view, 16, Math.round(createdMs));
  view.setUint32(24, isClosed ? CLOSED : OPEN, true);
  view.setUint32(28, next, true);
  view.setUint32(32, log, true);
  view.setUint32(36, 0, true);
}

export function decodePointBegin(payload: Uint8Array): PointBegin {
  const view = viewOf("POINT_BEGIN", payload, POINT_BEGIN_BYTES);
  const kind = view.getUint32(24, true);
  if (kind !== CLOSED && kind !== OPEN) throw new UblkError("EPROTOCOL", `no point is of kind ${kind}`);
  return {
    point: getSafeNumber(view, 0),
    cut: getTransferId(view, 8),
    createdMs: getSafeNumber(view, 16),
    isClosed: view.getUint32(24, true) === CLOSED,
    next: view.getUint32(28, true),
    log: view.getUint32(32, true),
  };
}

export function encodePointEnd(into: Uint8Array, { point, items, checksum }: PointEnd): void {
  const view = viewOf("POINT_END", into, POINT_END_BYTES);
  setSafeNumber(view, 0, point);
  setSafeNumber(view, 8, items);
  view.setUint32(16, checksum, true);
  view.setUint32(20, 0, true);
}

export function decodePointEnd(payload: Uint8Array): PointEnd {
  const view = viewOf("POINT_END", payload, POINT_END_BYTES);
  return { point: getSafeNumber(view, 0), items: getSafeNumber(view, 8), checksum: view.getUint32(16, true) };
}

/** From the receiver: it is in this point from now on, whatever dies. */
export function encodePointCommitted(into: Uint8Array, point: number): void {
  setSafeNumber(viewOf("POINT_COMMITTED", into, POINT_COMMITTED_BYTES), 0, point);
}

export function decodePointCommitted(payload: Uint8Array): number {
  return getSafeNumber(viewOf("POINT_COMMITTED", payload, POINT_COMMITTED_BYTES), 0);
}

/** PING and PONG alike: the answer has the token of what it answers. */
export function encodePing(into: Uint8Array, token: number): void {
  setSafeNumber(viewOf("PING", into, PING_BYTES), 0, token);
}

export function decodePing(payload: Uint8Array): number {
  return getSafeNumber(viewOf("PING", payload, PING_BYTES), 0);
}

/** The payload of REFUSED and of BYE. Its size depends on the text. Throws EINVAL for a code that is none. */
export function encodeReason({ code, text }: Reason): Uint8Array {
  if (!CODE.test(code)) throw new UblkError("EINVAL", `"${code}" is no code of a reason`);
  const into = new Uint8Array(REASON_BYTES_MAX);
  new TextEncoder().encodeInto(code, into);
  // Cuts where a character ends.
  const { written } = new TextEncoder().encodeInto(text, into.subarray(CODE_BYTES));
  return into.subarray(0, CODE_BYTES + written);
}

/** What a terminal would take for an order is replaced in the text. */
export function decodeReason(payload: Uint8Array): Reason {
  if (payload.length < CODE_BYTES || payload.length > REASON_BYTES_MAX) {
    throw new UblkError(
      "EPROTOCOL",
      `a reason has ${payload.length} bytes, wanted ${CODE_BYTES} to ${REASON_BYTES_MAX}`,
    );
  }
  const decoder = new TextDecoder();
  const code = decoder.decode(payload.subarray(0, CODE_BYTES)).replace(/\0+$/, "");
  if (!CODE.test(code)) throw new UblkError("EPROTOCOL", "the code of a reason is none");
  const text = decoder.decode(payload.subarray(CODE_BYTES)).replaceAll(CONTROL_CHARACTERS, "\ufffd");
  return { code, text };
}

/** Throws EPROTOCOL where there are not so many bytes. */
function viewOf(what: string, bytes: Uint8Array, wanted: number): DataView {
  if (bytes.length !== wanted) {
    throw new UblkError("EPROTOCOL", `${what} has ${bytes.length} bytes, wanted ${wanted}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset, wanted);
}
