/** The part of the driver benchmark that runs in the guest, as root. Leaves its samples in /mnt/out/driver.json. */
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { promisify } from "node:util";

const execute = promisify(execFile);
const SECONDS = 3;
const TICKS_PER_SECOND = 100;
const KUBLK = process.env["KUBLK"] ?? "";
const ROUNDS = Number(process.env["ROUNDS"] ?? 3);

export interface Sample {
  readonly peer: string;
  readonly load: string;
  readonly iops: number;
  readonly p99Us: number;
  /** CPU time of the server for a request, in microseconds; NaN where there is no process. */
  readonly cpuUs: number;
}

export interface DriverMeasurement {
  readonly kernel: string;
  readonly samples: readonly Sample[];
  readonly memory: { readonly firstBytes: number; readonly residentBytes: number; readonly requests: number };
  readonly start: Readonly<Record<string, number>>;
}

interface Peer {
  readonly name: string;
  readonly path: string;
  /** Process that serves it. */
  readonly pid: number | null;
}

const LOADS = [
  ...[1, 32, 128].flatMap((depth) =>
    ["randread", "randwrite"].map((rw) => ({ name: `${rw} 4k q${depth}`, rw, depth, bs: "4k" })),
  ),
  ...["read", "write"].map((rw) => ({ name: `${rw} 128k q32`, rw, depth: 32, bs: "128k" })),
];

async function sh(command: string): Promise<string> {
  return (await execute("sh", ["-ec", command], { maxBuffer: 2 ** 26 })).stdout;
}

/** Every thread of the process, those of io_uring's workers too. */
async function cpuTicks(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

async function residentBytes(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

interface FioSide {
  readonly iops: number;
  readonly total_ios: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

async function measure(peer: Peer, load: (typeof LOADS)[number]): Promise<Sample> {
  const before = peer.pid === null ? 0 : await cpuTicks(peer.pid);
  const text = await sh(
    `fio --name=bench --filename=${peer.path} --direct=1 --ioengine=libaio --rw=${load.rw} --bs=${load.bs} \
     --iodepth=${load.depth} --time_based --runtime=${SECONDS} --size=100% --output-format=json`,
  );
  const after = peer.pid === null ? NaN : await cpuTicks(peer.pid);
  const { jobs } = JSON.parse(text) as { jobs: { read: FioSide; write: FioSide }[] };
  const side = load.rw.endsWith("read") ? jobs[0]?.read : jobs[0]?.write;
  return {
    peer: peer.name,
    load: load.name,
    iops: side?.iops ?? NaN,
    p99Us: (side?.clat_ns.percentile?.["99.000000"] ?? NaN) / 1000,
    cpuUs: (((after - before) / TICKS_PER_SECOND) * 1e6) / (side?.total_ios ?? NaN),
  };
}

async function blockDevices(): Promise<string[]> {
  return (await readdir("/sys/block")).filter((name) => name.startsWith("ublkb"));
}

async function added(start: () => Promise<unknown>): Promise<string> {
  const before = await blockDevices();
  await start();
  const name = (await blockDevices()).find((device) => !before.includes(device));
  if (name === undefined) throw new Error("no new device");
  return name;
}

async function kublk(name: string, options: string): Promise<Peer> {
  const device = await added(() => sh(`${KUBLK} add ${options} -q 1 -d 128 > /dev/null`));
  const pids = (await sh("pgrep -f kublk")).trim().split("\n").map(Number);
  return { name, path: `/dev/${device}`, pid: pids.at(-1) ?? null };
}

async function sluice(name: string, volume: string, config: string): Promise<Peer> {
  await mkdir("/etc/sluice", { recursive: true });
  await writeFile(`/etc/sluice/${volume}.toml`, config);
  await sh(`bin/sluice up ${volume}`);
  const status = JSON.parse(await sh(`bin/sluice status ${volume} --json`)) as {
    pid: number;
    device: { path: string };
  };
  return { name, path: status.device.path, pid: status.pid };
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

const moduleMs = await timed(() => sh("modprobe ublk_drv"));
// One backing file a peer, on tmpfs, where direct I/O of all of them works: what is compared is the way to it.
await sh(
  "modprobe loop; for n in sluice kublk loop; do truncate -s 256M /dev/shm/$n.img; dd if=/dev/zero of=/dev/shm/$n.img bs=1M count=256 status=none; done",
);
const nodeMs = await timed(() => sh("node_modules/.bin/node -e 0"));
let ours: Peer | undefined;
const upMs = await timed(async () => {
  ours = await sluice("sluice null", "null", 'target = "null"\nsize = "1GiB"\n');
});
if (ours === undefined) throw new Error("no volume");
const loop = (await sh("losetup --find --show --direct-io=on /dev/shm/loop.img")).trim();
const peers: Peer[] = [
  ours,
  await kublk("kublk null", "-t null"),
  await sluice("sluice file", "file", 'path = "/dev/shm/sluice.img"\n'),
  await kublk("kublk loop", "-t loop /dev/shm/kublk.img"),
  { name: "loop device", path: loop, pid: null },
];
for (const { path } of peers) await sh(`echo none > /sys/block/${path.replace("/dev/", "")}/queue/scheduler`);

const firstLoad = LOADS.at(4) as (typeof LOADS)[number];
await measure(ours, firstLoad);
const firstBytes = await residentBytes(ours.pid ?? 0);
const samples: Sample[] = [];
for (let round = 0; round < ROUNDS; round++) {
  for (const load of LOADS) for (const peer of peers) samples.push(await measure(peer, load));
}
const { statistics } = JSON.parse(await sh("bin/sluice status null --json")) as {
  statistics: { read: { count: number }; write: { count: number } };
};
const result: DriverMeasurement = {
  kernel: release(),
  samples,
  memory: {
    firstBytes,
    residentBytes: await residentBytes(ours.pid ?? 0),
    requests: statistics.read.count + statistics.write.count,
  },
  start: { "module load": moduleMs, "Node.js start": nodeMs, "sluice up": upMs },
};
await writeFile("/mnt/out/driver.json", JSON.stringify(result));
