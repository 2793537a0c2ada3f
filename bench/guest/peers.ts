/** Starts what is measured: volumes of sluice, kublk's devices, the loop device. */
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Requests that every peer's device takes at once. */
const DEPTH = 128;
const NODE = "node_modules/.bin/node";
const WATCH_MS = 10;
const RAM_DISK_KIB = 256 * 1024;

export interface Peer {
  readonly name: string;
  /** The device, as in /dev/NAME and /sys/block/NAME. */
  readonly device: string;
  /** Process that serves it; null where the kernel does so itself. */
  readonly pid: number | null;
}

/** Durations in milliseconds, in order. */
export type StartTimes = Readonly<Record<string, number>>;

export async function run(file: string, ...words: string[]): Promise<string> {
  return (await execute(file, words, { maxBuffer: 2 ** 26 })).stdout;
}

export async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

export async function configure(volume: string, settings: string, tables = ""): Promise<void> {
  await mkdir("/etc/sluice", { recursive: true });
  await writeFile(`/etc/sluice/${volume}.toml`, `${settings}\nqueue_depth = ${DEPTH}\n${tables}\n`);
}

/**
 * RAM disks, full of zeroes, as backing stores: direct I/O works on them for every peer, and nothing but the way to them
 * differs. Gives their paths.
 */
export async function makeRamDisks(count: number): Promise<string[]> {
  await run("modprobe", "brd", `rd_nr=${count}`, `rd_size=${RAM_DISK_KIB}`);
  const disks = Array.from({ length: count }, (_, index) => `/dev/ram${index}`);
  for (const disk of disks) await run("sh", "-c", `head -c ${RAM_DISK_KIB}K /dev/zero > ${disk}`);
  return disks;
}

/** A configured volume of sluice, which is left running. */
export async function up(volume: string): Promise<void> {
  await run("bin/sluice", "up", volume);
}

export async function down(volume: string): Promise<void> {
  await run("bin/sluice", "down", volume);
}

/** A volume that is up, as a peer. */
export async function sluicePeer(name: string, volume: string): Promise<Peer> {
  const status = JSON.parse(await run("bin/sluice", "status", volume, "--json")) as {
    pid: number;
    device: { path: string };
  };
  return { name, device: status.device.path.replace("/dev/", ""), pid: status.pid };
}

export async function startKublk(name: string, kublk: string, ...words: string[]): Promise<Peer> {
  const before = await readdir("/sys/block");
  const told = await run(kublk, "add", "-q", "1", "-d", String(DEPTH), ...words);
  const device = (await readdir("/sys/block")).find((each) => each.startsWith("ublkb") && !before.includes(each));
  const pid = /daemon pid (\d+)/.exec(told)?.[1];
  if (device === undefined || pid === undefined) throw new Error(`kublk made no device: ${told}`);
  return { name, device, pid: Number(pid) };
}

/** The loop device with direct I/O. Throws where it does not get that. */
export async function startLoop(name: string, backing: string): Promise<Peer> {
  const device = (await run("losetup", "--find", "--show", "--direct-io=on", backing)).trim().replace("/dev/", "");
  const direct = (await readFile(`/sys/block/${device}/loop/dio`, "utf8")).trim();
  if (direct !== "1") throw new Error(`${device} has no direct I/O on ${backing}`);
  return { name, device, pid: null };
}

/** `sluice up` of a volume, split by the device nodes that appear on the way: /dev/ublkcN at ADD, /dev/ublkbN at START. */
export async function timeUp(volume: string): Promise<StartTimes> {
  const ublkDriver = await timed(() => run("modprobe", "ublk_drv"));
  const node = await timed(() => run(NODE, "-e", "0"));
  const cli = await timed(() => run("bin/sluice", "--version"));
  const start = performance.now();
  const seen = { add: NaN, disk: NaN };
  const watch = setInterval(() => {
    void readdir("/dev").then((names) => {
      const now = performance.now() - start;
      if (Number.isNaN(seen.add) && names.some((each) => each.startsWith("ublkc"))) seen.add = now;
      if (Number.isNaN(seen.disk) && names.some((each) => each.startsWith("ublkb"))) seen.disk = now;
    });
  }, WATCH_MS);
  await up(volume);
  const whole = performance.now() - start;
  clearInterval(watch);
  return {
    "modprobe ublk_drv": ublkDriver,
    "node -e 0": node,
    "sluice --version": cli,
    "up to ADD": seen.add,
    "ADD to device": seen.disk - seen.add,
    "device to end of up": whole - seen.disk,
  };
}
