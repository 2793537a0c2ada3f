/** What a receiver keeps of a volume beside its log. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { seal } from "../../src/copy/sealed-text.ts";
import { created, inStep, met, NO_GENERATIONS, type Generations } from "../../src/replication/generations.ts";
import {
  decodeNote,
  encodeNote,
  generationsOf,
  NO_NOTE,
  readNote,
  writeNote,
  type ReceiverNote,
} from "../../src/control/receive-state.ts";

const A = "00000000000000aa";
const B = "00000000000000bb";

function noteOf(generations: Generations, incoming: Generations | null): ReceiverNote {
  const rest = { base: { point: 12, createdMs: 5 }, record: { nvram: "/nv", salt: 7 }, isGivenUp: true } as const;
  return { role: "promoting", generations, incoming, incarnation: 3, connection: 9, ...rest } as ReceiverNote;
}

test("pinned bytes", (t) => {
  const text =
    "sluice-receiver 1 39c3923b 305\n" +
    '{"role":"promoting","generations":{"current":"00000000000000aa","bitmap":"0000000000000000","offered":"0000000000000000","history":["0000000000000000","0000000000000000"]},"incoming":null,"incarnation":3,"connection":9,"base":{"point":12,"createdMs":5},"record":{"nvram":"/nv","salt":7},"isGivenUp":true}\n';
  t.is(encodeNote(noteOf(created(A), null)), text);
  t.deepEqual(decodeNote(text), noteOf(created(A), null));
});

test("what is damaged, of another version, or says something else is refused", (t) => {
  const format = { magic: "sluice-receiver", version: 1, what: "", code: "" };
  const whole = encodeNote(noteOf(created(A), null));
  t.throws(() => decodeNote(whole.replace("aa", "ab")), { code: "ESTATE", message: /checksum/ });
  t.throws(() => decodeNote(seal({ ...format, version: 2 }, {})), { code: "EVERSION" });
  t.throws(() => decodeNote(seal({ ...format, magic: "sluice-copy" }, {})), { code: "ESTATE" });
  const note = noteOf(created(A), null);
  t.throws(() => decodeNote(seal(format, { ...note, connection: undefined })), { code: "ESTATE" });
  t.throws(() => decodeNote(seal(format, { ...note, connection: -1 })), { code: "ESTATE" });
  t.throws(() => decodeNote(seal(format, { ...noteOf(created("aa"), null) })), { code: "ESTATE" });
});

test("no file is a volume that was never mirrored to here; one that is damaged is told with its path", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-state-"));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = `${folder}/receive/v.state`;
  t.deepEqual(await readNote(path), NO_NOTE);
  const note = noteOf(created(A), created(B));
  await writeNote(path, note);
  t.deepEqual(await readNote(path), note);
  await writeFile(path, (await readFile(path, "utf8")).slice(0, -1));
  await t.throwsAsync(readNote(path), { code: "ESTATE", message: /v\.state: it is damaged/ });
});

test("the data are of the source's generation from the first point on that was committed, and not before", (t) => {
  const mine = created(A);
  const source: Generations = { ...NO_GENERATIONS, current: B, bitmap: A };
  const incoming = met(source, mine);
  const note = noteOf(mine, incoming);
  t.deepEqual(generationsOf(note, A), mine);
  t.deepEqual(generationsOf(note, B), inStep(incoming));
  t.is(generationsOf(note, B).history[0], A);
  t.deepEqual(generationsOf(note, null), NO_GENERATIONS);
  t.deepEqual(generationsOf(NO_NOTE, null), NO_GENERATIONS);
  t.deepEqual(generationsOf(noteOf(mine, null), A), mine);
});
