/** A source of a mirrored volume, by hand: it says over a connection what a test wants it to say. */
import { crc32 } from "node:zlib";
import { Connection } from "../../src/replication/connection.ts";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import { created } from "../../src/replication/generations.ts";
import { decodeWelcome, encodeHello, type Hello, type Welcome } from "../../src/replication/handshake.ts";
import {
  decodePointCommitted,
  decodeReason,
  encodePointBegin,
  encodePointEnd,
  POINT_BEGIN_BYTES,
  POINT_END_BYTES,
  type PointBegin,
  type Reason,
} from "../../src/replication/messages.ts";
import { encodeRuns, RUN_KIND, type PointRun } from "../../src/replication/point-items.ts";
import { type TransferId } from "../../src/replication/transfer-id.ts";
import { clearTransport, type Address } from "../../src/replication/transport.ts";
import { encodeTable, ENTRY_KIND, SECTOR_BYTES } from "../../src/targets/mirror/transfer.ts";
import { volumeMark } from "../../src/control/identity.ts";

export const BLOCK_BYTES = 4096;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;
const SILENCE_MS = 30_000;

interface Heard {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

export function helloOf(volume: string, volumeBytes: number, change: Partial<Hello> = {}): Hello {
  return {
    role: "source",
    volume,
    mark: volumeMark(volume),
    volumeBytes,
    blockBytes: BLOCK_BYTES,
    mode: "async",
    policy: "continue",
    generations: created("00000000000000aa"),
    incarnation: 1,
    connection: 1,
    lastPoint: 0,
    ...change,
  };
}

export class FakeSource {
  readonly #connection: Connection;
  readonly #heard: Heard[] = [];
  #wake: () => void = () => undefined;
  #hasEnded = false;
  readonly ended = Promise.withResolvers<Error | undefined>();

  private constructor(stream: Awaited<ReturnType<typeof clearTransport.connect>>, silenceMs: number) {
    this.#connection = new Connection(stream, silenceMs, {
      onFrame: (type, payload) => {
        this.#heard.push({ type, payload: new Uint8Array(payload) });
        this.#wake();
      },
      onEnd: (error) => {
        this.#hasEnded = true;
        this.ended.resolve(error);
        this.#wake();
      },
    });
  }

  /** It gives a sign of life at least every third of `silenceMs`. */
  static async connect(address: Address, silenceMs = SILENCE_MS): Promise<FakeSource> {
    return new FakeSource(await clearTransport.connect(address, new AbortController().signal), silenceMs);
  }

  readonly send = (type: FrameType, payload: Uint8Array): void => {
    this.#connection.send(type, payload);
  };

  /** The payload of the next frame of this type; others before it are left out. */
  async next(wanted: FrameType): Promise<Uint8Array> {
    for (;;) {
      const found = this.#heard.shift();
      if (found?.type === wanted) return found.payload;
      if (found !== undefined && (found.type === FRAME.REFUSED || found.type === FRAME.WELCOME)) {
        throw new Error(
          `wanted type ${wanted}, found ${found.type === FRAME.REFUSED ? JSON.stringify(decodeReason(found.payload)) : "WELCOME"}`,
        );
      }
      if (found !== undefined) continue;
      if (this.#hasEnded) throw new Error(`it has ended: ${String(await this.ended.promise)}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async welcomed(hello: Hello): Promise<Welcome> {
    this.send(FRAME.HELLO, encodeHello(hello));
    return decodeWelcome(await this.next(FRAME.WELCOME));
  }

  async refused(payload: Uint8Array): Promise<Reason> {
    this.send(FRAME.HELLO, payload);
    return decodeReason(await this.next(FRAME.REFUSED));
  }

  /** "taken over", or why not. */
  async takeOver(hello: Hello): Promise<string> {
    this.send(FRAME.TAKE_OVER, encodeHello(hello));
    while (this.#heard.length === 0) {
      if (this.#hasEnded) throw new Error(`it has ended: ${String(await this.ended.promise)}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const { type, payload } = this.#heard.shift() as Heard;
    if (type === FRAME.TAKEN_OVER) return "taken over";
    const { code, text } = decodeReason(payload);
    return `${code}: ${text}`;
  }

  /** A transfer of one write: a whole block of these bytes. */
  write(incarnation: number, number: number, block: number, byte: number): void {
    const entries = [{ kind: ENTRY_KIND.DATA, sector: block * BLOCK_SECTORS, sectors: BLOCK_SECTORS }];
    const table = encodeTable({ incarnation, number, sequence: number, log: 1, isAwaited: false, entries });
    this.send(FRAME.TRANSFER, new Uint8Array(Buffer.concat([table, Buffer.alloc(BLOCK_BYTES, byte)])));
  }

  /** A closed point: blocks that transfers of its incarnation have, each one in another. Resolves when it is committed. */
  point(
    point: number,
    cut: TransferId,
    blocks: readonly { readonly block: number; readonly transfer: number }[],
    createdMs: number,
  ): Promise<number> {
    const runs = blocks.map(({ block, transfer }) => ({
      kind: RUN_KIND.REFERENCE,
      block,
      blocks: 1,
      transfer,
      place: 0,
    }));
    return this.#point({ point, cut, createdMs, isClosed: true, next: cut.counter + 1, log: 1 }, runs);
  }

  /** A closed point in which all of a volume of so many blocks is zeroes. */
  zeroesPoint(point: number, cut: TransferId, blocks: number): Promise<number> {
    const runs = [{ kind: RUN_KIND.ZEROES, block: 0, blocks, transfer: 0, place: 0 }];
    return this.#point({ point, cut, createdMs: 0, isClosed: true, next: cut.counter + 1, log: 1 }, runs);
  }

  async #point(head: PointBegin, runs: readonly PointRun[]): Promise<number> {
    const { point } = head;
    const begin = new Uint8Array(POINT_BEGIN_BYTES);
    encodePointBegin(begin, head);
    const items = encodeRuns(runs);
    const end = new Uint8Array(POINT_END_BYTES);
    encodePointEnd(end, { point, items: 1, checksum: crc32(items) });
    this.send(FRAME.POINT_BEGIN, begin);
    this.send(FRAME.POINT_ITEMS, items);
    this.send(FRAME.POINT_END, end);
    return decodePointCommitted(await this.next(FRAME.POINT_COMMITTED));
  }

  close(): void {
    this.#connection.close();
  }

  /** As if the link were cut. */
  cut(): void {
    this.#connection.destroy(new Error("cut"));
  }
}
