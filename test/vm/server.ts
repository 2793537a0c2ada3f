/**
 * A server of one volume for tests in the guest, in a process of its own, so that it can be killed: takes a description
 * as JSON, recovers the device with its mark if there is one, prints "ready N", and stops cleanly at SIGTERM.
 */
import { ControlPlane } from "../../src/ublk/control.ts";
import { Device } from "../../src/ublk/device.ts";
import { isServed, listDevices, removeDevice } from "../../src/ublk/devices.ts";
import { protectProcess } from "../../src/ublk/process.ts";
import { openVolume, type VolumeSpec } from "../../src/targets/volume.ts";

export interface ServerSpec {
  readonly volume: VolumeSpec;
  readonly mark: number;
  readonly queues?: number;
  readonly depth?: number;
}

const spec = JSON.parse(process.argv[2] ?? "{}") as ServerSpec;
const mark = BigInt(spec.mark);
protectProcess();
const volume = await openVolume(spec.volume, { lockWaitMs: 60_000 });

async function findDevice(): Promise<number | undefined> {
  using control = ControlPlane.open();
  for (const device of await listDevices(control)) {
    if (device.mark !== mark) continue;
    if (device.state !== "dead" || (await isServed(device))) return device.id;
    await removeDevice(control, device.id);
  }
  return undefined;
}

const existing = await findDevice();
const options = { source: volume.source, protectMemory: true };
const device =
  existing === undefined
    ? await Device.create({
        ...options,
        limits: volume.limits,
        recoverable: true,
        mark,
        queues: spec.queues,
        depth: spec.depth,
        onAdded: (id) => process.stdout.write(`added ${id}\n`),
      })
    : await Device.recover(existing, options);
process.stdout.write(`ready ${device.id}\n`);
device.failure.catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.kill(process.pid, "SIGKILL");
});
process.once("SIGTERM", () => {
  void device
    .stop()
    .then(() => volume[Symbol.asyncDispose]())
    .then(() => process.exit(0));
});
setInterval(() => undefined, 1 << 30);
