/** What is known of each chunk. */
import test from "ava";
import fc from "fast-check";
import { Places } from "../../src/nvram/places.ts";

const CHUNKS = 200;

test("property: the nearest used chunks are those that a search one by one finds", (t) => {
  const chunk = fc.nat(CHUNKS - 1);
  fc.assert(
    fc.property(fc.uniqueArray(chunk), fc.uniqueArray(chunk), chunk, fc.nat(150), (written, removed, from, reach) => {
      const places = new Places({ chunks: CHUNKS });
      for (const each of written) {
        places.add(each, false);
        places.settle(each);
        places.beginWrite(each, each);
      }
      for (const each of removed) if (places.isMember(each)) places.remove(each);
      const nearest = (direction: 1 | -1): number => {
        for (let distance = 1; distance <= reach; distance++) {
          const at = from + direction * distance;
          if (at >= 0 && at < CHUNKS && places.isUsed(at)) return distance;
        }
        return 0;
      };
      t.is(places.usedBelow(from, reach), nearest(-1));
      t.is(places.usedAbove(from, reach), nearest(1));
    }),
    { numRuns: 2000 },
  );
});
