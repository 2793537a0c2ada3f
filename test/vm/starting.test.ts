/** A daemon that is killed while it starts leaves nothing that cannot be killed, or started anew. */
import { readdir } from "node:fs/promises";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { ControlPlane } from "../../src/ublk/control.ts";
import { listDevices } from "../../src/ublk/devices.ts";
import { configure, Daemon } from "./daemon.ts";
import { moments, timeOf } from "./moments.ts";
import { image, MIB, sh, tried } from "./support.ts";

const SIZE = 128 * MIB;
/** A read that takes longer than this is never answered. */
const READ_SECONDS = 300;

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
    await readOrTell(daemon);
    await daemon.end("SIGTERM");
  }
  using control = ControlPlane.open();
  t.deepEqual(await listDevices(control), []);
});

async function characterDevices(): Promise<number> {
  return (await readdir("/sys/class/ublk-char")).length;
}

/** Reads the device; where that hangs, what the kernel and the daemon are at is told. */
async function readOrTell(daemon: Daemon): Promise<void> {
  const read = `timeout -s KILL ${READ_SECONDS} dd if=${daemon.path} of=/dev/null bs=64k count=4 iflag=direct`;
  const { code, output } = await tried(read);
  if (code === 0) return;
  using control = ControlPlane.open();
  const device = await control.info(daemon.id, { deadlineMs: 10_000 }).catch(String);
  const stacks = await tried(
    `for task in /proc/${daemon.pid}/task/*; do echo "$task $(cat $task/comm)"; cat $task/stack; done; dmesg | tail -30`,
  );
  throw new Error(
    `${output}\n${JSON.stringify(device, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value))}\n${daemon.output}\n${stacks.output}`,
  );
}
