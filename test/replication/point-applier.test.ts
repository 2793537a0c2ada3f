/** What a point becomes in writes to the image. */
import test from "ava";
import { PointApplier } from "../../src/replication/point-applier.ts";
import { encodeRuns, RUN_KIND } from "../../src/replication/point-items.ts";
import type { ReceiverLog } from "../../src/replication/receiver-log.ts";
import { TransferIndex } from "../../src/replication/transfer-index.ts";
import type { Io, IoMemory } from "../../src/ublk/io.ts";
import { Operation, type Request } from "../../src/ublk/request.ts";

const MIB = 2 ** 20;

test("zeroes of any length are written in parts, so that originals need little room at once", (t) => {
  const blocks = (9 * MIB) / 4096 + 1;
  const list = encodeRuns([{ kind: RUN_KIND.ZEROES, block: 5, blocks, transfer: 0, place: 0 }]);
  const log = {
    read: (_position: number, _length: number, memory: IoMemory, at: number, done: (result: number) => void) => {
      new Uint8Array(memory.buffer).set(list, at + 64);
      done(0);
    },
  };
  const io = { memory: (bytes: number) => ({ address: 0, buffer: new ArrayBuffer(bytes) }) };
  const written: [number, number][] = [];
  const applier = new PointApplier(
    {
      log: log as unknown as ReceiverLog,
      recordBytesMax: MIB,
      index: new TransferIndex(),
      image: {
        submit: (request: Request) => {
          if (request.operation === Operation.WRITE_ZEROES) written.push([request.offset, request.length]);
          request.succeed();
        },
      },
      firstSlot: 0,
      geometry: { volumeSectors: 100_000, blockSectors: 8 },
    },
    io as unknown as Io,
  );
  let ended: number | undefined;
  applier.apply({ incarnation: 1, lists: [{ position: 0, length: list.length }], isClosed: true }, (result) => {
    ended = result;
  });
  t.is(ended, 0);
  const at = 5 * 4096;
  t.deepEqual(written, [
    [at, 4 * MIB],
    [at + 4 * MIB, 4 * MIB],
    [at + 8 * MIB, MIB + 4096],
  ]);
});
