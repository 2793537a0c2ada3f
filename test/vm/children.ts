/**
 * Processes that tests start: whatever becomes of a test, none of them outlives its file, which could not end then. When a
 * test fails, it is printed how those ended that nobody had signalled, and what they, and those still there, had said.
 */
import type { ChildProcess } from "node:child_process";
import test from "ava";

const children = new Map<ChildProcess, () => string>();
const endings: string[] = [];

const story = (child: ChildProcess, state: string, said: string): string =>
  `${child.spawnargs.join(" ")} (${child.pid}) ${state}: ${said}`;

/** `said` gives what the process has written so far. */
export function owned<T extends ChildProcess>(child: T, said: () => string = () => ""): T {
  children.set(child, said);
  child.once("exit", (code, signal) => {
    children.delete(child);
    if (!child.killed) endings.push(story(child, `ended with ${String(code ?? signal)}`, said()));
  });
  return child;
}

test.afterEach.always("what the processes of a failed test said", (t) => {
  if (!t.passed) {
    for (const ending of endings) process.stderr.write(`${ending}\n`);
    for (const [child, said] of children) process.stderr.write(`${story(child, "is still there", said())}\n`);
  }
  endings.length = 0;
});

test.after.always("no process is left", () => {
  for (const child of children.keys()) child.kill("SIGKILL");
});
