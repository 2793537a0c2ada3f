/** The mark by which a volume's device is known: it must never change, or devices of older daemons are lost. */
import test from "ava";
import { volumeMark } from "../../src/control/identity.ts";

test("the mark of a volume is SL and 48 bits of the hash of its name, for ever", (t) => {
  t.is(volumeMark("data"), 0x534c3a6eb0790f39n);
  t.is(volumeMark("scratch") >> 48n, 0x534cn);
  t.not(volumeMark("data"), volumeMark("data2"));
});
