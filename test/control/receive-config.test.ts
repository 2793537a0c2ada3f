/** The receiver's configuration: what it means, and the line for each way in which it can be wrong. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "ava";
import { ConfigError, configFile, configuredVolumes, startedVolumes } from "../../src/control/config-name.ts";
import { formatAddress, isAddress, parseAddress } from "../../src/control/receive-address.ts";
import { RECEIVE_KEYS } from "../../src/control/receive-schema.ts";
import { parseReceiveConfig, specOf } from "../../src/control/receive-config.ts";

const FILE = "/etc/sluice/receive.toml";
const T = 'transport = "clear"\n';
const V = '[[volume]]\nname = "data"\npath = "/i"\nstore = "/s"\nlog = "/l"\n';
const ADDRESS = 'wanted an address and a port, such as "192.0.2.1:7450", "[::]:7450" or "7450"';
const NAME = 'wanted up to 64 of a-z, 0-9, ".", "_" and "-", starting with a letter or digit, and not "receive"';
const TABLES = "wanted tables, each headed [[volume]]";
const BLOCK = "wanted a power of two from 4KiB to 256KiB";

function faults(text: string): string[] {
  try {
    parseReceiveConfig(text, FILE);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults.map((fault) => fault.replace(`${FILE}: `, ""));
  }
  return [];
}

test("a transport and a volume are enough: only this machine reaches it, three points are kept", (t) => {
  t.deepEqual(parseReceiveConfig(T + V, FILE), {
    file: FILE,
    listen: { host: "127.0.0.1", port: 7450 },
    transport: { transport: "clear", ca: undefined, certificate: undefined, key: undefined },
    silenceMs: 10_000,
    volumes: [{ name: "data", path: "/i", store: "/s", log: "/l", keep: 3, blockBytes: 4096, from: null }],
  });
});

test("every key has its effect", (t) => {
  const text = `listen = "[::1]:7"\nsilence = 60\n${T}${V}keep = 1\nblock_size = "256KiB"\n`;
  const config = parseReceiveConfig(text, FILE);
  t.deepEqual(config.listen, { host: "::1", port: 7 });
  t.is(config.silenceMs, 60_000);
  t.is(config.volumes[0]?.keep, 1);
  t.is(config.volumes[0]?.blockBytes, 2 ** 18);
  const known = parseReceiveConfig(`${V}from = ["here", "there"]`, FILE);
  t.is(known.transport.transport, "tls");
  t.deepEqual(known.volumes[0]?.from, ["here", "there"]);
  t.is(specOf(config, "data"), config.volumes[0] as (typeof config.volumes)[0]);
  t.throws(() => specOf(config, "dat"), {
    instanceOf: ConfigError,
    message: `${FILE}: has no volume "dat", wanted one of data`,
  });
});

const WRONG: readonly [string, ...string[]][] = [
  [`transport = "tcp"\n${V}`, 'transport: wanted "tls" or "clear", found "tcp"'],
  [`${T}key = "/k"\n${V}`, 'key: is of no use with transport = "clear": leave it out'],
  [
    `${T}${V}from = ["host"]`,
    'volume[0].from: is of no use with transport = "clear", which proves nothing: leave it out',
  ],
  [
    `ca = "/c"\ncertificate = "/d"\nkey = "/k"\n${V}`,
    "volume[0].from: wanted the hosts that may be its source, found none: an authority signs for many",
  ],
  [`${V}from = []`, "volume[0].from: wanted a list of the hosts that may be its source, found []"],
  [T, `volume: ${TABLES}, found none`],
  [`${T}volume = []`, `volume: ${TABLES}, found []`],
  [`${T}[volume]\nname = "x"`, `volume: ${TABLES}, found {"name":"x"}`],
  [`${T}listn = "1"\n${V}`, "listn: is no key here, wanted listen?"],
  [`${T}${V}stor = "/x"`, "volume[0].stor: is no key here, wanted store?"],
  [
    `${T}${V}zebra = 1`,
    "volume[0].zebra: is no key here, wanted one of name, path, store, log, keep, block_size, from",
  ],
  [`${T}listen = "0"\n${V}`, `listen: ${ADDRESS}, found "0"`],
  [`${T}listen = 7450\n${V}`, `listen: ${ADDRESS}, found 7450`],
  [`${T}silence = 0\n${V}`, "silence: wanted a whole number from 1 to 3600, found 0"],
  [`${T}${V}keep = 0`, "volume[0].keep: wanted a whole number from 1 to 100, found 0"],
  [`${T}${V}keep = 101`, "volume[0].keep: wanted a whole number from 1 to 100, found 101"],
  [`${T}${V}block_size = 2048`, `volume[0].block_size: ${BLOCK}, found 2048`],
  [`${T}${V}block_size = 12288`, `volume[0].block_size: ${BLOCK}, found 12288`],
  [`${T}${V}block_size = "512KiB"`, `volume[0].block_size: ${BLOCK}, found "512KiB"`],
  [T + V.replace("data", "receive"), `volume[0].name: ${NAME}, found "receive"`],
  [T + V.replace("data", "Data"), `volume[0].name: ${NAME}, found "Data"`],
  [T + V.replace('"/i"', '"i"'), 'volume[0].path: wanted an absolute path, found "i"'],
  [T + V.replace(/store.*\n/, ""), "volume[0].store: wanted an absolute path, found none"],
  [T + V.replace("/l", "/s"), 'volume[0].log: wanted another than that of volume[0].store, found "/s"'],
  [
    T + V + V,
    'volume[1].name: wanted another than that of volume[0].name, found "data"',
    'volume[1].path: wanted another than that of volume[0].path, found "/i"',
    'volume[1].store: wanted another than that of volume[0].store, found "/s"',
    'volume[1].log: wanted another than that of volume[0].log, found "/l"',
  ],
];

for (const [text, ...wanted] of WRONG) {
  test(`refused: ${wanted[0] ?? ""}`, (t) => {
    t.deepEqual(faults(text), wanted);
  });
}

test("addresses", (t) => {
  const meant: Record<string, string> = {
    "7450": "0.0.0.0:7450",
    "192.0.2.1:80": "192.0.2.1:80",
    "host.example:65535": "host.example:65535",
    "[::]:1": "[::]:1",
    "[fe80::1%eth0]:9": "[fe80::1%eth0]:9",
  };
  for (const [text, shown] of Object.entries(meant)) t.is(formatAddress(parseAddress(text)), shown);
  for (const text of ["", ":7450", "::1:7450", "host", "host:", "65536", "1:2:3", "[]:1", "a b:1", "[::1]"]) {
    t.false(isAddress(text), text);
    t.throws(() => parseAddress(text), { code: "EINVAL" });
  }
});

test("no volume has the name of the receiver's own file", (t) => {
  t.throws(() => configFile("receive"), { instanceOf: ConfigError, message: /"receive" is no name for a volume/ });
  t.throws(() => configFile("/etc/sluice/receive.toml"), { instanceOf: ConfigError, message: /means the receiver/ });
  t.is(configFile("receiver").name, "receiver");
});

test("the receiver is not listed among the volumes", async (t) => {
  const folder = await mkdtemp(`${tmpdir()}/sluice-names-`);
  t.teardown(() => rm(folder, { recursive: true }));
  process.env["SLUICE_CONFIG_DIR"] = folder;
  process.env["SLUICE_RUNTIME_DIR"] = folder;
  for (const name of ["receive.toml", "data.toml", "receive.sock", "data.sock"])
    await writeFile(`${folder}/${name}`, "");
  t.deepEqual(configuredVolumes(), ["data"]);
  t.deepEqual(startedVolumes(), ["data"]);
});

test("a key is described in docs/configuration.md if and only if it exists", async (t) => {
  const text = await readFile(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const [, section = ""] = /^## The receiver$(.*?)^## /ms.exec(text) ?? [];
  const described = [...section.matchAll(/^\| `([a-z_]+)`/gm)].map((match) => match[1]);
  t.deepEqual(described.toSorted(), Object.values(RECEIVE_KEYS).flat().toSorted());
});
