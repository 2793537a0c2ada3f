/** bin/sluice-supervise, over a stub in place of the daemon. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFile, chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";

const SUPERVISOR = fileURLToPath(new URL("../../bin/sluice-supervise", import.meta.url));

interface Supervised {
  readonly child: ChildProcess;
  /** Exit status. */
  readonly ended: Promise<number | null>;
  /** Resolves with the first line that matches; lines that came before are looked at too. */
  said(pattern: RegExp): Promise<string>;
  readonly lines: readonly string[];
}

/** Supervises a daemon that runs `script`, whose $RUN is 1 at its first run, 2 at its second... */
async function supervise(t: ExecutionContext, script: string): Promise<Supervised> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  const daemon = `${directory}/daemon`;
  const counting = `echo run >> ${directory}/runs\nRUN=$(wc -l < ${directory}/runs)\necho "run $RUN: $*"\n`;
  await writeFile(daemon, `#!/bin/sh\n${counting}${script}\n`);
  await chmod(daemon, 0o755);
  await appendFile(`${directory}/runs`, "");
  const env = { ...process.env, SLUICE_DAEMON: daemon, JOURNAL_STREAM: "", NOTIFY_SOCKET: "" };
  const child = spawn(SUPERVISOR, ["data"], { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const ended = once(child, "close").then(([status]) => status as number | null);
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface(stream).on("line", (line) => {
      lines.push(line);
      for (const look of waiting) look();
    });
  }
  t.teardown(async () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL");
    await ended;
    await rm(directory, { recursive: true });
  });
  const said = (pattern: RegExp): Promise<string> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = lines.find((line) => pattern.test(line));
        if (found === undefined) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
    });
  return { child, ended, said, lines };
}

test("a daemon that stops cleanly is not started again", async (t) => {
  const supervised = await supervise(t, "exit 0");
  t.is(await supervised.ended, 0);
  t.deepEqual(supervised.lines, ["run 1: daemon data"]);
});

for (const status of [2, 78]) {
  test(`a daemon that can never start (${status}) is not started again, and its status is told`, async (t) => {
    const supervised = await supervise(t, `exit ${status}`);
    t.is(await supervised.ended, status);
    t.is(supervised.lines.length, 1);
  });
}

test("a daemon that is killed, or fails, is started again at once, then with growing delays", async (t) => {
  const supervised = await supervise(t, "[ $RUN != 1 ] || kill -KILL $$\n[ $RUN != 2 ] || exit 1\nexit 0");
  t.is(await supervised.ended, 0);
  t.deepEqual(
    supervised.lines.filter((line) => !/Killed/.test(line)),
    [
      "run 1: daemon data",
      "The daemon of data ended with status 137: starting it again in 0.2 s",
      "run 2: daemon data",
      "The daemon of data ended with status 1: starting it again in 0.5 s",
      "run 3: daemon data",
    ],
  );
});

const REFUSING = "trap 'echo refused' TERM\necho ready\nwhile :; do sleep 0.01; done";

test("SIGTERM goes to the daemon; one that refuses goes on, and is started again when it dies", async (t) => {
  const supervised = await supervise(t, `[ $RUN != 2 ] || exit 0\necho pid $$\n${REFUSING}`);
  await supervised.said(/ready/);
  supervised.child.kill("SIGTERM");
  await supervised.said(/refused/);
  const pid = Number((await supervised.said(/^pid/)).slice("pid ".length));
  process.kill(pid, "SIGKILL");
  await supervised.said(/status 137: starting it again/);
  t.is(await supervised.ended, 0);
  t.is(supervised.lines.at(-1), "run 2: daemon data");
});

test("SIGTERM ends a daemon that obeys, and the supervisor with its status", async (t) => {
  const supervised = await supervise(t, "trap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.01; done");
  await supervised.said(/ready/);
  supervised.child.kill("SIGTERM");
  t.is(await supervised.ended, 0);
  t.is(supervised.lines.at(-1), "bye");
});

test("SIGTERM to a daemon that does not listen yet is a stop, not a crash", async (t) => {
  const supervised = await supervise(t, "echo ready\nexec sleep 60");
  await supervised.said(/ready/);
  supervised.child.kill("SIGTERM");
  t.is(await supervised.ended, 0);
  t.is(supervised.lines.filter((line) => line.startsWith("run")).length, 1);
});

test("SIGTERM while no daemon runs ends the wait for the next one", async (t) => {
  const supervised = await supervise(t, "exit 1");
  await supervised.said(/starting it again in 2 s/);
  supervised.child.kill("SIGTERM");
  t.is(await supervised.ended, 0);
  t.is(supervised.lines.filter((line) => line.startsWith("run")).length, 4);
});
