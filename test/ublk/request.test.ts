/** Requests, their statistics, and errors on their way to an errno. */
import test from "ava";
import fc from "fast-check";
import { errnoByName, errnoName, errnoOf, UblkError } from "../../src/ublk/errors.ts";
import { LAYERS_MAX, Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { bucketOf, bucketTop, QueueStatistics, summarise } from "../../src/ublk/statistics.ts";

const request = (): Request => new Request(0, new Uint8Array(4096), 0);
const ignore = { submit: () => undefined };

test("an answer goes back through the layers in reverse order, and each may change it", (t) => {
  const heard: string[] = [];
  const layer = (name: string): Layer => ({
    answered: (asked, result) => {
      heard.push(`${name} ${result}`);
      if (asked.layersWaiting > 0) asked.answer(result + 1);
    },
  });
  const asked = request();
  for (const name of ["queue", "outer", "inner"]) asked.pass(ignore, layer(name));
  asked.answer(5);
  t.deepEqual(heard, ["inner 5", "outer 6", "queue 7"]);
  t.throws(() => asked.answer(0), { code: "EANSWERED" });
});

test("more layers than there is room for are refused", (t) => {
  const asked = request();
  for (let layer = 0; layer < LAYERS_MAX; layer++) asked.pass(ignore, { answered: () => undefined });
  t.throws(() => asked.pass(ignore, { answered: () => undefined }), { code: "ELAYERS" });
});

test("success is the byte count for reads and writes, and 0 for all others", (t) => {
  for (const [operation, wanted] of [
    [Operation.READ, 4096],
    [Operation.WRITE, 4096],
    [Operation.FLUSH, 0],
    [Operation.DISCARD, 0],
    [Operation.WRITE_ZEROES, 0],
  ] as const) {
    const asked = request();
    asked.operation = operation;
    asked.length = 4096;
    let result = -1;
    asked.pass(ignore, { answered: (_asked, answer) => (result = answer) });
    asked.succeed();
    t.is(result, wanted);
  }
});

test("a latency lies in its bucket, whose top is at most a sixteenth above it", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (us) => {
      const top = bucketTop(bucketOf(us));
      t.true(top >= us && top <= us * (1 + 1 / 16) + 1);
    }),
  );
});

test("the numbers of two queues are summed up, errors apart from bytes", (t) => {
  const queues = [new QueueStatistics(), new QueueStatistics()] as const;
  for (let index = 1; index <= 100; index++)
    queues[index % 2 === 0 ? 0 : 1].count(Operation.READ, 512, 512, index * 10);
  queues[0].count(Operation.WRITE, 4096, -5, 7);
  const { read, write } = summarise(queues);
  t.like(read, { count: 100, bytes: 51200, errors: 0, totalUs: 50500 });
  t.like(write, { count: 1, bytes: 0, errors: 1 });
  const { p50 = 0, p99 = 0 } = read.latencyUs ?? {};
  t.true(p50 >= 500 && p50 <= 540, String(p50));
  t.true(p99 >= 990 && p99 <= 1060, String(p99));
});

test("whatever is thrown becomes an errno that is no success", (t) => {
  for (const [thrown, wanted] of [
    [Object.assign(new Error("x"), { errno: -28 }), "ENOSPC"],
    [Object.assign(new Error("x"), { errno: 110 }), "ETIMEDOUT"],
    [Object.assign(new Error("x"), { code: "ENOLINK" }), "ENOLINK"],
    [Object.assign(new Error("x"), { errno: 0 }), "EIO"],
    [new UblkError("EREMOTEIO", "x"), "EREMOTEIO"],
    [new UblkError("EQUEUE", "x"), "EIO"],
    ["text", "EIO"],
    [undefined, "EIO"],
  ] as const) {
    t.is(errnoName(errnoOf(thrown)), wanted);
  }
  t.is(errnoByName("EREMOTEIO"), 121);
  t.is(errnoByName("ENOTHING"), undefined);
});
