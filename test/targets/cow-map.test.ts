/** The map of versions beside a plain one; and what points want. */
import test from "ava";
import fc from "fast-check";
import { Points } from "../../src/targets/cow/points.ts";
import { NONE, VersionMap } from "../../src/targets/cow/version-map.ts";

const HUGE = 2 ** 47;

test("the map finds what a plain one finds, however versions come and go", (t) => {
  const step = fc.record({
    block: fc.integer({ min: 0, max: 40 }),
    epoch: fc.integer({ min: 1, max: 6 }),
    adds: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const map = new VersionMap();
      const plain = new Map<string, number>();
      let slot = 0;
      for (const { block: small, epoch, adds } of steps) {
        // Some blocks lie beyond 32 bits.
        const block = small % 3 === 0 ? small + HUGE : small;
        const key = `${block} ${epoch}`;
        const version = map.findExactly(block, epoch);
        if ((version !== NONE) !== plain.has(key)) return false;
        if (version === NONE && adds) {
          map.add(block, epoch, slot, slot * 7, slot % 2);
          plain.set(key, slot++);
        } else if (version !== NONE && !adds) {
          map.remove(version);
          plain.delete(key);
        }
      }
      if (map.count !== plain.size) return false;
      for (let small = 0; small <= 40; small++) {
        const block = small % 3 === 0 ? small + HUGE : small;
        for (let epoch = 1; epoch <= 7; epoch++) {
          const wanted = [1, 2, 3, 4, 5, 6].filter((each) => each >= epoch && plain.has(`${block} ${each}`))[0];
          const found = map.find(block, epoch);
          if ((found === NONE ? undefined : map.epoch(found)) !== wanted) return false;
          if (found !== NONE && map.slot(found) !== plain.get(`${block} ${wanted ?? 0}`)) return false;
        }
      }
      return true;
    }),
  );
  t.pass();
});

test("a walk through the buckets meets every version once, also while the map grows", (t) => {
  const map = new VersionMap();
  for (let block = 0; block < 10_000; block++) map.add(block * 1000, 1, block, 0, 0);
  const met = new Set<number>();
  for (let bucket = 0; bucket < map.buckets; bucket++) {
    for (let version = map.firstOf(bucket); version !== NONE; version = map.after(version)) met.add(map.block(version));
    if (bucket % 10 === 0) map.add(1e12 + bucket, 1, 0, 0, 0);
  }
  for (let block = 0; block < 10_000; block++) t.true(met.has(block * 1000));
});

test("what is on its way to the store is found by nobody, and then by those who want it", (t) => {
  const map = new VersionMap();
  map.add(5, 2, 20, 0, 0);
  const pending = map.begin(5);
  t.true(map.isPending(map.newest(5)));
  t.is(map.find(5, 3), NONE);
  t.is(map.slot(map.find(5, 2)), 20);
  map.settle(pending, 4, 40, 0, 0);
  t.is(map.slot(map.find(5, 3)), 40);
  t.is(map.slot(map.find(5, 2)), 20);
  t.is(map.find(5, 5), NONE);
});

test("a version is wanted by the points between it and the one before it, those that leave among them", (t) => {
  const points = new Points([], 0, 1);
  const point = { kind: "snapshot", name: "p", createdMs: 0, volumeBytes: 0, state: "valid", mark: 0 } as const;
  const epochs = [1, 2, 3].map(() => points.add(point).epoch);
  t.deepEqual(epochs, [1, 2, 3]);
  t.true(points.isWanted(0, 1, 2));
  points.remove(2);
  t.true(points.isWanted(0, 1, 2), "the catalogue may still tell of it");
  points.endLeaving([2]);
  t.false(points.isWanted(0, 1, 2));
  t.true(points.isWanted(0, 0, 2));
  t.true(points.isWanted(0, 1, 3));
  t.is(points.add(point).epoch, 4, "an epoch is never given out again");
});

test("a point with a mark wants what was moved before it, and nothing new", (t) => {
  const points = new Points([], 0, 1);
  const point = { kind: "bulk", name: "p", createdMs: 0, volumeBytes: 0, state: "valid", mark: 0 } as const;
  points.add({ ...point, kind: "snapshot" });
  points.add(point);
  t.is(points.newestFor(0), 2);
  t.is(points.mark(2), 3);
  t.is(points.newestFor(0), 2, "a crash may still take the mark back");
  t.true(points.isWanted(0, 1, 3));
  points.endMarking(2, 3);
  t.is(points.newestFor(0), 1, "of the points that originals are moved for");
  t.true(points.isKept(2));
  t.true(points.isWanted(0, 1, 2));
  t.false(points.isWanted(0, 1, 3));
  t.true(points.isWanted(0, 0, 3), "the snapshot wants it");
  t.is(points.add({ ...point, kind: "snapshot" }).epoch, 4);
  t.true(points.isWanted(0, 3, 4));
  points.remove(2);
  t.true(points.isWanted(0, 1, 2), "the catalogue may still tell of it");
  t.is(points.newestFor(0), 4);
  points.endLeaving([2]);
  t.false(points.isWanted(0, 1, 2));

  const recovered = new Points([{ ...point, epoch: 2, mark: 3 }], 3, 1);
  t.is(recovered.newestFor(0), 0);
  t.true(recovered.isWanted(0, 0, 2));
  t.false(recovered.isWanted(0, 0, 3));
});
