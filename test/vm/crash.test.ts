/** The device outlives its daemon: SIGKILL at any moment, and the host sees no error (R9). */
import { readdir } from "node:fs/promises";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { ControlPlane } from "../../src/ublk/control.ts";
import { listDevices } from "../../src/ublk/devices.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, VerifiedLoad } from "./support.ts";

const SIZE = 128 * MIB;

/** Moments from 0 to `maxMs` that are spread out, and the same in each run. */
function* moments(count: number, maxMs: number): Generator<number> {
  for (let index = 0; index < count; index++) yield ((index * 7919) % 101) * (maxMs / 101);
}

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

test("20 times SIGKILL while starting: nothing is left that cannot be killed, and the next start works", async (t) => {
  // A partition table, so that a scan by the kernel would have something to read.
  await configure("starting", `path = "${await image("starting", SIZE)}"`);
  await sh(`printf 'label: gpt\\nsize=8MiB\\nsize=8MiB\\n' | sfdisk --quiet /dev/shm/starting`);
  const daemon = new Daemon("starting");
  const added = async (): Promise<void> => {
    while ((await characterDevices()) === 0) await turn();
  };
  const ready = daemon.spawn();
  await added();
  const afterAddMs = await timeOf(() => ready);
  await daemon.end("SIGTERM");
  for (const ms of moments(20, afterAddMs)) {
    const starting = daemon.spawn().catch(() => undefined);
    await added();
    await sleep(ms);
    // Resolves only when the process is gone: one that cannot be killed is a test that never ends.
    await daemon.end("SIGKILL");
    await starting;
    await daemon.start();
    await sh(`dd if=${daemon.path} of=/dev/null bs=64k count=4 iflag=direct`);
    await daemon.end("SIGTERM");
  }
  using control = ControlPlane.open();
  t.deepEqual(await listDevices(control), []);
});

async function characterDevices(): Promise<number> {
  return (await readdir("/sys/class/ublk-char")).length;
}

async function timeOf(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
