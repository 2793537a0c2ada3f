// vm: --disk 64M --disk 64M
// vm-kernel: 7.2
/** Snapshots and copies of several volumes at one instant, under a writer that writes to one only after the other has answered. */
import { access, chmod, readFile, writeFile } from "node:fs/promises";
import test from "ava";
import {
  ask,
  askCopies,
  askCopyCancel,
  askSnapshot,
  askSnapshots,
  askSnapshotUnexport,
} from "../../src/control/client.ts";
import type { CopyGroupRow } from "../../src/control/copy-group.ts";
import { takeGroup, type GroupRow } from "../../src/control/snapshot-group.ts";
import { codeOf } from "../../src/ublk/errors.ts";
import { configure, Daemon } from "./daemon.ts";
import { Counter, inTime, numberIn } from "./one-instant.ts";
import { image, MIB, sh, sluice, tried, until } from "./support.ts";

/** Notes how it is called; does not freeze while there is HOOK.refuse. */
const HOOK = "/tmp/freeze";
const frozen = async (): Promise<string[]> => (await readFile(`${HOOK}.log`, "utf8")).trim().split("\n");

/** The number that a snapshot of a volume shows. */
async function shown(volume: string, snapshot: string): Promise<number> {
  const { device } = await askSnapshot(volume, "export", snapshot);
  const number = await numberIn(String(device));
  await askSnapshotUnexport(volume, snapshot, false);
  return number;
}

test.serial("two volumes at one instant: the later write is never there without the earlier one", async (t) => {
  await writeFile(HOOK, `#!/bin/sh\necho "$@" >>${HOOK}.log\n[ ! -e ${HOOK}.refuse ] || [ $1 = thaw ]\n`);
  await chmod(HOOK, 0o755);
  const daemons = { one: new Daemon("one"), other: new Daemon("other") };
  for (const [name, store] of [
    ["one", "/dev/vda"],
    ["other", "/dev/vdb"],
  ] as const) {
    const path = await image(name, 8 * MIB);
    const freeze = name === "one" ? `\nfreeze = "${HOOK}"` : "";
    await configure(name, `path = "${path}"\n[snapshots]\nstore = "${store}"${freeze}`);
    await sh(`bin/sluice snapshot init ${name} --block 4KiB`);
    await daemons[name].start();
  }
  const counter = new Counter(daemons.one.path, daemons.other.path);
  t.teardown(() => counter.stop());
  await counter.goesOn();
  let before = 0;
  for (const snapshot of ["s1", "s2", "s3"]) {
    const rows = await inTime<GroupRow>(() =>
      snapshot === "s1" ? sluice("snapshot create one,other s1") : takeGroup(["one", "other"], snapshot),
    );
    t.deepEqual(
      rows.map(({ volume, name, state }) => [volume, name, state]),
      [
        ["one", snapshot, "valid"],
        ["other", snapshot, "valid"],
      ],
    );
    const one = await shown("one", snapshot);
    const other = await shown("other", snapshot);
    t.true(other <= one && one <= other + 1, `${snapshot} shows ${one} and ${other}`);
    t.true(one > before && one <= counter.last + 1, `${one} of ${counter.last}, after ${before}`);
    before = one;
    await counter.goesOn();
  }

  // Copies: what is at their destinations is of one instant, too.
  const folder = "/var/tmp/night";
  const jobs = await inTime<CopyGroupRow>(() => sluice(`copy start one,other ${folder}/`));
  t.deepEqual(
    jobs.map(({ volume, name, destinations }) => [volume, name, destinations]),
    [
      ["one", "copy-1", [`${folder}/one.img`]],
      ["other", "copy-1", [`${folder}/other.img`]],
    ],
  );
  t.is(jobs[0]?.created, jobs[1]?.created);
  for (const volume of ["one", "other"]) {
    await until(async () => (await askCopies(volume))[0]?.state === "complete");
  }
  const [one, other] = [await numberIn(`${folder}/one.img`), await numberIn(`${folder}/other.img`)];
  t.true(other <= one && one <= other + 1, `the copies have ${one} and ${other}`);
  t.true(one > before && one <= counter.last + 1, `${one} of ${counter.last}, after ${before}`);
  await askCopyCancel("one", "copy-1");
  await sh(`rm -r ${folder}`);
  t.regex(
    (await tried(`bin/sluice copy start one,other ${folder}/ --as copy-1`)).output,
    /No copy job "copy-1": Volume other has a copy job "copy-1" already/,
  );
  await t.throwsAsync(access(folder), { code: "ENOENT" });
  t.deepEqual(await askCopies("one"), []);
  await counter.goesOn();

  // Where one cannot, none has it, and none is held back.
  await askSnapshot("other", "create", "s4");
  t.regex((await tried("bin/sluice snapshot create one,other s4")).output, /No snapshot "s4": Volume other has a sn/);
  await t.throwsAsync(takeGroup(["one", "none"], "s5"), { message: /No snapshot "s5": Volume none is not run/ });
  t.regex((await tried("bin/sluice snapshot create one,one s5")).output, /volume one is named twice/);
  const { snapshots } = await askSnapshots("one");
  t.deepEqual(
    snapshots.map(({ name }) => name),
    ["s1", "s2", "s3"],
  );
  await counter.goesOn();
  // For s1 to s5, or more often: the first volume knows nothing of what the other cannot.
  const calls = await frozen();
  t.true(calls.length >= 10);
  t.true(calls.every((call, index) => call === (index % 2 === 0 ? "freeze one" : "thaw one")));
  await sh(`touch ${HOOK}.refuse`);
  await t.throwsAsync(askSnapshot("one", "create", "s5"), {
    message: /"\/tmp\/freeze freeze one" ended with 1: nothing is taken/,
  });
  await t.throwsAsync(takeGroup(["other", "one"], "s5"), { message: /No snapshot "s5": "\/tmp\/freeze freeze one"/ });
  await sh(`rm ${HOOK}.refuse`);
  t.is((await frozen()).length, calls.length + 4);

  // Who holds a volume back and dies is not waited for.
  const hold = async (): Promise<string> => {
    let ticket = "";
    // The one before it may still be being thawed.
    await until(async () => {
      try {
        const answer = await ask("one", "POST", "/v1/snapshots/prepare", { name: "s6" });
        ticket = (JSON.parse(answer) as { ticket: string }).ticket;
      } catch (error) {
        if (codeOf(error) !== "EBUSY") throw error;
      }
      return ticket !== "";
    });
    await ask("one", "POST", "/v1/group/hold", { ticket });
    await until(async () => (await askSnapshots("one")).store.counts.holding === 1);
    return ticket;
  };
  const late = await hold();
  await t.throwsAsync(ask("one", "POST", "/v1/snapshots/create", { name: "s6" }), { code: "EBUSY" });
  await counter.goesOn();
  t.regex(daemons.one.output, /Snapshot "s6": nothing was asked for 10 s; the volume goes on without it/);
  await t.throwsAsync(ask("one", "POST", "/v1/group/take", { ticket: late, createdMs: 0 }), { code: "EEXPIRED" });

  const lost = await hold();
  await daemons.one.end("SIGKILL");
  t.is((await frozen()).at(-1), "freeze one");
  await daemons.one.start();
  await counter.goesOn();
  t.deepEqual((await frozen()).slice(calls.length + 4), ["freeze one", "thaw one", "freeze one", "thaw one"]);
  await t.throwsAsync(ask("one", "POST", "/v1/group/take", { ticket: lost, createdMs: 0 }), { code: "EEXPIRED" });
  await counter.stop();
  await daemons.one.end("SIGTERM");
  await daemons.other.end("SIGTERM");
});
