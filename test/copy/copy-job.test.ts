/** When a copy job makes durable what it has written, by a clock that goes on when there is nothing else to do. */
import test from "ava";
import { CopyJob, type Ended } from "../../src/copy/copy-job.ts";

const KIB = 1024;
const SECOND = 1000;

/** What happens later, and when. */
class Later {
  nowMs = 0;
  readonly #waiting: { readonly atMs: number; readonly then: () => void }[] = [];

  after(ms: number, then: () => void): void {
    this.#waiting.push({ atMs: this.nowMs + ms, then });
  }

  /** In the order of time, until `condition`, or until nothing happens any more. */
  runUntil(condition: () => boolean): void {
    while (!condition()) {
      this.#waiting.sort((one, other) => one.atMs - other.atMs);
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.nowMs = next.atMs;
      next.then();
    }
  }
}

interface SlowJob {
  readonly job: CopyJob;
  readonly later: Later;
  readonly writtenAt: readonly number[];
  readonly syncedAt: readonly number[];
}

function slowJob(bytesPerSecond: number): SlowJob {
  const later = new Later();
  const soon = (ended: Ended): void => {
    later.after(1, () => {
      ended(undefined);
    });
  };
  const writtenAt: number[] = [];
  const syncedAt: number[] = [];
  const plan = {
    volumeBytes: 1024 * KIB,
    unitBytes: 4 * KIB,
    segmentBytes: 16 * KIB,
    order: "linear",
    bytesPerSecond,
    copied: undefined,
  } as const;
  const job = new CopyJob(plan, {
    source: {
      read: (_ranges, _into, ended) => {
        soon(ended);
      },
      pass: () => undefined,
      heat: () => undefined,
    },
    destinations: [
      {
        write: (_offset, _bytes, ended) => {
          writtenAt.push(later.nowMs);
          soon(ended);
        },
        sync: (ended) => {
          syncedAt.push(later.nowMs);
          soon(ended);
        },
        finish: soon,
      },
    ],
    journal: {
      save: (_copied, ended) => {
        soon(ended);
      },
    },
    clock: {
      nowMs: () => later.nowMs,
      after: (ms, then) => {
        later.after(ms, then);
      },
    },
  });
  job.start();
  return { job, later, writtenAt, syncedAt };
}

test("a slow job makes durable what it has written within seconds, and not with each write", (t) => {
  const { job, later, writtenAt, syncedAt } = slowJob(8 * KIB);
  later.runUntil(() => job.state === "complete");
  t.is(job.state, "complete");
  t.is(writtenAt.length, 64);
  let before = 0;
  for (const atMs of syncedAt) {
    const oldest = writtenAt.find((writtenMs) => writtenMs >= before) ?? NaN;
    // A segment comes every two seconds.
    t.true(atMs - oldest <= 12.1 * SECOND, `written at ${oldest}, durable at ${atMs}`);
    before = atMs;
  }
  t.true(syncedAt.length < writtenAt.length / 4, `${syncedAt.length} barriers`);
});
