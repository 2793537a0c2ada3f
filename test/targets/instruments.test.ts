/** The instruments over a null target. */
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { DelayTarget } from "../../src/targets/delay.ts";
import { ErrorTarget, type ErrorOptions } from "../../src/targets/error.ts";
import { NullTarget, nullLimits } from "../../src/targets/null.ts";
import { TraceTarget } from "../../src/targets/trace.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import { SingleQueue } from "./single-queue.ts";

const BLOCK = 512;
const limits = nullLimits(2 ** 20, BLOCK, false);

function failing(options: Partial<ErrorOptions>): ErrorTarget {
  const all = { errno: "ENOSPC", rate: 1, operations: null, range: null, seed: 1 } as const;
  return new ErrorTarget({ ...all, ...options }, new NullTarget());
}

test("error: by operation and by range, with the errno that was asked for", (t) => {
  using queue = new SingleQueue(limits);
  queue.open(() => failing({ operations: ["write"], range: { offsetBytes: 4096, lengthBytes: 4096 } }));
  const write = (offset: number, blocks: number): number =>
    queue.ask({ operation: "WRITE", offset, data: new Uint8Array(blocks * BLOCK) });
  t.is(write(0, 8), 4096);
  t.is(write(0, 9), -ERRNO.ENOSPC);
  t.is(write(8192 - BLOCK, 1), -ERRNO.ENOSPC);
  t.is(write(8192, 1), BLOCK);
  t.is(queue.ask({ operation: "READ", offset: 4096, length: BLOCK }), BLOCK);
});

test("error: a rate fails its share, and the same requests with the same seed", (t) => {
  const outcomes = (seed: number): number[] => {
    using queue = new SingleQueue(limits);
    queue.open(() => failing({ rate: 0.25, seed }));
    return Array.from({ length: 2000 }, () => queue.ask({ operation: "READ", length: BLOCK }));
  };
  const failed = outcomes(7).filter((result) => result < 0).length;
  t.true(failed > 400 && failed < 600, `${failed} of 2000`);
  t.deepEqual(outcomes(7), outcomes(7));
  t.notDeepEqual(outcomes(7), outcomes(8));
});

test("error: an unknown errno is refused", (t) => {
  t.throws(() => failing({ errno: "ESPACE" }), { message: /"ESPACE" is no errno/ });
});

test("delay: a chosen request is overtaken by those that are not chosen", (t) => {
  using queue = new SingleQueue(limits);
  queue.open((context) => new DelayTarget({ delayMs: 5, operations: ["write"] }, new NullTarget(), context));
  const start = performance.now();
  queue.submit(1, { operation: "WRITE", data: new Uint8Array(BLOCK) });
  queue.submit(2, { operation: "READ", length: BLOCK });
  t.true(queue.isAnswered(2));
  t.false(queue.isAnswered(1));
  t.is(queue.finish(1), BLOCK);
  t.true(performance.now() - start >= 4.9);
});

test("trace: a line for each request in the order of the answers, complete after close", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-trace-"));
  try {
    const path = join(folder, "trace");
    const handle = await open(path, "a");
    const count = 20_000;
    {
      using queue = new SingleQueue(limits);
      queue.open((context) => new TraceTarget({ fd: handle.fd }, failing({ operations: ["discard"] }), context));
      for (let index = 0; index < count; index++)
        queue.ask({ operation: "WRITE", offset: (index % 2048) * BLOCK, data: new Uint8Array(BLOCK), fua: true });
      // Both buffers are full by now, and nobody has let the ring write one.
      queue.turn();
      queue.ask({ operation: "FLUSH" });
      queue.ask({ operation: "DISCARD", offset: BLOCK, length: BLOCK });
    }
    await handle.close();
    const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
    const told = lines.filter((line) => !line.startsWith("#"));
    const dropped = lines.reduce((sum, line) => sum + Number(/^# (\d+) lines dropped/.exec(line)?.[1] ?? 0), 0);
    t.true(dropped > 0);
    t.is(told.length + dropped, count + 2);
    t.regex(told[1] ?? "", /^\d+ q0 write 512 512 F 512$/);
    t.regex(told.at(-1) ?? "", new RegExp(`^\\d+ q0 discard 512 512 - -${ERRNO.ENOSPC}$`));
  } finally {
    await rm(folder, { recursive: true });
  }
});
