/** What is taken of several volumes: what their daemons are asked, in which order, and what is undone where one cannot. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { serveApi } from "../../src/control/api.ts";
import { startCopies, type NewCopies } from "../../src/control/copy-group.ts";
import { cutGroup } from "../../src/control/mirror-group.ts";
import { takeGroup } from "../../src/control/snapshot-group.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { SampleVolume } from "./sample.ts";

interface Scene {
  /** What all volumes were asked, in order. */
  readonly calls: string[];
  readonly volumes: readonly SampleVolume[];
}

/** Volumes that answer. `fails` is what one of them cannot do, "log take"; with `code`. */
async function scene(t: ExecutionContext, fails = "", code = "ESNAPSHOT"): Promise<Scene> {
  const runtime = await mkdtemp(join(tmpdir(), "sluice-"));
  process.env["SLUICE_RUNTIME_DIR"] = runtime;
  const calls: string[] = [];
  const volumes: SampleVolume[] = [];
  const [failing, step = ""] = fails.split(" ");
  for (const name of ["data", "log", "db"]) {
    const volume = new SampleVolume();
    volume.whenCalled = (call) => {
      calls.push(`${name} ${call.split(" ")[0] ?? ""}`);
      if (name === failing && call.startsWith(step)) throw new UblkError(code, `Volume ${name}: it cannot`);
    };
    volumes.push(volume);
    const server = await serveApi(`${runtime}/${name}.sock`, volume);
    t.teardown(() => server.close());
  }
  t.teardown(async () => {
    delete process.env["SLUICE_RUNTIME_DIR"];
    await rm(runtime, { recursive: true });
  });
  return { calls, volumes };
}

const VOLUMES = ["data", "log", "db"];
/** The calls in groups of so many, each group sorted: within one, all are asked at the same time. */
const inGroups = (calls: readonly string[], ...sizes: number[]): string[][] => {
  let at = 0;
  return sizes.map((size) => calls.slice(at, (at += size)).toSorted());
};
const allDo = (what: string, ...volumes: string[]): string[] => volumes.map((name) => `${name} ${what}`).toSorted();

const WANTED: NewCopies = {
  name: undefined,
  segmentBytes: 65_536,
  order: "linear",
  bytesPerSecond: null,
  recordBytes: null,
  force: false,
  staged: false,
};
const copyAll = (): ReturnType<typeof startCopies> => startCopies(VOLUMES, WANTED, (volume) => [`/backup/${volume}`]);

for (const [what, take] of [
  ["a snapshot", () => takeGroup(VOLUMES, "monday")],
  ["a copy", copyAll],
  ["a point", () => cutGroup(VOLUMES)],
] as const) {
  test.serial(`${what}: all are held back before any takes, and none goes on before all have taken`, async (t) => {
    const { calls, volumes } = await scene(t);
    const rows = await take();
    t.deepEqual(
      rows.map(({ volume }) => volume),
      VOLUMES,
    );
    t.deepEqual(inGroups(calls, 3, 3, 3, 3), [
      allDo("prepare", ...VOLUMES),
      allDo("hold", ...VOLUMES),
      allDo("take", ...VOLUMES),
      allDo("keep", ...VOLUMES),
    ]);
    t.is(new Set(volumes.map(({ createdMs }) => createdMs)).size, 1, "the instant has one name");
  });
}

test.serial("points of one instant have one moment, and are waited for at each receiver", async (t) => {
  const { calls, volumes } = await scene(t);
  const rows = await cutGroup(VOLUMES);
  t.deepEqual(
    rows.map(({ volume, point }) => [volume, point]),
    VOLUMES.map((volume) => [volume, 14]),
  );
  t.deepEqual([...new Set(rows.map(({ createdMs }) => createdMs))], [volumes[0]?.createdMs]);
  t.deepEqual(calls.slice(12).toSorted(), allDo("committed", ...VOLUMES), "once they have gone on");
});

test.serial("a receiver that has not got its point is told; nothing has to be undone", async (t) => {
  const { calls } = await scene(t, "log committed", "ELINK");
  await t.throwsAsync(cutGroup(VOLUMES), { code: "ELINK", message: "Volume log: it cannot" });
  t.is(calls.length, 15);
});

test.serial("where no point can be cut of one volume, those of the others are points like any other", async (t) => {
  const { calls } = await scene(t, "db take", "EEXPIRED");
  await t.throwsAsync(cutGroup(VOLUMES), {
    code: "EEXPIRED",
    message: "No consistency point at one instant: Volume db: it cannot",
  });
  t.deepEqual(calls.slice(9).toSorted(), allDo("undo", ...VOLUMES));
});

test.serial("jobs have one name, that no volume has given yet, and each its own destinations", async (t) => {
  const { volumes } = await scene(t);
  await copyAll();
  t.deepEqual(
    volumes.map(({ calls }) => calls[0]),
    VOLUMES.map((volume) => `prepare copy-2 to /backup/${volume}`),
  );
});

test.serial("where one cannot take it, the others go on, and have nothing of it", async (t) => {
  const { calls } = await scene(t, "log take");
  await t.throwsAsync(takeGroup(VOLUMES, "monday"), {
    code: "ESNAPSHOT",
    message: 'No snapshot "monday": Volume log: it cannot',
  });
  t.deepEqual(inGroups(calls.slice(9), 3, 2), [allDo("undo", ...VOLUMES), allDo("drop", "data", "db")]);
  t.is(calls.length, 14);
});

test.serial("where one cannot be held back, or prepared, none takes it", async (t) => {
  for (const [fails, undone] of [
    ["db hold", VOLUMES],
    ["db prepare", ["data", "log"]],
  ] as const) {
    const { calls } = await scene(t, fails);
    await t.throwsAsync(copyAll(), { code: "ESNAPSHOT", message: 'No copy job "copy-2": Volume db: it cannot' });
    t.deepEqual(
      calls.filter((call) => /take|keep|cancel/.test(call)),
      [],
    );
    t.deepEqual(calls.filter((call) => call.endsWith("undo")).toSorted(), allDo("undo", ...undone));
  }
});

test.serial("where one cannot keep what it has taken, those that have kept it undo it", async (t) => {
  const { calls } = await scene(t, "log keep", "EEXPIRED");
  await t.throwsAsync(copyAll(), { code: "EEXPIRED", message: 'No copy job "copy-2": Volume log: it cannot' });
  t.deepEqual(inGroups(calls.slice(9), 3, 3, 3), [
    allDo("keep", ...VOLUMES),
    allDo("undo", ...VOLUMES),
    allDo("cancel", ...VOLUMES),
  ]);
});

test.serial("what could not be thawed is told, and the snapshot stays", async (t) => {
  const { calls } = await scene(t, "log keep", "EFREEZE");
  await t.throwsAsync(takeGroup(VOLUMES, "monday"), { code: "EFREEZE", message: "Volume log: it cannot" });
  t.deepEqual(
    calls.filter((call) => /undo|drop/.test(call)),
    [],
  );
});

test.serial("a volume that does not run is told, and nobody is held back", async (t) => {
  const { calls } = await scene(t);
  await t.throwsAsync(takeGroup(["data", "other"], "monday"), { code: "ENOTRUNNING" });
  t.deepEqual(calls, ["data prepare", "data undo"]);
});
