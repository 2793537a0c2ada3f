/** The device outlives its daemon: SIGKILL at any moment, and the host sees no error (R9). */
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { configure, Daemon } from "./daemon.ts";
import { moments, timeOf } from "./moments.ts";
import { image, MIB, VerifiedLoad } from "./support.ts";

const SIZE = 128 * MIB;

for (const [queues, kills] of [
  [1, 40],
  [2, 10],
] as const) {
  test(`${kills} times SIGKILL under verified load, ${queues} queue(s): no error, no wrong byte`, async (t) => {
    const name = `crash${queues}`;
    await configure(name, `path = "${await image(name, SIZE)}"\nqueues = ${queues}`);
    const daemon = new Daemon(name);
    await daemon.start();
    const { id } = daemon;
    const load = new VerifiedLoad(daemon.path);
    for (const ms of moments(kills, 300)) {
      await sleep(ms);
      await daemon.end("SIGKILL");
      await daemon.start();
      t.is(daemon.id, id);
      t.false(load.hasEnded);
    }
    t.true((await load.stop()) > 0);
    await daemon.end("SIGTERM");
  });
}

test("20 times SIGKILL while recovering, under verified load", async (t) => {
  await configure("recovering", `path = "${await image("recovering", SIZE)}"`);
  const daemon = new Daemon("recovering");
  await daemon.start();
  const load = new VerifiedLoad(daemon.path);
  await daemon.end("SIGKILL");
  const startMs = await timeOf(() => daemon.start());
  for (const ms of moments(20, startMs * 1.2)) {
    await daemon.end("SIGKILL");
    const starting = daemon.spawn().catch(() => undefined);
    await sleep(ms);
    await daemon.end("SIGKILL");
    await starting;
  }
  await daemon.start();
  t.false(load.hasEnded);
  t.true((await load.stop()) > 0);
  await daemon.end("SIGTERM");
});
