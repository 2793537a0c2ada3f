/** The order of writes that wait. */
import test from "ava";
import { HeldWrites } from "../../src/targets/cow/held-writes.ts";
import { Operation, Request } from "../../src/ublk/request.ts";

function request(slot: number, operation: Operation, offset = 0, length = 0): Request {
  const made = new Request(slot, new Uint8Array(0), 0);
  made.operation = operation;
  made.offset = offset;
  made.length = length;
  return made;
}

const write = (slot: number, offset: number): Request => request(slot, Operation.WRITE, offset, 4096);

function scene(): { held: HeldWrites; ready: Set<number>; gone: number[]; release: () => void } {
  const held = new HeldWrites(8);
  const ready = new Set<number>();
  const gone: number[] = [];
  const release = (): void =>
    held.release(
      ({ slot }) => ready.has(slot),
      ({ slot }) => void gone.push(slot),
    );
  return { held, ready, gone, release };
}

test("writes that overlap go in the order in which they came, others as soon as they can", (t) => {
  const { held, ready, gone, release } = scene();
  held.hold(write(0, 0));
  t.true(held.overlaps(write(5, 2048)));
  t.false(held.overlaps(write(5, 4096)));
  held.hold(write(1, 2048));
  held.hold(write(2, 8192));
  ready.add(1).add(2);
  release();
  t.deepEqual(gone, [2]);
  ready.add(0);
  release();
  t.deepEqual(gone, [2, 0, 1]);
  t.is(held.count, 0);
});

test("a flush goes when the writes that were held before it have been answered, and waits for no others", (t) => {
  const { held, ready, gone, release } = scene();
  const before = write(0, 0);
  const after = write(2, 4096);
  held.hold(before);
  held.hold(request(1, Operation.FLUSH));
  held.hold(after);
  ready.add(0).add(2);
  release();
  t.deepEqual(gone, [0, 2]);
  t.false(held.answered(after));
  release();
  t.deepEqual(gone, [0, 2], "the write that came before it is still under way");
  t.true(held.answered(before));
  release();
  t.deepEqual(gone, [0, 2, 1]);
});

test("a write that had gone on before a flush came is not waited for", (t) => {
  const { held, ready, gone, release } = scene();
  const early = write(0, 0);
  held.hold(early);
  ready.add(0);
  release();
  held.hold(write(1, 8192));
  held.hold(request(2, Operation.FLUSH));
  ready.add(1);
  release();
  t.deepEqual(gone, [0, 1]);
  t.false(held.answered(early));
  t.true(held.answered(write(1, 8192)));
});

test("a write may be let go while another one goes", (t) => {
  const held = new HeldWrites(4);
  const gone: number[] = [];
  const go = ({ slot }: Request): void => {
    gone.push(slot);
    // Answered at once: whoever waits for that may go on.
    held.release(() => true, go);
  };
  for (const slot of [0, 1, 2]) held.hold(write(slot, slot * 4096));
  held.release(() => true, go);
  t.deepEqual(gone, [0, 1, 2]);
});
