/** The source's log beside a plain list of what was appended. */
import test from "ava";
import fc from "fast-check";
import { TRANSFER_SECTORS_MAX } from "../../src/targets/mirror/dirty-blocks.ts";
import {
  RING_ENTRIES,
  transferRingBytes,
  TransferReader,
  TransferWriter,
} from "../../src/targets/mirror/transfer-ring.ts";
import { decodeTransfer, ENTRY_KIND, SECTOR_BYTES, type TransferEntry } from "../../src/targets/mirror/transfer.ts";

const VOLUME_SECTORS = 2 ** 30;

interface Appended extends TransferEntry {
  readonly sequence: number;
  readonly fill: number;
  readonly transfer: number;
  readonly place: number;
}

interface Ring {
  readonly writer: TransferWriter;
  readonly reader: TransferReader;
}

function setUp(slots: number, dataBytes: number, first = { number: 1, sequence: 1 }): Ring {
  const size = { slots, dataBytes };
  const memory = new SharedArrayBuffer(transferRingBytes(size));
  return { writer: new TransferWriter(memory, size, first), reader: new TransferReader(memory, size, 77) };
}

function write(writer: TransferWriter, sector: number, sectors: number, fill: number): Appended | undefined {
  if (!writer.appendData(sector, new Uint8Array(sectors * SECTOR_BYTES).fill(fill))) return undefined;
  const { transfer, place, lastSequence: sequence } = writer;
  return { kind: ENTRY_KIND.DATA, sector, sectors, sequence, fill, transfer, place };
}

function zero(writer: TransferWriter, sector: number, sectors: number): Appended | undefined {
  if (!writer.appendZeroes(sector, sectors)) return undefined;
  const { transfer, lastSequence: sequence } = writer;
  return { kind: ENTRY_KIND.ZEROES, sector, sectors, sequence, fill: 0, transfer, place: 0 };
}

/** All of a transfer as it goes over the wire, decoded; what is wrong with it beside what was appended, if anything. */
function faultOf(reader: TransferReader, number: number, wanted: Appended[]): string | undefined {
  const closed = reader.take(number, false);
  const bytes = Buffer.concat([closed.table, ...closed.pieces]);
  const { entries, data, ...ids } = decodeTransfer(bytes, VOLUME_SECTORS);
  if (ids.incarnation !== 77 || ids.number !== number) return "another ID";
  const mine = wanted.splice(0, entries.length);
  if (mine.length !== entries.length) return "more than was appended";
  if (ids.sequence !== mine[0]?.sequence || closed.lastSequence !== mine.at(-1)?.sequence) return "another sequence";
  for (const [index, { kind, sector, sectors, fill, transfer, place }] of mine.entries()) {
    const entry = entries[index];
    if (entry?.kind !== kind || entry.sector !== sector || entry.sectors !== sectors) return "another write";
    if (transfer !== number) return "it was told to be in another transfer";
    const part = data.subarray(place * SECTOR_BYTES, (place + sectors) * SECTOR_BYTES);
    if (kind === ENTRY_KIND.DATA && !part.every((byte) => byte === fill)) return "other data";
  }
  return undefined;
}

test("what was appended comes in order and whole, whatever is kept, sent again and released", (t) => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ what: fc.constant("data" as const), size: fc.integer({ min: 1, max: 16 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ what: fc.constant("zeroes" as const), size: fc.integer({ min: 1, max: 2 ** 20 }) }),
    },
    { weight: 2, arbitrary: fc.record({ what: fc.constant("close" as const), size: fc.constant(0) }) },
    {
      weight: 2,
      arbitrary: fc.record({ what: fc.constant("release" as const), size: fc.integer({ min: 1, max: 4 }) }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      // The numbers go round early on.
      const { writer, reader } = setUp(8, 64 * SECTOR_BYTES, { number: 2 ** 32 - 3, sequence: 100 });
      let kept: Appended[] = [];
      let fill = 0;
      for (const { what, size } of steps) {
        if (what === "close") writer.close();
        else if (what === "release") {
          const number = (reader.first + Math.min(size, reader.ageOf(reader.end))) % 2 ** 32;
          const gone = new Set<number>();
          for (let each = reader.first; each !== number; each = (each + 1) % 2 ** 32) gone.add(each);
          kept = kept.filter(({ transfer }) => !gone.has(transfer));
          reader.release(number);
        } else {
          fill = (fill + 1) % 256;
          const sector = fill * 1000;
          const appended = what === "data" ? write(writer, sector, size, fill) : zero(writer, sector, size);
          if (appended !== undefined) kept.push(appended);
        }
        const open = kept.filter(({ transfer }) => !reader.has(transfer));
        const closed = kept.filter(({ transfer }) => reader.has(transfer));
        for (let number = reader.first; reader.has(number); number = (number + 1) % 2 ** 32) {
          const fault = faultOf(reader, number, closed);
          if (fault !== undefined) throw new Error(fault);
        }
        if (closed.length > 0 || open.length > RING_ENTRIES) return false;
      }
      return true;
    }),
    { numRuns: 200 },
  );
  t.pass();
});

test("no room: data, transfers; and room again when something was released", (t) => {
  const { writer, reader } = setUp(4, 16 * SECTOR_BYTES);
  t.truthy(write(writer, 0, 10, 1));
  t.is(write(writer, 0, 7, 2), undefined);
  writer.close();
  t.is(write(writer, 0, 7, 2), undefined, "what is closed is kept");
  reader.release(2);
  t.truthy(write(writer, 0, 7, 2));
  for (let number = 2; number < 5; number++) {
    writer.close();
    t.truthy(zero(writer, 0, 1), `transfer ${number + 1}`);
  }
  writer.close();
  t.is(zero(writer, 0, 1), undefined, "all slots are taken");
  t.deepEqual([reader.first, reader.end], [2, 6]);
  reader.release(3);
  t.truthy(zero(writer, 0, 1));
});

test("a transfer is closed when it is full: of writes, of data", (t) => {
  const { writer, reader } = setUp(8, 2 ** 23);
  for (let index = 0; index <= RING_ENTRIES; index++) t.truthy(zero(writer, index, 1));
  t.is(reader.end, 2);
  t.is(reader.take(1, false).lastSequence, RING_ENTRIES);
  t.truthy(write(writer, 0, TRANSFER_SECTORS_MAX, 1));
  t.is(reader.end, 2);
  t.truthy(write(writer, 0, 1, 1));
  t.is(reader.end, 3);
});

test("the link that waits is told, and has what is open closed", async (t) => {
  const { writer, reader } = setUp(8, 2 ** 20);
  let woken = 0;
  const wake = (): void => {
    woken++;
    if (writer.isWanted) writer.close();
  };
  t.false(writer.isWanted);
  zero(writer, 0, 1);
  t.false(writer.isWanted, "nobody waits");
  await reader.waitBeyond(reader.end, wake);
  t.is(woken, 1);
  t.is(reader.end, 2);
  const waiting = reader.waitBeyond(reader.end, wake);
  zero(writer, 0, 1);
  t.true(writer.isWanted);
  writer.close();
  await waiting;
  t.is(reader.end, 3);
  zero(writer, 0, 1);
  t.false(writer.isWanted);
});
