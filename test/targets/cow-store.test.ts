/** The store of originals, on a file whose writes fail when they are told to. */
import test from "ava";
import { Layout } from "../../src/targets/cow/layout.ts";
import { FROM_VOLUME, LAST_EPOCH, Moves } from "../../src/targets/cow/moves.ts";
import { OriginalStore } from "../../src/targets/cow/original-store.ts";
import { Segments } from "../../src/targets/cow/segments.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import type { CompletionHandler, Io } from "../../src/ublk/io.ts";

const LAYOUT = new Layout({ blockBytes: 4096, sectorBytes: 512, slotsPerSegment: 8, segments: 4, catalogBytes: 4096 });
const EPOCH = 3;

interface Write {
  readonly offset: number;
  readonly length: number;
}

/** Keeps writes until they are ended. */
class Writes {
  readonly all: Write[] = [];
  readonly #handlers: CompletionHandler[] = [];
  #pending: number[] = [];

  readonly io = {
    addHandler: (handler: CompletionHandler) => this.#handlers.push(handler) - 1,
    memory: (lengthBytes: number) => ({ address: 4096, buffer: new ArrayBuffer(lengthBytes) }),
    transfer: (_opcode: number, _file: number, offset: number, _address: number, length: number) => {
      this.all.push({ offset, length });
      this.#pending.push(length);
    },
  } as unknown as Io;

  /** All that are under way: the first one with this result, or in full. */
  end(first?: number): void {
    const pending = this.#pending;
    this.#pending = [];
    pending.forEach((length, index) => {
      this.#handlers[0]?.completed(length, index === 0 ? (first ?? length) : length, 0);
    });
  }
}

function openStore(): { writes: Writes; store: OriginalStore; moves: Moves } {
  const writes = new Writes();
  const segments = new Segments(new Uint32Array(4));
  segments.releaseUnwanted();
  const store = new OriginalStore(LAYOUT, 7, writes.io, 0, { segments, settled: 0, entriesBefore: 0 });
  const moves = new Moves(writes.io, 8, 4096, 0);
  for (let at = 0; at < 8; at++) moves.set(at, 100 + at, FROM_VOLUME, LAST_EPOCH);
  return { writes, store, moves };
}

test("an append is a write of its blocks and one of their table, and ends when both have", (t) => {
  const { writes, store, moves } = openStore();
  const results: number[] = [];
  store.append(moves, 0, 3, EPOCH, (result) => results.push(result));
  t.deepEqual(
    writes.all.map(({ length }) => length),
    [3 * 4096, 512],
  );
  t.deepEqual(results, []);
  writes.end();
  t.deepEqual(results, [0]);
  t.deepEqual([...moves.epochs.slice(0, 4)], [EPOCH, EPOCH, EPOCH, LAST_EPOCH]);
});

test("after an append that failed, or fell short, nothing is written any more: it would tell of what is not there", (t) => {
  for (const [first, wanted] of [
    [-ERRNO.ENOSPC, -ERRNO.ENOSPC],
    [4096, -ERRNO.EIO],
  ] as const) {
    const { writes, store, moves } = openStore();
    const results: number[] = [];
    store.append(moves, 0, 2, EPOCH, (result) => results.push(result));
    writes.end(first);
    const written = writes.all.length;
    store.append(moves, 2, 2, EPOCH, (result) => results.push(result));
    t.deepEqual(results, [wanted, wanted]);
    t.is(writes.all.length, written);
  }
});
