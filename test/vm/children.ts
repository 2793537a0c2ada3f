/** Processes that tests start: whatever becomes of a test, none of them outlives its file, which could not end then. */
import type { ChildProcess } from "node:child_process";
import test from "ava";

const children = new Set<ChildProcess>();

export function owned<T extends ChildProcess>(child: T): T {
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

test.after.always("no process is left", () => {
  for (const child of children) child.kill("SIGKILL");
});
