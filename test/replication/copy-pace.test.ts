/** How fast is copied: the limit, the memory there is, and the host. */
import test from "ava";
import { CopyPace, type PacedRead } from "../../src/replication/copy-pace.ts";
import { POINT_READS } from "../../src/targets/mirror/mirror-target.ts";

const MIB = 2 ** 20;

/** A clock and a host by hand. */
class Scene {
  nowMs = 0;
  hostRequests = 0;
  rested = 0;
  /** The rest that runs, in milliseconds. */
  restMs = 0;
  readonly pace = new CopyPace(
    {
      nowMs: () => this.nowMs,
      hostRequests: () => this.hostRequests,
      later: (ms, action) => {
        this.restMs = ms;
        this.#rested = action;
      },
    },
    () => this.rested++,
  );
  #rested: () => void = () => undefined;

  /** One that may begin takes so long, while the host asks for something or not. */
  read(ms: number, isHostBusy: boolean): boolean {
    const read = this.pace.begin(true);
    if (read === undefined) return false;
    this.nowMs += ms;
    if (isHostBusy) this.hostRequests++;
    this.pace.end(read);
    return true;
  }

  rest(): void {
    this.nowMs += this.restMs;
    this.#rested();
  }
}

test("as many reads as there is memory for while the host is idle", (t) => {
  const { pace } = new Scene();
  const reads = Array.from({ length: POINT_READS }, () => pace.begin(true));
  t.false(reads.includes(undefined));
  t.is(pace.begin(true), undefined);
  t.is(pace.begin(false), undefined);
  pace.end(reads[0] as PacedRead);
  t.not(pace.begin(false), undefined);
});

test("while the host is at work one part is read at a time, and then nothing for three times as long", (t) => {
  const scene = new Scene();
  t.true(scene.read(5, true));
  t.is(scene.pace.begin(true), undefined);
  t.is(scene.restMs, 15);
  t.not(scene.pace.begin(false), undefined, "what a point cannot do without waits for nothing");
  scene.rest();
  t.is(scene.rested, 1);
  const read = scene.pace.begin(true);
  t.not(read, undefined);
  t.is(scene.pace.begin(true), undefined, "one at a time");
  scene.nowMs += 500;
  scene.hostRequests++;
  scene.pace.end(read as PacedRead);
  t.is(scene.pace.begin(true), undefined);
  t.is(scene.restMs, 100, "never longer, or it would come to no end");
  scene.rest();
  t.true(scene.read(5, false));
  t.not(scene.pace.begin(true), undefined, "the host is idle again");
  t.not(scene.pace.begin(true), undefined);
});

test("a limit is kept over points, and each of them copies a part that is small for it", (t) => {
  const scene = new Scene();
  t.is(scene.pace.pointBytesMax, Infinity);
  scene.pace.limit(4 * MIB);
  t.is(scene.pace.pointBytesMax, 2 * MIB);
  let copied = 0;
  for (; scene.nowMs < 60_000; scene.nowMs += 20) {
    if (scene.pace.waitMs > 0) continue;
    scene.pace.copies(2 * MIB);
    copied += 2 * MIB;
  }
  t.true(Math.abs(copied - 240 * MIB) <= 4 * MIB, `${copied / MIB} MiB in a minute`);
  scene.pace.limit(null);
  t.is(scene.pace.waitMs, 0);
});
