/** How much is copied with each point: what the link carries in about a second, and never too little to come to an end. */
import test from "ava";
import { CopyShare } from "../../src/replication/copy-share.ts";

const MIB = 2 ** 20;

test("it follows the link, in both directions", (t) => {
  const share = new CopyShare();
  const first = share.bytes(Infinity);
  share.took(first, 100);
  t.is(share.bytes(Infinity), 2 * first);
  share.took(2 * first, 600);
  t.is(share.bytes(Infinity), 2 * first, "about right");
  share.took(2 * first, 3000);
  t.is(share.bytes(Infinity), first);
  share.took(1, 10);
  t.is(share.bytes(Infinity), first, "the rest of the volume was less than a share");
});

test("points that are slow for something else never bring copying to a stop, and no point has more than there is room for", (t) => {
  const share = new CopyShare();
  for (let point = 0; point < 100; point++) share.took(share.bytes(Infinity), 5000);
  t.true(share.bytes(Infinity) >= MIB);
  t.is(share.bytes(1000), 1000);
});
