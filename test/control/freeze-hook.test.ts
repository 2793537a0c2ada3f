/**
 * The program around a snapshot: how it is called, and what is done where it fails, hangs, or the daemon dies. One test at a
 * time: a script that is being written cannot be run, and whoever is started meanwhile has it open for a moment.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { FreezeHook, thawLeftover } from "../../src/control/freeze-hook.ts";

interface Scene {
  readonly hook: FreezeHook;
  readonly program: string;
  readonly notePath: string;
  /** How it has been called, and what else was done. */
  readonly calls: () => Promise<string[]>;
  readonly note: (text: string) => Promise<void>;
}

/** `body` is what the script does after it has noted its call. */
async function scene(t: ExecutionContext, body: string, limitMs?: number): Promise<Scene> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  const program = `${directory}/hook`;
  const logPath = `${directory}/log`;
  const notePath = `${directory}/data.frozen`;
  await writeFile(program, `#!/bin/sh\necho "$@" >>${logPath}\n${body}\n`);
  await chmod(program, 0o755);
  return {
    hook: new FreezeHook("data", program, notePath, limitMs),
    program,
    notePath,
    calls: async () => (await readFile(logPath, "utf8")).trim().split("\n"),
    note: (text) => writeFile(logPath, `${text}\n`, { flag: "a" }),
  };
}

test.serial("freeze before, thaw after", async (t) => {
  const { hook, calls, note, notePath } = await scene(t, "");
  const result = await hook.around(async () => {
    t.true(existsSync(notePath));
    await note("taken");
    return 7;
  });
  t.is(result, 7);
  t.deepEqual(await calls(), ["freeze data", "taken", "thaw data"]);
  t.false(existsSync(notePath));
});

test.serial("what is frozen is not frozen again before it is thawed", async (t) => {
  const { hook, calls } = await scene(t, "");
  await hook.around(async () => {
    await t.throwsAsync(hook.freeze(), { code: "EBUSY" });
  });
  await hook.around(() => Promise.resolve());
  t.deepEqual(await calls(), ["freeze data", "thaw data", "freeze data", "thaw data"]);
});

test.serial("what could not be noted is not frozen, and can be tried again", async (t) => {
  const { hook, calls, notePath } = await scene(t, "");
  await mkdir(notePath);
  await t.throwsAsync(hook.freeze(), { code: "EISDIR" });
  await rm(notePath, { recursive: true });
  await hook.around(() => Promise.resolve());
  t.deepEqual((await calls()).slice(-2), ["freeze data", "thaw data"]);
});

test.serial("where the snapshot fails, thaw is called all the same", async (t) => {
  const { hook, calls, notePath } = await scene(t, "[ $1 = freeze ]");
  await t.throwsAsync(
    hook.around(() => Promise.reject(new Error("no room"))),
    { message: "no room" },
  );
  t.deepEqual(await calls(), ["freeze data", "thaw data"]);
  t.false(existsSync(notePath));
});

test.serial("a freeze that fails refuses the snapshot, and thaw is called", async (t) => {
  const { hook, calls, note, program, notePath } = await scene(t, "echo some; echo >&2 no database; [ $1 = thaw ]");
  await t.throwsAsync(
    hook.around(() => note("taken")),
    { code: "EFREEZE", message: `"${program} freeze data" ended with 1 (no database): nothing is taken` },
  );
  t.deepEqual(await calls(), ["freeze data", "thaw data"]);
  t.false(existsSync(notePath));
});

test.serial("a thaw that fails is told", async (t) => {
  const { hook, calls, note } = await scene(t, "[ $1 = freeze ] || exit 9");
  await t.throwsAsync(
    hook.around(() => note("taken")),
    { code: "EFREEZE", message: /hook thaw data" ended with 9: what it froze may still be frozen/ },
  );
  t.deepEqual(await calls(), ["freeze data", "taken", "thaw data"]);
});

test.serial("one that hangs is ended with all that it started, and counts as failed", async (t) => {
  // Nobody but the time limit ends the freeze.
  const { hook } = await scene(t, "[ $1 = thaw ] || sleep 1000000", 300);
  let isTaken = false;
  await t.throwsAsync(
    hook.around(() => {
      isTaken = true;
      return Promise.resolve();
    }),
    { code: "EFREEZE", message: /hook freeze data" had not ended after 0.3 s: nothing is taken/ },
  );
  t.false(isTaken);
});

test.serial("what it leaves in the background is not waited for", async (t) => {
  const { hook, program, note, calls } = await scene(t, "sleep 1000000 & echo $! >>$0.pids");
  await hook.around(() => note("taken"));
  t.deepEqual(await calls(), ["freeze data", "taken", "thaw data"]);
  for (const pid of (await readFile(`${program}.pids`, "utf8")).trim().split("\n")) process.kill(Number(pid));
});

test.serial("a program that is not there refuses the snapshot", async (t) => {
  const { notePath } = await scene(t, "");
  const hook = new FreezeHook("data", "/nonexistent/hook", notePath);
  await t.throwsAsync(
    hook.around(() => Promise.resolve()),
    { code: "EFREEZE", message: /"\/nonexistent\/hook freeze data" cannot be run \(.*ENOENT/ },
  );
  t.false(existsSync(notePath));
});

test.serial("the next daemon thaws what one that died has left frozen, by the program that froze it", async (t) => {
  const { hook, calls, notePath } = await scene(t, "");
  await hook.freeze();
  await thawLeftover("data", notePath);
  t.deepEqual(await calls(), ["freeze data", "thaw data"]);
  t.false(existsSync(notePath));
  await thawLeftover("data", notePath);
  t.is((await calls()).length, 2);
});
