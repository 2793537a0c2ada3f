/** Configuration: what a file means, and the one line for each way in which it can be wrong. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { parseConfig, readConfig } from "../../src/control/config.ts";
import { ConfigError, configFile } from "../../src/control/config-name.ts";
import { KEYS } from "../../src/control/config-schema.ts";
import { volumeMark } from "../../src/control/identity.ts";

const GIB = 2 ** 30;
const FILE = "/etc/sluice/data.toml";

/** The faults of a text, without the name of the file, which each must have. */
function faults(text: string): string[] {
  try {
    parseConfig(text, "data", FILE);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults.map((fault) => {
      if (!fault.startsWith(`${FILE}: `)) throw new Error(`a fault without its file: ${fault}`);
      return fault.slice(FILE.length + 2);
    });
  }
  return [];
}

test("a path alone is a volume: the whole file, one queue, blocks of 512", (t) => {
  t.deepEqual(parseConfig('path = "/srv/data.img"', "data", FILE), {
    name: "data",
    file: FILE,
    volume: {
      backing: { kind: "file", path: "/srv/data.img" },
      sizeBytes: null,
      logicalBlockBytes: 512,
      readOnly: false,
      record: null,
      mirror: null,
      snapshots: null,
      filters: [],
    },
    queues: 1,
    depth: 128,
    device: null,
    freezeProgram: null,
    mirror: null,
  });
});

test("every key has its effect", (t) => {
  const config = parseConfig(
    `
      target = "file"
      path = "/dev/vda"
      size = "10GiB"
      logical_block_size = 4096
      read_only = true
      queues = 4
      queue_depth = 32
      device = 7
      [[filter]]
      kind = "error"
      errno = "ENOSPC"
      rate = 0.5
      operations = ["write", "discard"]
      offset = 0
      length = "1MiB"
      seed = 9
      [[filter]]
      kind = "delay"
      ms = 2.5
      operations = ["flush"]
      [[filter]]
      kind = "trace"
      file = "/tmp/trace"
    `,
    "data",
    FILE,
  );
  t.deepEqual(config.volume, {
    backing: { kind: "file", path: "/dev/vda" },
    sizeBytes: 10 * GIB,
    logicalBlockBytes: 4096,
    readOnly: true,
    record: null,
    mirror: null,
    snapshots: null,
    filters: [
      {
        kind: "error",
        errno: "ENOSPC",
        rate: 0.5,
        operations: ["write", "discard"],
        range: { offsetBytes: 0, lengthBytes: 2 ** 20 },
        seed: 9,
      },
      { kind: "delay", delayMs: 2.5, operations: ["flush"] },
      { kind: "trace", path: "/tmp/trace" },
    ],
  });
  t.is(config.queues, 4);
  t.is(config.depth, 32);
  t.is(config.device, 7);
});

test("a record lies in its NVRAM file, belongs to its volume, and has a limit", (t) => {
  const record = { path: "/mnt/pmem/data", volume: "data", mark: volumeMark("data") };
  const parsed = (text: string): unknown => parseConfig(`path = "/x"\n[record]\n${text}`, "data", FILE).volume.record;
  t.deepEqual(parsed('nvram = "/mnt/pmem/data"'), { ...record, limitBytes: 256 * 2 ** 20 });
  t.deepEqual(parsed('nvram = "/mnt/pmem/data"\nlimit = "1GiB"'), { ...record, limitBytes: GIB });
});

test("a mirror has a receiver, and what it does without one", (t) => {
  const text = `path = "/x"\n[record]\nnvram = "/n"\n[mirror]\ntransport = "clear"\n`;
  const clear = { transport: "clear", ca: undefined, certificate: undefined, key: undefined };
  const config = parseConfig(`${text}to = "backup.example"`, "data", FILE);
  t.deepEqual(config.volume.mirror, { logBytes: 32 * 2 ** 20, blockBytes: 4096 });
  t.deepEqual(config.mirror, {
    ...{
      to: { host: "backup.example", port: 7450 },
      receiver: "backup.example",
      transport: clear,
      mode: "async",
      policy: "continue",
    },
    ...{ intervalMs: 1000, silenceMs: 10_000, isComparing: true, compression: "none", copyBytesPerSecond: null },
  });
  const rest =
    'mode = "sync"\nwhen_down = "stop"\ninterval = 0.25\nsilence = 3\nchecksum = false\ncompression = "zstd"\nlog = "64MiB"\ncopy_limit = "50MiB"\nblock_size = "64KiB"';
  const other = parseConfig(`${text}to = "[fe80::1%eth0]:99"\n${rest}`, "data", FILE);
  t.deepEqual(other.volume.mirror, { logBytes: 64 * 2 ** 20, blockBytes: 65_536 });
  t.deepEqual(other.mirror, {
    ...{
      to: { host: "fe80::1%eth0", port: 99 },
      receiver: "fe80::1%eth0",
      transport: clear,
      mode: "sync",
      policy: "stop",
    },
    ...{ intervalMs: 250, silenceMs: 3000, isComparing: false, compression: "zstd", copyBytesPerSecond: 50 * 2 ** 20 },
  });
});

test("snapshots lie in their store, which belongs to the volume, and say what is done when it is full", (t) => {
  const parsed = (text: string): unknown =>
    parseConfig(`path = "/x"\n[snapshots]\n${text}`, "data", FILE).volume.snapshots;
  const snapshots = {
    path: "/srv/data.store",
    volume: "data",
    mark: volumeMark("data"),
    lossNotePath: "/var/lib/sluice/data.snapshots-lost",
  };
  t.deepEqual(parsed('store = "/srv/data.store"'), { ...snapshots, fullPolicy: "invalidate" });
  t.deepEqual(parsed('store = "/srv/data.store"\nwhen_full = "stall"'), { ...snapshots, fullPolicy: "stall" });
  const text = `path = "/x"\n[snapshots]\nstore = "/s"\nfreeze = "/etc/sluice/freeze"`;
  t.is(parseConfig(text, "data", FILE).freezeProgram, "/etc/sluice/freeze");
});

test("memory and null volumes have a size of their own", (t) => {
  const memory = parseConfig('target = "memory"\nsize = "1GiB"', "scratch", FILE);
  t.deepEqual(memory.volume.backing, { kind: "memory", path: "/dev/shm/sluice-scratch", sizeBytes: GIB });
  const nothing = parseConfig('target = "null"\nsize = 4096', "nil", FILE);
  t.deepEqual(nothing.volume.backing, { kind: "null", sizeBytes: 4096 });
});

test("an image with originals behind it is read-only, and two lines", (t) => {
  for (const more of ["", "read_only = true\n"]) {
    const { volume } = parseConfig(`target = "appended"\npath = "/backup/data.img"\n${more}`, "data", FILE);
    t.deepEqual(volume.backing, { kind: "appended", path: "/backup/data.img" });
    t.true(volume.readOnly);
    t.is(volume.sizeBytes, null);
  }
});

const P = 'path = "/x"\n';
const APPENDED = `${P}target = "appended"\n`;
const RECORD = `${P}[record]\n`;
const MIRROR = `${RECORD}nvram = "/n"\n[mirror]\n`;
const ERROR = `${P}[[filter]]\nkind = "error"\n`;
const DELAY = `${P}[[filter]]\nkind = "delay"\n`;
const TRACE = `${P}[[filter]]\nkind = "trace"\n`;
const TOP_KEYS =
  "target, path, size, logical_block_size, read_only, queues, queue_depth, device, record, snapshots, mirror, filter";
const OPERATIONS = '"read", "write", "flush", "discard" or "write-zeroes"';
const ABOVE_LENGTH = 'wanted a size such as "10GiB"';

/** A text, and all that is said of it. */
const REFUSALS: readonly (readonly [text: string, ...lines: string[]])[] = [
  ["", "path: wanted the path of a file or block device, found none"],
  ['path = "x"', 'path: wanted an absolute path, found "x"'],
  ["path = 3", "path: wanted an absolute path, found 3"],
  ['path = "/a\\u0000b"', 'path: wanted a path without a NUL, found "/a\\u0000b"'],
  ['target = "fil"', 'target: wanted "file", "memory", "null" or "appended", found "fil"'],
  ['target = "null"', 'size: wanted the size of the null volume, such as "1GiB", found none'],
  ['target = "memory"', 'size: wanted the size of the memory volume, such as "1GiB", found none'],
  [`${P}target = "null"\nsize = 512`, 'path: is for target = "file" or "appended" alone, found target = "null"'],
  ['target = "appended"', "path: wanted the path of an image, found none"],
  [`${APPENDED}size = "1GiB"`, "size: an appended image says itself how large it is: leave it out"],
  [`${APPENDED}read_only = false`, "read_only: an appended image is never written to: leave it out"],
  [
    `${APPENDED}[record]\nnvram = "/x"\n[snapshots]\nstore = "/y"`,
    "record: is of no use to an appended image, which is read-only: leave it out",
    "snapshots: is of no use to an appended image, which is read-only: leave it out",
  ],
  [`${P}size = "10 elephants"`, `size: ${ABOVE_LENGTH}, found "10 elephants"`],
  [`${P}size = 0`, `size: ${ABOVE_LENGTH}, found 0`],
  [`${P}size = -512`, `size: ${ABOVE_LENGTH}, found -512`],
  [`${P}size = 1.5`, `size: ${ABOVE_LENGTH}, found 1.5`],
  [`${P}size = "16P"`, `size: ${ABOVE_LENGTH}, found "16P"`],
  [`${P}size = 1979-05-27`, `size: ${ABOVE_LENGTH}, found 1979-05-27`],
  [`${P}size = 1000`, "size: wanted a multiple of logical_block_size = 512, found 1000 bytes"],
  [
    `${P}size = 512\nlogical_block_size = 4096`,
    "size: wanted a multiple of logical_block_size = 4096, found 512 bytes",
  ],
  [`${P}logical_block_size = 513`, "logical_block_size: wanted 512, 1024, 2048 or 4096, found 513"],
  [`${P}logical_block_size = "512"`, 'logical_block_size: wanted 512, 1024, 2048 or 4096, found "512"'],
  [`${P}read_only = "yes"`, 'read_only: wanted true or false, found "yes"'],
  [`${P}queues = 0`, "queues: wanted a whole number from 1 to 64, found 0"],
  [`${P}queues = 1.5`, "queues: wanted a whole number from 1 to 64, found 1.5"],
  [`${P}queue_depth = 4097`, "queue_depth: wanted a whole number from 1 to 4096, found 4097"],
  [`${P}device = -1`, "device: wanted a whole number from 0 to 1048575, found -1"],
  [`${P}queue_dept = 1`, "queue_dept: is no key here, wanted queue_depth?"],
  [`${P}readonly = true`, "readonly: is no key here, wanted read_only?"],
  ['Path = "/x"', "path: wanted the path of a file or block device, found none", "Path: is no key here, wanted path?"],
  [`${P}zebra = 1`, `zebra: is no key here, wanted one of ${TOP_KEYS}`],
  [`${P}constructor = 1`, `constructor: is no key here, wanted one of ${TOP_KEYS}`],
  [`${P}filter = "error"`, 'filter: wanted at most 8 tables, each headed [[filter]], found "error"'],
  [
    `${P}[filter]\nkind = "delay"\nms = 1`,
    'filter: wanted at most 8 tables, each headed [[filter]], found {"kind":"delay","ms":1}',
  ],
  [`${P}[[filters]]\nkind = "trace"`, "filters: is no key here, wanted filter?"],
  [`${P}[[filter]]`, 'filter[0].kind: wanted "error", "delay" or "trace", found none'],
  [`${P}[[filter]]\nkind = "toString"`, 'filter[0].kind: wanted "error", "delay" or "trace", found "toString"'],
  [`${ERROR}errno = "EFOO"`, 'filter[0].errno: wanted the name of an errno, such as EIO, found "EFOO"'],
  [`${ERROR}errno = 5`, "filter[0].errno: wanted the name of an errno, such as EIO, found 5"],
  [`${ERROR}rate = 2`, "filter[0].rate: wanted a number from 0 to 1, found 2"],
  [`${ERROR}operations = ["reed"]`, `filter[0].operations[0]: wanted ${OPERATIONS}, found "reed"`],
  [`${ERROR}operations = []`, `filter[0].operations: wanted a list of ${OPERATIONS}, found []`],
  [`${ERROR}offset = 0`, "filter[0]: wanted offset and length together, found one of them"],
  [`${ERROR}length = 512`, "filter[0]: wanted offset and length together, found one of them"],
  [`${ERROR}offset = 0\nlength = 0`, `filter[0].length: ${ABOVE_LENGTH}, found 0`],
  [`${ERROR}seed = 0`, "filter[0].seed: wanted a whole number from 1 to 2147483647, found 0"],
  [`${ERROR}sed = 1`, "filter[0].sed: is no key here, wanted seed?"],
  [DELAY, "filter[0].ms: wanted milliseconds above 0, to 3600000, found none"],
  [`${DELAY}ms = 0`, "filter[0].ms: wanted milliseconds above 0, to 3600000, found 0"],
  [`${DELAY}ms = 1\noperation = ["read"]`, "filter[0].operation: is no key here, wanted operations?"],
  [TRACE, "filter[0].file: wanted an absolute path, found none"],
  [`${TRACE}file = "t"`, 'filter[0].file: wanted an absolute path, found "t"'],
  [`${TRACE}file = "/t"\nms = 1`, "filter[0].ms: is no key here, wanted one of kind, file"],
  [RECORD, "record.nvram: wanted an absolute path, found none"],
  [`${RECORD}nvram = "data"`, 'record.nvram: wanted an absolute path, found "data"'],
  [`${RECORD}nvram = "/n"\nlimits = 1`, "record.limits: is no key here, wanted limit?"],
  [`${P}record = 1`, "record: wanted a table, headed [record], found 1"],
  [
    `${P}[mirror]\nto = "b"\ntransport = "clear"`,
    "mirror: wanted a [record] too, found none: it knows what the receiver lacks",
  ],
  [MIRROR, 'mirror.to: wanted the receiver as "HOST" or "HOST:PORT", found none'],
  [`${MIRROR}to = "[::1]"`, "mirror.receiver: wanted the name that the receiver is known by, found none for ::1"],
  [
    `${MIRROR}to = "b"\nreceiver = "B"`,
    'mirror.receiver: wanted the name of a host: small letters, digits, and . _ - between them, found "B"',
  ],
  [
    `${MIRROR}to = "b"\nca = "/ca"\nkey = "/k"`,
    "mirror.certificate: wanted ca, certificate and key together, or none of them, found none",
  ],
  [`${MIRROR}to = "b:1:2"`, 'mirror.to: wanted the receiver as "HOST" or "HOST:PORT", found "b:1:2"'],
  [`${MIRROR}to = "b"\nmode = "semi"`, 'mirror.mode: wanted "async", "memory" or "sync", found "semi"'],
  [`${MIRROR}to = "b"\nlog = "33MiB"`, 'mirror.log: wanted a power of two from 4MiB to 1GiB, found "33MiB"'],
  [`${MIRROR}to = "b"\ninterval = 0`, "mirror.interval: wanted seconds above 0, to 86400, found 0"],
  [`${P}[snapshots]\n`, "snapshots.store: wanted an absolute path, found none"],
  [
    `${P}[snapshots]\nstore = "/s"\nwhen_full = "drop"`,
    'snapshots.when_full: wanted "invalidate" or "stall", found "drop"',
  ],
  [`${P}[snapshots]\nstore = "/s"\nfreeze = "f"`, 'snapshots.freeze: wanted an absolute path, found "f"'],
  [`${P}queues = 2\n[snapshots]\nstore = "/s"`, "queues: wanted 1 for a volume with snapshots, found 2"],
  [
    `${P}read_only = true\n[snapshots]\nstore = "/s"`,
    "snapshots: are of no use to a volume that is read-only: leave out one of them",
  ],
  [`${P}queues = 2\n[record]\nnvram = "/n"`, "queues: wanted 1 for a volume with a record, found 2"],
  [
    `${P}read_only = true\n[record]\nnvram = "/n"`,
    "record: is of no use to a volume that is read-only: leave out one of them",
  ],
  [`${P}path = "/y"`, "line 2, column 1: not TOML: trying to redefine an already defined table or value"],
  [`${P}device = 9223372036854775807`, "line 2, column 10: not TOML: integer value cannot be represented losslessly"],
];

for (const [text, ...lines] of REFUSALS) {
  test(`refused: ${JSON.stringify(text)}`, (t) => {
    t.deepEqual(faults(text).toSorted(), lines.toSorted());
  });
}

test("all faults of a file are told at once, those between keys too", (t) => {
  const text = 'target = "null"\nqueues = "a"\nread_only = 1\nbogus = 2\n[[filter]]\nkind = "delay"';
  t.deepEqual(
    faults(text)
      .map((fault) => fault.split(":")[0])
      .toSorted(),
    ["bogus", "filter[0].ms", "queues", "read_only", "size"],
  );
});

test("more filters than a request has room for are refused", (t) => {
  const filter = '[[filter]]\nkind = "delay"\nms = 1\n';
  t.deepEqual(faults(P + filter.repeat(8)), []);
  t.is(faults(P + filter.repeat(9)).length, 1);
});

test("a key is described in docs/configuration.md if and only if it exists", async (t) => {
  const text = await readFile(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const described = [...text.matchAll(/^#{2,4} `([a-z_]+)`/gm)].map((match) => match[1]);
  t.deepEqual(described.toSorted(), [...new Set(Object.values(KEYS).flat())].toSorted());
});

test("a name that udev or systemd would not take is refused", (t) => {
  for (const name of ["a", "data", "data-2", "0.x_y", "a".repeat(64)]) t.is(configFile(name).name, name);
  for (const name of ["", "-a", ".a", "Data", "a b", "ä", "a%", "a".repeat(65), "a\n", "a@b"]) {
    t.throws(() => configFile(name), { instanceOf: ConfigError, message: /is no name for a volume/ }, name);
  }
});

test("a path names a file, and the volume is named after it", (t) => {
  t.deepEqual(configFile("./x/data.toml"), { name: "data", file: "./x/data.toml" });
  t.deepEqual(configFile("data.toml"), { name: "data", file: "data.toml" });
});

test("a file that is missing, or no file, is told in one line", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  await t.throwsAsync(readConfig(`${directory}/data.toml`), { message: /data\.toml does not exist/ });
  await writeFile(`${directory}/file`, "");
  await t.throwsAsync(readConfig(`${directory}/file/x.toml`), {
    instanceOf: ConfigError,
    message: /x\.toml cannot be read: ENOTDIR/,
  });
  await writeFile(`${directory}/data.toml`, P);
  t.is((await readConfig(`${directory}/data.toml`)).name, "data");
});

test("property: any text is either a volume or refused in lines that name the file", (t) => {
  const word = fc.constantFrom(
    ...Object.values(KEYS).flat(),
    "=",
    "\n",
    "[[filter]]\n",
    '"/x"',
    '"error"',
    '"null"',
    '"1GiB"',
    "5",
    "true",
    "[",
    "]",
    '"',
    "#",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 3 })), { maxLength: 20 }), (words) => {
      for (const fault of faults(words.join(" "))) t.notRegex(fault, /\n|undefined|\[object/);
    }),
  );
  t.pass();
});
