/** When to kill, for tests that kill. */

/** Moments from 0 to `maxMs` that are spread out, and the same in each run. */
export function* moments(count: number, maxMs: number): Generator<number> {
  for (let index = 0; index < count; index++) yield ((index * 7919) % 101) * (maxMs / 101);
}

/** Milliseconds that it takes. */
export async function timeOf(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
