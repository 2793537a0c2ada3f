/** The first program in the README of ublk-ts is run as it stands. */
import { readFile, writeFile } from "node:fs/promises";
import test from "ava";
import { sh } from "./support.ts";

test("the whole device in one screen works", async (t) => {
  const readme = await readFile("src/ublk/README.md", "utf8");
  const [, program = ""] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  t.true(program.split("\n").length < 40, "one screen");
  const path = "/dev/shm/readme.ts";
  const source = new URL("../../src/ublk/index.ts", import.meta.url).href;
  await writeFile(path, program.replace('"ublk-ts"', JSON.stringify(source)));
  t.regex(await sh(`${process.execPath} ${path}`), /^\/dev\/ublkb\d+ hello, block device\n$/);
});
