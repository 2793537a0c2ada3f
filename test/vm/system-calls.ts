/** Which system calls a thread makes, as the kernel itself counts them. */
import { readdir, readFile } from "node:fs/promises";
import { sh } from "./support.ts";

const TRACING = "/sys/kernel/tracing";
const EVENT = `${TRACING}/events/raw_syscalls/sys_enter`;

/** The thread of a queue, by its name. */
export async function queueThread(pid: number, device: number, queue: number): Promise<number> {
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const name = await readFile(`/proc/${pid}/task/${thread}/comm`, "utf8");
    if (name.trim() === `ublk${device}q${queue}`) return Number(thread);
  }
  throw new Error(`process ${pid} has no thread for queue ${queue} of device ${device}`);
}

/** Calls by their number while the command runs. */
export async function systemCalls(thread: number, command: string): Promise<Map<number, number>> {
  await sh(`mountpoint -q ${TRACING} || mount -t tracefs tracefs ${TRACING}`);
  const trigger = `hist:keys=id if common_pid == ${thread}`;
  await sh(`echo '${trigger}' >${EVENT}/trigger`);
  await sh(command);
  const counted = await readFile(`${EVENT}/hist`, "utf8");
  await sh(`echo '!${trigger}' >${EVENT}/trigger`);
  return new Map(
    [...counted.matchAll(/\{ id: +(\d+) \} hitcount: +(\d+)/g)].map(([, id, count]) => [Number(id), Number(count)]),
  );
}
