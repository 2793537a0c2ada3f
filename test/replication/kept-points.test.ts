/** Which closed points a receiver keeps, when the store that they are in is told what. */
import test from "ava";
import { KeptPoints, type PointKeeper } from "../../src/replication/kept-points.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import type { Point, PointKind, PointState } from "../../src/targets/cow/catalog.ts";

class Keeper implements PointKeeper {
  points: Point[] = [];
  spared = -1;
  /** What taking a point ends with. */
  result = 0;
  #epoch = 0;

  add(kind: PointKind, name: string, state: PointState = "valid", createdMs = 0): Point {
    const point = { epoch: ++this.#epoch, kind, name, createdMs, volumeBytes: 4096, state, mark: 0 };
    this.points = [...this.points, point];
    return point;
  }

  /** Of points that are being taken; null where they are taken at once. */
  ending: (() => void)[] | null = null;

  takePoint(kind: PointKind, name: string, createdMs: number, done: (result: Point | number) => void): void {
    const point = this.result === 0 ? this.add(kind, name, "valid", createdMs) : this.result;
    if (this.ending === null) done(point);
    else this.ending.push(() => done(point));
  }

  dropPoint(epoch: number, done: (result: number) => void): void {
    this.points = this.points.filter((point) => point.epoch !== epoch);
    done(0);
  }

  spare(epoch: number): void {
    this.spared = epoch;
  }

  get names(): string[] {
    return this.points.map(({ name }) => name);
  }
}

function keptIn(cow: Keeper, keep: number, lastClosed = 0, isThere = false): { kept: KeptPoints; lost: number[] } {
  const lost: number[] = [];
  const momentOf = (point: number): number | undefined => (point === 7 ? undefined : 1000 + point);
  const options = { cow, keep, momentOf, whenLost: (point: number) => lost.push(point) };
  return { kept: new KeptPoints(options, lastClosed, isThere), lost };
}

/** What holding a point came to: its number, or why not; "waits" where that is not known yet. */
function heldIn(kept: KeptPoints, point: number, isComing = false): () => string {
  let found = "waits";
  kept.hold(point, isComing, (held) => {
    if (found !== "waits") throw new Error(`told twice, ${found} before`);
    found = held instanceof UblkError ? held.code : held.name;
  });
  return () => found;
}

function result(act: (done: (result: number) => void) => void): number | undefined {
  let found: number | undefined;
  act((given) => (found = given));
  return found;
}

test("what the image is, is kept once, under its number and moment, and is not given up for room", (t) => {
  const cow = new Keeper();
  const { kept } = keptIn(cow, 3);
  t.is(
    result((done) => kept.keep(5, done)),
    0,
  );
  t.is(
    result((done) => kept.keep(5, done)),
    0,
  );
  t.deepEqual(
    cow.points.map(({ kind, name, createdMs }) => ({ kind, name, createdMs })),
    [{ kind: "mirror", name: "5", createdMs: 1005 }],
  );
  t.is(cow.spared, 1);
  kept.reached(6);
  t.is(cow.spared, 0);
  const before = Date.now();
  t.is(
    result((done) => kept.keep(7, done)),
    0,
  );
  t.true((cow.points[1]?.createdMs ?? 0) >= before);
  t.is(cow.spared, 2);
});

test("the image is one of those that are kept: the oldest go, and those that were given up, but no points of others", (t) => {
  const cow = new Keeper();
  cow.add("snapshot", "2");
  cow.add("mirror", "1", "full");
  for (const name of ["2", "3", "4"]) cow.add("mirror", name);
  keptIn(cow, 3).kept.reached(5);
  t.deepEqual(cow.names, ["2", "3", "4"]);
  t.is(cow.points[0]?.kind, "snapshot");
  keptIn(cow, 1).kept.reached(5);
  t.deepEqual(cow.names, ["2"]);
});

test("one that was kept and is lost is not taken again: the image may be another one by now", (t) => {
  const cow = new Keeper();
  cow.add("mirror", "5", "failed");
  const { kept, lost } = keptIn(cow, 3, 5);
  t.is(
    result((done) => kept.keep(5, done)),
    0,
  );
  t.deepEqual(lost, [5]);
  t.deepEqual(cow.names, ["5"]);
});

test("after a start the last closed point is spared at once; where it cannot be taken, that is told", (t) => {
  const cow = new Keeper();
  cow.add("mirror", "4");
  cow.add("mirror", "5");
  const { kept } = keptIn(cow, 3, 5);
  t.is(cow.spared, 2);
  cow.result = -5;
  t.is(
    result((done) => kept.keep(6, done)),
    -5,
  );
});

test("a point that is held stays beside those that are kept, and goes with the next one when it is let go", (t) => {
  const cow = new Keeper();
  for (const name of ["1", "2", "3"]) cow.add("mirror", name);
  const { kept } = keptIn(cow, 2, 3);
  t.is(heldIn(kept, 1)(), "1");
  t.is(heldIn(kept, 9)(), "ENOENT");
  kept.reached(4);
  t.deepEqual(cow.names, ["1", "3"]);
  cow.points = cow.points.map((point) => (point.name === "1" ? { ...point, state: "full" } : point));
  t.is(heldIn(kept, 1)(), "EINVALID");
  kept.keep(4, () => undefined);
  kept.reached(5);
  t.deepEqual(cow.names, ["1", "4"], "it is there to say what has become of it");
  kept.letGo(1);
  t.deepEqual(cow.names, ["1", "4"]);
  kept.reached(6);
  t.deepEqual(cow.names, ["4"]);
});

test("the point that the image is, is taken when it is held; and not when the image is on its way", (t) => {
  const cow = new Keeper();
  const { kept } = keptIn(cow, 1, 3, true);
  t.is(heldIn(kept, 3)(), "3");
  t.is(cow.spared, 1);
  t.is(
    result((done) => kept.keep(3, done)),
    0,
  );
  t.deepEqual(cow.names, ["3"]);
  kept.reached(4);
  t.deepEqual(cow.names, ["3"]);
  t.is(heldIn(kept, 4)(), "4");
  const away = keptIn(new Keeper(), 1, 3, false).kept;
  t.is(heldIn(away, 3)(), "ENOENT");
  const leaving = keptIn(new Keeper(), 1, 3, true).kept;
  leaving.keep(3, () => undefined);
  leaving.letGo(3);
  t.is(heldIn(leaving, 3)(), "3", "it was kept before");
});

test("nothing is written to the image before the point that somebody has asked for is durable", (t) => {
  const cow = new Keeper();
  cow.ending = [];
  const { kept } = keptIn(cow, 3, 3, true);
  const one = heldIn(kept, 3);
  const other = heldIn(kept, 3);
  let isKept = false;
  kept.keep(3, () => (isKept = true));
  t.deepEqual([one(), other(), isKept, cow.ending.length], ["waits", "waits", false, 1]);
  cow.ending[0]?.();
  t.deepEqual([one(), other(), isKept], ["3", "3", true]);
  t.deepEqual(cow.names, ["3"]);
});

test("a point on its way is taken when the image is there; who waits is told where that will not be", (t) => {
  const cow = new Keeper();
  const { kept } = keptIn(cow, 1, 3, true);
  kept.keep(3, () => undefined);
  const held = heldIn(kept, 4, true);
  t.is(held(), "waits");
  t.true(kept.isAwaited);
  kept.reached(4);
  t.is(held(), "4");
  t.false(kept.isAwaited);
  kept.keep(4, () => undefined);
  kept.reached(5);
  t.deepEqual(cow.names, ["4"]);
  kept.letGo(4);
  const ended = heldIn(kept, 6, true);
  kept.endAwaiting(new UblkError("ENOSPC", "full"));
  t.is(ended(), "ENOSPC");
  kept.keep(5, () => undefined);
  kept.reached(6);
  kept.keep(6, () => undefined);
  kept.reached(7);
  t.deepEqual(cow.names, [], "nobody wants it");
  cow.result = -5;
  const failed = heldIn(kept, 7);
  t.is(failed(), "ESTORE");
  kept.keep(7, () => undefined);
  cow.result = 0;
  t.is(heldIn(kept, 7)(), "ENOENT", "the image may have been written to");
});
