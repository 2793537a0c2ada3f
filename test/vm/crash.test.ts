/** The device outlives its server: SIGKILL at any moment, and the host sees no error (R9). */
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { ControlPlane } from "../../src/ublk/control.ts";
import { listDevices } from "../../src/ublk/devices.ts";
import { fileVolume, image, MIB, Server, sh, VerifiedLoad } from "./support.ts";

const SIZE = 128 * MIB;

/** Kills at moments that differ each time but not from run to run. */
function* moments(count: number, maxMs: number): Generator<number> {
  for (let index = 0; index < count; index++) yield ((index * 7919) % 101) * (maxMs / 101);
}

for (const [queues, kills] of [
  [1, 40],
  [2, 10],
] as const) {
  test(`${kills} times SIGKILL under verified load, ${queues} queue(s): no error, no wrong byte`, async (t) => {
    const server = await new Server(fileVolume(await image("crash", SIZE)), { queues }).start();
    const { id } = server;
    const load = new VerifiedLoad(server.path);
    for (const ms of moments(kills, 600)) {
      await sleep(ms);
      await server.end("SIGKILL");
      await server.start();
      t.is(server.id, id);
      t.false(load.hasEnded);
    }
    t.true((await load.stop()) > 0);
    await server.end("SIGTERM");
  });
}

test("20 times SIGKILL while recovering, under verified load", async (t) => {
  const server = await new Server(fileVolume(await image("recovering", SIZE))).start();
  const load = new VerifiedLoad(server.path);
  const startMs = await timeOf(async () => {
    await server.end("SIGKILL");
    await server.start();
  });
  for (const ms of moments(20, startMs)) {
    await server.end("SIGKILL");
    const starting = server.start().catch(() => undefined);
    await sleep(ms);
    await server.end("SIGKILL");
    await starting;
  }
  await server.start();
  t.true((await load.stop()) > 0);
  await server.end("SIGTERM");
});

test("20 times SIGKILL while starting: nothing is left that cannot be killed, and the next start works", async (t) => {
  const volume = fileVolume(await image("starting", SIZE));
  await sh(`printf 'label: gpt\\nsize=8MiB\\nsize=8MiB\\n' | sfdisk --quiet /dev/shm/starting`);
  const afterAddMs = await timeOf(async () => {
    await using server = await new Server(volume).start();
    t.true(server.id >= 0);
  });
  for (const ms of moments(20, afterAddMs / 2)) {
    const server = new Server(volume);
    const added = server.start("added").catch(() => undefined);
    await added;
    await sleep(ms);
    await server.end("SIGKILL");
    await server.start();
    await sh(`dd if=${server.path} of=/dev/null bs=64k count=4 iflag=direct`);
    await server.end("SIGTERM");
  }
  using control = ControlPlane.open();
  t.deepEqual(await listDevices(control), []);
});

async function timeOf(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
