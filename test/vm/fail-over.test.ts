// vm-kernel: 7.2
/** The commands of docs/fail-over.md, as they stand there, on two hosts: and what was written is there, or given up by choice. */
import { readFile } from "node:fs/promises";
import test from "ava";
import type { MirrorStatus } from "../../src/control/mirror-status.ts";
import type { VolumeStatus } from "../../src/control/status.ts";
import { Host } from "./hosts.ts";
import { sh, until } from "./support.ts";

const PAPER = new URL("../../docs/fail-over.md", import.meta.url);

/** The commands below a heading, or behind words in bold, in their order: each with the host that it is for. */
async function steps(heading: string): Promise<{ host: string; command: string }[]> {
  const paper = await readFile(PAPER, "utf8");
  const from = paper.indexOf(`\n${heading}`) + 1;
  if (from === 0) throw new Error(`docs/fail-over.md has no "${heading}"`);
  const end = paper.slice(from + 1).search(/\n(## |\*\*)/);
  const section = end < 0 ? paper.slice(from) : paper.slice(from, from + 1 + end);
  return [...section.matchAll(/```sh (\w+)\n(.*?)```/gs)].map(([, host = "", command = ""]) => ({ host, command }));
}

async function follow(heading: string, hosts: readonly Host[]): Promise<void> {
  const all = await steps(heading);
  if (all.length === 0) throw new Error(`nothing is to be done below "${heading}"`);
  for (const { host, command } of all) await hosts.find(({ name }) => name === host)?.sh(command.trim());
}

function volumeToml(folder: string, to: Host): string {
  const at = (name: string): string => `"${folder}/data.${name}"`;
  return [
    ...[`path = ${at("img")}`, "[snapshots]", `store = ${at("store")}`, "[record]", `nvram = ${at("nvram")}`],
    ...['limit = "16MiB"', "[mirror]", `to = "${to.address}"`, 'transport = "clear"', 'mode = "sync"'],
    ...['log = "4MiB"', "silence = 30"],
  ].join("\n");
}

function receiveToml({ folder, address }: Host): string {
  const paths = ["path", "store", "log"].map((key) => `${key} = "${folder}/data.${key === "path" ? "img" : key}"`);
  const head = [`listen = "${address}:7450"`, 'transport = "clear"', "silence = 30", "[[volume]]", 'name = "data"'];
  return [...head, ...paths].join("\n");
}

const status = (host: Host): Promise<MirrorStatus> => host.json<MirrorStatus>("mirror status data");

test.serial("sides change by choice, after a loss, and after a split brain", async (t) => {
  const [alpha, beta] = await Host.pair();
  const hosts = [alpha, beta];
  for (const [host, other] of [
    [alpha, beta],
    [beta, alpha],
  ] as const) {
    await host.configure("data.toml", volumeToml(host.folder, other));
    await host.configure("receive.toml", receiveToml(host));
  }
  await sh(`mkdir -p /srv/data; truncate --size=64M ${alpha.folder}/data.img`);
  const write = (name: string): Promise<string> =>
    sh(`dd if=/dev/urandom of=/srv/data/${name} bs=64k count=5 conv=fsync status=none; sha256sum /srv/data/${name}`);
  const isThere = async (line: string): Promise<boolean> =>
    (await sh(`sha256sum ${line.split(/\s+/)[1] ?? ""} || true`)) === line;

  const [init, begin] = await steps("## Prepare both hosts");
  await beta.sh(init?.command.trim() ?? "false");
  await beta.receive();
  t.regex((await beta.tried("sluice up data")).output, /mirrored to here, and written elsewhere/);
  await alpha.sh(begin?.command.trim() ?? "false");
  await alpha.receive();
  await sh("mkfs.ext4 -q /dev/sluice/data; mount /dev/sluice/data /srv/data");
  const first = await write("first");
  t.regex((await beta.tried("sluice mirror promote data")).output, /is connected: demote it there/);

  t.regex((await beta.tried("sluice mirror reverse data")).output, /is not the source of a mirror here/);
  t.regex((await alpha.tried("sluice mirror reverse data")).output, /is in use: mounted at/);
  await beta.endReceiver("SIGTERM");
  await sh("umount /srv/data");
  t.regex((await alpha.tried("sluice mirror reverse data")).output, /is not in step/);
  t.is((await alpha.json<VolumeStatus>("status data")).state, "live", "it is served as before");
  await beta.receive();
  await sh("mount /dev/sluice/data /srv/data");
  await alpha.sh("sluice mirror wait data");
  await follow("## Change sides", hosts);
  t.true(await isThere(first));
  t.is((await status(beta)).state, "in step");
  t.regex((await alpha.tried("sluice up data")).output, /mirrored to here, and written elsewhere/);

  // What was answered is at the other side, whatever point it is in: it is written and lost in one breath.
  const second = await write("second");
  await sh("sync -f /srv/data");
  await beta.die("data", "/srv/data");
  await follow("## A host is lost", hosts);
  t.true(await isThere(first));
  t.true(await isThere(second));
  const third = await write("third");

  // One kernel has one device of a volume: it is away while the other host wants to have it.
  await beta.receive();
  await sh("umount /srv/data");
  await alpha.sh("sluice down data");
  t.regex((await beta.tried("sluice up data")).output, /The other side says: .*EAHEAD/);
  await alpha.sh("sluice up data");
  await sh("mount /dev/sluice/data /srv/data");
  await follow("**The lost one comes back.**", hosts);
  const { sentBytes } = await status(alpha);
  t.true(sentBytes.transfers + sentBytes.points < 16 * 2 ** 20, "no more than what differs");

  // Cut off from each other, both are written: one after the other, as one kernel has one device of a volume.
  await sh(`umount /srv/data; ip -n ${alpha.name} link set to-${beta.name} down`);
  await alpha.sh("sluice down data");
  await beta.sh("sluice mirror promote data");
  await sh("mount /dev/sluice/data /srv/data; echo beta >/srv/data/split; umount /srv/data");
  await beta.sh("sluice down data");
  await alpha.sh("sluice up data");
  await sh(`mount /dev/sluice/data /srv/data; ip -n ${alpha.name} link set to-${beta.name} up`);
  const fourth = await write("fourth");
  await until(async () => (await status(alpha)).fault?.code === "ESPLIT");
  t.regex((await status(alpha)).fault?.text ?? "", /found [0-9a-f]{16} after .* at the source and [0-9a-f]{16} after/);
  const [lose, stay] = await steps("## Split brain");
  await alpha.sh(lose?.command.trim() ?? "false");
  await beta.sh("sluice up data");
  await beta.sh(stay?.command.trim() ?? "false");
  await sh("mount /dev/sluice/data /srv/data");
  t.is(await sh("cat /srv/data/split"), "beta\n");
  t.true(await isThere(third));
  t.false(await isThere(fourth));
  // Image for image, both sides are the same.
  await sh("umount /srv/data");
  // As if it had died when it had given the volume up: neither is the source, and done again it is brought to its end.
  await beta.sh("sluice mirror demote data");
  t.regex((await beta.tried("sluice up data")).output, /mirrored to here/);
  t.regex((await alpha.tried("sluice up data")).output, /mirrored to here/);
  await beta.sh("sluice mirror reverse data");
  await alpha.sh("sluice up data");
  await sh("mount /dev/sluice/data /srv/data");
  t.is(await sh("cat /srv/data/split"), "beta\n");
  t.true(await isThere(first));
  t.true(await isThere(third));
  await sh("umount /srv/data");
  await alpha.sh("sluice down data");
  for (const host of hosts) await host.endReceiver("SIGTERM");
});
