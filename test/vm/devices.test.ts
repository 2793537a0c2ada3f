// vm: --mem 3G
/** The life of devices: their making, resizing, number, use by others, orphans, and threads that fail. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test from "ava";
import { nullLimits } from "../../src/targets/null.ts";
import { openVolume } from "../../src/targets/volume.ts";
import { ControlPlane } from "../../src/ublk/control.ts";
import { Device } from "../../src/ublk/device.ts";
import { isServed, listDevices, openers, removeDevice } from "../../src/ublk/devices.ts";
import { fileVolume, image, MIB, Server, sh, tried, until, VerifiedLoad } from "./support.ts";

const SIZE = 32 * MIB;

test("sixteen devices at once in one process, each with its own bytes", async (t) => {
  const volumes = await Promise.all(
    Array.from({ length: 16 }, (_, index) =>
      openVolume(fileVolume("", { backing: { kind: "memory", path: `/dev/shm/m${index}`, sizeBytes: SIZE } })),
    ),
  );
  const devices = await Promise.all(
    volumes.map((volume) => Device.create({ limits: volume.limits, source: volume.source, depth: 16 })),
  );
  await Promise.all(
    devices.map((device, index) =>
      sh(`yes disk-${index} | head -c 4194304 | dd of=${device.path} bs=64k iflag=fullblock oflag=direct`),
    ),
  );
  for (const [index, device] of devices.entries()) {
    t.is((await sh(`head -c 7 ${device.path}`)).trim(), `disk-${index}`.slice(0, 7).trim());
    await sh(`yes disk-${index} | head -c 4194304 | cmp --bytes=4194304 - ${device.path}`);
  }
  await Promise.all(devices.map((device) => device.stop()));
  for (const volume of volumes) {
    await volume[Symbol.asyncDispose]();
    await volume.discardStore();
  }
  t.is((await tried("ls /dev/ublkb*")).code, 2);
});

test("resize: grows and shrinks where the kernel can, and is refused in one line where it cannot", async (t) => {
  const device = await Device.create({
    limits: nullLimits(SIZE, 512, false),
    source: (await openVolume(fileVolume("", { backing: { kind: "null", sizeBytes: SIZE } }))).source,
  });
  const size = async (): Promise<number> => Number(await sh(`blockdev --getsize64 ${device.path}`));
  if (device.features.has("UPDATE_SIZE")) {
    await device.resize(2 * SIZE);
    t.is(await size(), 2 * SIZE);
    await sh(`dd if=${device.path} of=/dev/null bs=64k skip=${(1.5 * SIZE) / 65536} count=1 iflag=direct`);
    await device.resize(SIZE / 2);
    t.is(await size(), SIZE / 2);
    await t.throwsAsync(device.resize(513), { code: "ELIMITS" });
  } else {
    await t.throwsAsync(device.resize(2 * SIZE), { code: "EOPNOTSUPP" });
    t.is(await size(), SIZE);
  }
  await device.stop();
});

test("a number that is taken is refused; nothing is left behind", async (t) => {
  await using server = await new Server(fileVolume(await image("taken", SIZE))).start();
  const { source } = await openVolume(fileVolume("", { backing: { kind: "null", sizeBytes: SIZE } }));
  const error = await t.throwsAsync(Device.create({ id: server.id, limits: nullLimits(SIZE, 512, false), source }));
  t.regex(error.message, new RegExp(`ADD_DEV of device ${server.id}: EEXIST`));
  using control = ControlPlane.open();
  t.is((await listDevices(control)).length, 1);
});

test("a command has a deadline: START of a device that nobody serves is given up, and the device can be removed", async (t) => {
  using control = ControlPlane.open();
  const { id } = await control.add({ queues: 1, depth: 8, maxIoBytes: 65536, features: [], mark: 0n });
  await control.setParameters(id, { limits: nullLimits(SIZE, 512, false), maxIoBytes: 65536 });
  await t.throwsAsync(control.start(id, { deadlineMs: 300 }), { code: "ETIMEDOUT" });
  const abort = new AbortController();
  const started = control.start(id, { signal: abort.signal });
  abort.abort();
  await t.throwsAsync(started, { code: "ECANCELED" });
  await control.remove(id);
  t.deepEqual(await listDevices(control), []);
});

test("openers: a mount, a holder and a process are seen; tryStop refuses where the kernel can", async (t) => {
  const server = await new Server(fileVolume(await image("open", 128 * MIB))).start();
  t.deepEqual(await openers(server.id), []);
  await sh(`mkfs.ext4 -q ${server.path} && mount ${server.path} /mnt`);
  t.deepEqual(await openers(server.id), [{ kind: "mount", where: "/mnt" }]);
  await sh("umount /mnt");
  const sleeper = spawn("sh", ["-c", `exec sleep 1000 < ${server.path}`]);
  await until(async () => (await openers(server.id)).length > 0);
  t.like((await openers(server.id))[0], { kind: "process", command: "sleep" });
  sleeper.kill();
  await once(sleeper, "exit");
  await sh(`dmsetup create over --table "0 2048 linear ${server.path} 0"`);
  t.like((await openers(server.id))[0], { kind: "holder" });
  await sh("dmsetup remove over");
  await server.end("SIGTERM");
});

test("orphans: a device whose server is gone is listed as unserved, and removed", async (t) => {
  const server = await new Server(fileVolume(await image("orphan", SIZE))).start();
  await server.end("SIGKILL");
  using control = ControlPlane.open();
  const [device] = await listDevices(control);
  t.is(device?.id, server.id);
  t.false(device !== undefined && (await isServed(device)));
  await removeDevice(control, server.id);
  t.deepEqual(await listDevices(control), []);
});

test("quiesce: a server is replaced under verified load where the kernel can, and it is refused where it cannot", async (t) => {
  const server = await new Server(fileVolume(await image("quiesce", SIZE))).start();
  const { id } = server;
  using control = ControlPlane.open();
  if ((await control.features()).has("QUIESCE")) {
    const load = new VerifiedLoad(server.path);
    await control.quiesce(id, 60_000);
    await server.ended();
    t.is((await control.info(id)).state, "quiesced");
    await server.start();
    t.is(server.id, id);
    t.false(load.hasEnded);
    t.true((await load.stop()) > 0);
  } else {
    await t.throwsAsync(control.quiesce(id, 60_000), { message: /QUIESCE_DEV of device \d+: / });
  }
  await server.end("SIGTERM");
});

test("two servers cannot open one backing store", async (t) => {
  const path = await image("locked", SIZE);
  await using first = await new Server(fileVolume(path)).start();
  t.true(first.id >= 0);
  await t.throwsAsync(openVolume(fileVolume(path)), { code: "EBUSY" });
  await sh(`ln -f ${path} ${path}.link`);
  await t.throwsAsync(openVolume(fileVolume(`${path}.link`)), { code: "EBUSY" });
});

const TROUBLE_SERVER = fileURLToPath(new URL("./trouble-server.ts", import.meta.url));

for (const kind of ["stuck", "lost"] as const) {
  test(`a ${kind} thread ends the process; the device is recovered, and the request that did it is served`, async (t) => {
    const marker = `/dev/shm/${kind}`;
    await rm(marker, { force: true });
    const start = (
      id: number,
    ): { child: ChildProcess; lines: string[]; said: Promise<string>; ended: Promise<unknown> } => {
      const child = spawn(process.execPath, [TROUBLE_SERVER, JSON.stringify({ kind, offset: 65536, marker, id })], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const lines: string[] = [];
      const said = new Promise<string>((resolve) => {
        createInterface(child.stdout).on("line", (line) => {
          lines.push(line);
          if (line.startsWith("ready")) resolve(line);
        });
      });
      return { child, lines, said, ended: once(child, "exit") };
    };
    const first = start(-1);
    const id = Number((await first.said).split(" ")[1]);
    const read = sh(`dd if=/dev/ublkb${id} bs=4096 count=1 skip=16 iflag=direct | tr '\\007' x | head -c 3`);
    await first.ended;
    t.regex(first.lines.join("\n"), kind === "stuck" ? /failure .*ESTUCK|has been stuck/ : /failure .*lost/);
    const second = start(id);
    await second.said;
    t.is(await read, "xxx");
    second.child.kill("SIGTERM");
    await second.ended;
  });
}

test("a target that throws: that request gets its errno, the next one is served", async (t) => {
  const marker = "/dev/shm/throws";
  await rm(marker, { force: true });
  const source = {
    module: new URL("./targets/trouble.ts", import.meta.url).href,
    options: { kind: "throws", offset: 65536, marker },
  };
  await using device = await Device.create({ limits: nullLimits(SIZE, 512, false), source });
  const read = `dd if=${device.path} of=/dev/null bs=4096 count=1 skip=16 iflag=direct`;
  t.regex((await tried(read)).output, /Link has been severed/);
  t.is((await tried(read)).code, 0);
});
