/** What is cut off when a receiver ends, and what is not. */
import test from "ava";
import { ApplyGate } from "../../src/replication/apply-gate.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import { Request } from "../../src/ublk/request.ts";

test("what has gone through ends as it ends; what comes when it is closed never gets to the image", (t) => {
  const image: Request[] = [];
  const gate = new ApplyGate({ submit: (request) => void image.push(request) });
  const results: number[] = [];
  const above = { answered: (_request: Request, result: number) => void results.push(result) };
  const [first, second] = [0, 1].map((slot) => new Request(slot, new Uint8Array(512), 0));
  t.true(gate.isIdle);
  first?.pass(gate, above);
  t.false(gate.isIdle);
  gate.close();
  second?.pass(gate, above);
  t.deepEqual(image, [first]);
  t.deepEqual(results, [-ERRNO.ECANCELED]);
  t.false(gate.isIdle);
  first?.answer(512);
  t.deepEqual(results, [-ERRNO.ECANCELED, 512]);
  t.true(gate.isIdle);
});
