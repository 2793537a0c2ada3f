// vm: --packages nbd-server,nbd-client,libnl-genl-3-200
// vm-kernel: 7.2
/** A volume and a copy's destination on disks of another host, over a network: this host runs the job, and has no disk itself. */
import test from "ava";
import { askCopies, askCopy, askCopyStart } from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh, until, VerifiedLoad } from "./support.ts";

const VOLUME = "remote";
const SIZE = 16 * MIB;
const SERVER = "192.0.2.2";
const hash = async (path: string): Promise<string> => (await sh(`sha256sum ${path}`)).split(" ")[0] ?? "";
const copied = async (): Promise<{ state: string; copiedBytes: number }> => {
  const [row] = await askCopies(VOLUME);
  if (row === undefined || row.state === "failed") throw new Error(`the copy job is gone or failed: ${row?.error}`);
  return row;
};

/** Another host: a network namespace with a server of disks in it. */
async function startStorage(disks: readonly string[]): Promise<void> {
  await sh("ip netns add storage && ip link add here type veth peer name there netns storage");
  await sh(`ip addr add 192.0.2.1/24 dev here && ip -n storage addr add ${SERVER}/24 dev there`);
  await sh("ip link set here up && ip -n storage link set there up && ip -n storage link set lo up");
  const exports: string[] = [];
  for (const name of disks)
    exports.push(`[${name}]\nexportname = ${await image(name, SIZE)}\nflush = true\ntrim = true`);
  await sh(`printf '%s\\n' '[generic]\n${exports.join("\n")}' > /tmp/nbd.conf`);
  await sh("ip netns exec storage nbd-server -C /tmp/nbd.conf -p /tmp/nbd.pid < /dev/null > /tmp/nbd.log 2>&1");
  await sh("modprobe nbd nbds_max=4");
  for (const [index, name] of disks.entries()) {
    const device = `/dev/nbd${index}`;
    await until(async () =>
      (await sh(`nbd-client ${SERVER} ${device} -name ${name} 2>&1 || true`)).includes("onnected"),
    );
    await until(async () => Number(await sh(`blockdev --getsize64 ${device}`)) === SIZE);
  }
}

test.serial("a job from one disk of a storage network to another, while its host goes on writing", async (t) => {
  await startStorage(["source", "destination"]);
  await configure(VOLUME, 'path = "/dev/nbd0"\n[snapshots]\nstore = "/dev/shm/store"');
  await sh(`bin/sluice snapshot init ${VOLUME} --size 64MiB --block 4KiB`);
  const daemon = new Daemon(VOLUME);
  await daemon.start();
  await sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=16 oflag=direct status=none`);
  const begun = await hash(daemon.path);
  await askCopyStart(VOLUME, {
    ...{ name: "copy", destinations: ["/dev/nbd1"], segmentBytes: 65_536, order: "linear", bytesPerSecond: 65_536 },
    ...{ recordBytes: null, force: false, staged: false },
  });
  const load = new VerifiedLoad(daemon.path);
  await until(async () => (await copied()).copiedBytes > 0);
  await daemon.end("SIGKILL");
  await daemon.start();
  await askCopy(VOLUME, "limit", { name: "copy", bytesPerSecond: null });
  await until(async () => (await copied()).state === "complete");
  t.true((await load.stop()) > 0);
  t.not(await hash(daemon.path), begun);
  t.is(await hash("/dev/nbd1"), begun);
  await daemon.end("SIGTERM");
  // What the other host has is what its disks hold, not what is cached here.
  await sh("nbd-client -d /dev/nbd0 && nbd-client -d /dev/nbd1");
  t.is(await hash("/dev/shm/destination"), begun);
});
