// vm-kernel: 6.12
// vm: --disk 128M
/** Programs in the papers are run as they stand. */
import { readFile, writeFile } from "node:fs/promises";
import test from "ava";
import { askSnapshots } from "../../src/control/client.ts";
import { configure, Daemon } from "./daemon.ts";
import { image, MIB, sh } from "./support.ts";

const SIZE = 16 * MIB;

test.serial("the whole device in one screen works", async (t) => {
  const readme = await readFile("src/ublk/README.md", "utf8");
  const [, program = ""] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  t.true(program.split("\n").length < 40, "one screen");
  const path = "/dev/shm/readme.ts";
  const source = new URL("../../src/ublk/index.ts", import.meta.url).href;
  await writeFile(path, program.replace('"ublk-ts"', JSON.stringify(source)));
  t.regex(await sh(`${process.execPath} ${path}`), /^\/dev\/ublkb\d+ hello, block device\n$/);
});

/** The first program below a heading. */
async function example(heading: string): Promise<string> {
  const paper = await readFile("docs/copy.md", "utf8");
  const from = paper.indexOf(`\n${heading}\n`);
  const [, program = ""] = /```sh\n(.*?)```/s.exec(from < 0 ? "" : paper.slice(from)) ?? [];
  return program;
}

test.serial("the examples of copying: nightly, incremental, bulk", async (t) => {
  const path = await image("data", SIZE);
  await configure("data", `path = "${path}"\n[snapshots]\nstore = "/dev/vda"`);
  await sh("mkdir -p /backup; bin/sluice snapshot init data --block 4KiB");
  const daemon = new Daemon("data");
  await daemon.start();
  const run = async (heading: string): Promise<void> => {
    await writeFile("/tmp/example", await example(heading));
    await sh("PATH=$PWD/bin:$PATH sh -e /tmp/example");
  };
  const write = (offsetMib: number): Promise<string> =>
    sh(`dd if=/dev/urandom of=${daemon.path} bs=1M count=1 seek=${offsetMib} oflag=direct`);
  const isSame = async (copy: string): Promise<boolean> => (await sh(`cmp ${copy} ${path} || echo other`)) === "";
  await write(3);
  await run("### A nightly backup");
  t.true(await isSame("/backup/data-*.img"));

  await run("### An incremental backup");
  t.true(await isSame("/backup/incremental.img"));
  await write(5);
  t.false(await isSame("/backup/incremental.img"));
  await run("### An incremental backup");
  t.true(await isSame("/backup/incremental.img"));
  t.is(await sh("cat /backup/incremental.ranges"), `${5 * MIB} ${MIB}\n`, "and no more than that was copied");
  t.is((await askSnapshots("data")).snapshots.length, 1);

  await run("## Bulk copy");
  t.true(await isSame("/backup/data.img"));
  await daemon.end("SIGTERM");
});
