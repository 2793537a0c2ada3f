/**
 * Looking whether the threads of a device are well.
 *
 * A thread is well when its loop has turned since it was last looked at: each look wakes it, so a thread that waits in its
 * ring turns as well.
 */
import { signalEvent } from "./event.ts";
import type { QueueThread } from "./queue-thread.ts";
import { PULSE } from "./statistics.ts";

/** How long a queue may be at work on one turn of its loop, or owe an answer to a wake, before it counts as stuck. */
export const STUCK_AFTER_MS = 60_000;
const PULSE_INTERVAL_MS = 1_000;

/** Looks once a second, and says which queue is stuck, and for how many seconds. Does not keep the process alive. */
export function watchPulses(
  threads: readonly QueueThread[],
  stuckAfterMs: number,
  onStuck: (queue: number, seconds: number) => void,
): NodeJS.Timeout {
  const seen = threads.map(() => ({ turns: -1, sinceMs: performance.now() }));
  const look = (): void => {
    const nowMs = performance.now();
    threads.forEach((thread, queue) => {
      const last = seen[queue];
      if (last === undefined) return;
      const turns = Atomics.load(thread.statistics.pulse, PULSE.turns);
      if (turns !== last.turns) {
        last.turns = turns;
        last.sinceMs = nowMs;
      } else if (nowMs - last.sinceMs > stuckAfterMs) {
        onStuck(queue, Math.round((nowMs - last.sinceMs) / 1000));
      }
      signalEvent(thread.wakeEvent);
    });
  };
  return setInterval(look, PULSE_INTERVAL_MS).unref();
}
