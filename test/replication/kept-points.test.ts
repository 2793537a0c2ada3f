/** Which closed points a receiver keeps, when the store that they are in is told what. */
import test from "ava";
import { KeptPoints, type PointKeeper } from "../../src/replication/kept-points.ts";
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

  takePoint(kind: PointKind, name: string, createdMs: number, done: (result: Point | number) => void): void {
    done(this.result === 0 ? this.add(kind, name, "valid", createdMs) : this.result);
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

function keptIn(cow: Keeper, keep: number, lastClosed = 0): { kept: KeptPoints; lost: number[] } {
  const lost: number[] = [];
  const momentOf = (point: number): number | undefined => (point === 7 ? undefined : 1000 + point);
  return { kept: new KeptPoints({ cow, keep, momentOf, whenLost: (point) => lost.push(point) }, lastClosed), lost };
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
  kept.reached();
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
  keptIn(cow, 3).kept.reached();
  t.deepEqual(cow.names, ["2", "3", "4"]);
  t.is(cow.points[0]?.kind, "snapshot");
  keptIn(cow, 1).kept.reached();
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
