/** Peers of the benchmark of mirrors: volumes of sluice with and without one, DRBD, and md RAID 1 over a network block device. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { askMirror, askMirrorChange, askMirrorPoint } from "../../src/control/client.ts";
import type { MirrorMode, MirrorPolicy } from "../../src/targets/mirror/modes.ts";
import { configure, run, sluicePeer, up, type Peer } from "./peers.ts";
import { BenchReceiver, type ReceiverSpec } from "./receiver.ts";
import { comes } from "./order.ts";
import { HERE, THERE } from "./two-sides.ts";

const DRBD = { setup: "/usr/lib/drbd/drbdsetup-84", port: 7788, device: "drbd0" } as const;

/** A peer in one of its ways to work. */
export interface Contender {
  readonly peer: Peer;
  /** Has it work in its way. */
  readonly prepare: () => Promise<unknown>;
  /** Resolves when the other side has all that was written. */
  readonly settle: () => Promise<void>;
  /** Resolves when the other side has nothing more to do with it. */
  readonly rest: () => Promise<void>;
  /** The volume of sluice whose mirror it is. */
  readonly mirror: string | null;
}

const nothing = (): Promise<void> => Promise.resolve();

/** A volume without a mirror. */
export async function startPlain(name: string, volume: string, path: string, tables = ""): Promise<Contender> {
  await configure(volume, `path = "${path}"`, tables);
  if (tables !== "") await run("bin/sluice", "nvram", "create", volume, "--in-sync");
  await up(volume);
  return { peer: await sluicePeer(name, volume), prepare: nothing, settle: nothing, rest: nothing, mirror: null };
}

/** A volume and its receiver, in step. */
export class MirroredVolume {
  readonly name: string;
  readonly receiver: BenchReceiver;
  readonly #spec: ReceiverSpec;
  readonly #path: string;
  readonly #nvram: string;

  constructor(path: string, nvram: string, spec: ReceiverSpec) {
    this.name = spec.volume;
    this.receiver = new BenchReceiver(spec);
    this.#spec = spec;
    this.#path = path;
    this.#nvram = nvram;
  }

  async configure(limit: string): Promise<void> {
    const { transport, port } = this.#spec;
    const record = `[record]\nnvram = "${this.#nvram}"\nlimit = "${limit}"`;
    const mirror = `[mirror]\nto = "${THERE}:${port}"\nreceiver = "backup"\ntransport = "${transport}"`;
    await configure(this.name, `path = "${this.#path}"`, `${record}\n${mirror}`);
  }

  async start(limit: string): Promise<void> {
    await this.configure(limit);
    await run("bin/sluice", "nvram", "create", this.name);
    await this.receiver.make();
    if (this.#spec.transport === "tls") await this.#trust();
    await this.receiver.start();
    await up(this.name);
    await this.isInStep();
  }

  async #trust(): Promise<void> {
    const there = JSON.parse(await this.receiver.sluice("identity", "show", "--json")) as { fingerprint: string };
    const here = JSON.parse(await run("bin/sluice", "identity", "show", "--json")) as { fingerprint: string };
    await run("bin/sluice", "identity", "trust", "backup", there.fingerprint);
    await this.receiver.sluice("identity", "trust", "source", here.fingerprint);
  }

  async isInStep(): Promise<void> {
    await comes(
      () => askMirror(this.name),
      ({ state }) => state === "in step",
    );
  }

  /** Resolves when the receiver is in a closed point of all that is written. */
  async settle(): Promise<void> {
    do await this.isInStep();
    while (!(await askMirrorPoint(this.name)).isClosed);
  }

  async contender(name: string, mode: MirrorMode, policy: MirrorPolicy): Promise<Contender> {
    return {
      peer: await sluicePeer(name, this.name),
      prepare: () => askMirrorChange(this.name, "mode", { mode, policy }),
      settle: () => this.settle(),
      rest: async () => {
        // What came before an empty point may leave the receiver's log when that is applied.
        await askMirrorPoint(this.name);
        await this.receiver.isAtRest();
      },
      mirror: this.name,
    };
  }
}

/** Two nodes of DRBD 8.4 as it comes, in sync. */
export async function startDrbd(here: string, there: string): Promise<(protocol: "A" | "C") => Contender> {
  await run("modprobe", "drbd");
  // Where DRBD's tools keep their locks.
  await mkdir("/run/lock", { recursive: true });
  await mkdir("/var/lib/drbd", { recursive: true });
  const ends = (own: string, other: string): string[] => [own, other].map((host) => `ipv4:${host}:${DRBD.port}`);
  const nodes = [
    { minor: "0", disk: here, path: ends(HERE, THERE) },
    { minor: "1", disk: there, path: ends(THERE, HERE) },
  ];
  for (const { minor, disk } of nodes) {
    await run("drbdmeta", "--force", minor, "v08", disk, "internal", "create-md");
    await run(DRBD.setup, "new-resource", `node${minor}`);
    await run(DRBD.setup, "new-minor", `node${minor}`, minor, "0");
    await run(DRBD.setup, "attach", minor, disk, disk, "internal");
  }
  for (const { minor, path } of nodes) await run(DRBD.setup, "connect", `node${minor}`, ...path, "--protocol=C");
  await drbdSays(/ 0: cs:Connected /);
  await run(DRBD.setup, "new-current-uuid", "--clear-bitmap", "0");
  await drbdSays(/ 0: .* ds:UpToDate\/UpToDate /);
  await run(DRBD.setup, "primary", "0");
  return (protocol) => ({
    peer: { name: `DRBD, protocol ${protocol}`, device: DRBD.device, pid: null },
    prepare: async () => {
      for (const { path } of nodes) await run(DRBD.setup, "net-options", ...path, `--protocol=${protocol}`);
      await drbdSays(new RegExp(` 0: cs:Connected .* ${protocol} r-`));
    },
    settle: () => drbdSays(/ 0: cs:Connected .*\n.* pe:0 ua:0 ap:0 /),
    // The other node has nothing in hand.
    rest: () => drbdSays(/ 1: cs:Connected .*\n.* lo:0 pe:0 ua:0 /),
    mirror: null,
  });
}

async function drbdSays(wanted: RegExp): Promise<void> {
  await comes(
    () => readFile("/proc/drbd", "utf8"),
    (text) => wanted.test(text),
  );
}

/** md RAID 1 with a bitmap, of a disk here and one there. */
export async function startRaid(here: string, there: string): Promise<Contender> {
  await writeFile("/tmp/nbd.conf", `[generic]\n[leg]\nexportname = ${there}\nflush = true\nfua = true\ntrim = true\n`);
  await run("sh", "-c", "nbd-server -C /tmp/nbd.conf -p /tmp/nbd.pid < /dev/null > /tmp/nbd.log 2>&1");
  await run("modprobe", "-a", "nbd", "raid1");
  const connect = `until nbd-client ${THERE} /dev/nbd0 -name leg 2>&1 | grep -q onnected; do sleep 0.1; done`;
  await run("sh", "-c", connect);
  const size = async (path: string): Promise<string> => run("blockdev", "--getsize64", path);
  const wanted = await size(there);
  await comes(
    () => size("/dev/nbd0"),
    (bytes) => bytes === wanted,
  );
  const disks = ["--raid-devices=2", here, "--write-mostly", "/dev/nbd0"];
  await run("mdadm", "--create", "/dev/md0", "--run", "--level=1", "--assume-clean", "--bitmap=internal", ...disks);
  const peer = { name: "md RAID 1 over nbd", device: "md0", pid: null };
  return { peer, prepare: nothing, settle: nothing, rest: nothing, mirror: null };
}
