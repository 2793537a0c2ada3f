/** What a source knows after a crash, and what it says of itself to whoever it meets then. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { inStep, NO_GENERATIONS, offered, relationOf } from "../../src/replication/generations.ts";
import { SourceStateFile } from "../../src/replication/source-state.ts";

const RECORD = 7;

async function path(t: { teardown(action: () => Promise<void>): void }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  return join(directory, "data.mirror");
}

test("each life has a number of its own, and goes on alone; what was in step is ahead by its record", async (t) => {
  const file = await path(t);
  await SourceStateFile.begin(file, RECORD);
  const first = await SourceStateFile.open(file);
  t.is(first.state.incarnation, 1);
  t.is(relationOf(first.state.generations, NO_GENERATIONS).copy, "full");
  await first.save({ generations: inStep(offered(first.state.generations)), lastPoint: 9 });
  const receiver = inStep(first.state.generations);

  await SourceStateFile.begin(file, RECORD);
  const { state } = await SourceStateFile.open(file);
  t.is(state.incarnation, 2);
  t.is(state.lastPoint, 9);
  t.deepEqual(relationOf(state.generations, receiver), { kind: "i-am-ahead", copy: "recorded" });
});

test("served without its mirror, or with another record, it has all to copy, and knows its receiver still", async (t) => {
  const file = await path(t);
  await SourceStateFile.leave(file);
  await t.throwsAsync(SourceStateFile.open(file), { code: "ENOENT" }, "nothing was there, and nothing is made");
  for (const change of [() => SourceStateFile.leave(file), () => Promise.resolve()]) {
    await SourceStateFile.begin(file, RECORD);
    const before = await SourceStateFile.open(file);
    await before.save({ generations: inStep(before.state.generations) });
    const receiver = before.state.generations;
    await change();
    await SourceStateFile.begin(file, RECORD + 1);
    const { generations } = (await SourceStateFile.open(file)).state;
    t.deepEqual(relationOf(generations, receiver), { kind: "i-am-ahead", copy: "full" });
  }
});

test("a generation that was offered is known after all as well", async (t) => {
  const file = await path(t);
  await SourceStateFile.begin(file, RECORD);
  const first = await SourceStateFile.open(file);
  await first.save({ generations: offered(first.state.generations) });
  const receiver = { ...NO_GENERATIONS, current: first.state.generations.current };
  await SourceStateFile.leave(file);
  await SourceStateFile.begin(file, RECORD);
  const { generations } = (await SourceStateFile.open(file)).state;
  t.deepEqual(relationOf(generations, receiver), { kind: "i-am-ahead", copy: "full" });
});

test("so is the one that the receiver was left in", async (t) => {
  const file = await path(t);
  await SourceStateFile.begin(file, RECORD);
  const first = await SourceStateFile.open(file);
  const receiver = inStep(first.state.generations);
  await first.save({ generations: receiver });
  await SourceStateFile.begin(file, RECORD);
  await SourceStateFile.begin(file, RECORD + 1);
  const { generations } = (await SourceStateFile.open(file)).state;
  t.deepEqual(relationOf(generations, receiver), { kind: "i-am-ahead", copy: "full" });
});

test("what is saved at once is saved in its order", async (t) => {
  const file = await path(t);
  await SourceStateFile.begin(file, RECORD);
  const source = await SourceStateFile.open(file);
  await Promise.all([1, 2, 3].map((lastPoint) => source.save({ lastPoint })));
  t.is((await SourceStateFile.open(file)).state.lastPoint, 3);
});

test("a state that is damaged, or of another version, is refused with its path", async (t) => {
  const file = await path(t);
  await SourceStateFile.begin(file, RECORD);
  const text = await readFile(file, "utf8");
  t.regex(text, /^sluice-mirror-source 1 /);
  await writeFile(file, text.replace('"incarnation":1', '"incarnation":2'));
  await t.throwsAsync(SourceStateFile.open(file), { code: "EMIRROR", message: /data\.mirror: it is damaged/ });
  await writeFile(file, text.replace("source 1", "source 2"));
  await t.throwsAsync(SourceStateFile.begin(file, RECORD), { code: "EVERSION" });
});
