/**
 * Rolls a volume back to a snapshot while nobody uses it: in the thread that asks, with a ring of its own, when there is no
 * device. The targets are those of a device, without the instruments.
 */
import { ERRNO } from "../ublk/errors.ts";
import { MappedMemory } from "../ublk/memory.ts";
import { Request } from "../ublk/request.ts";
import { Ring } from "../ublk/ring.ts";
import type { Limits } from "../ublk/target.ts";
import { Rollback, type RollbackResult } from "./cow/rollback.ts";
import { openCopying, type StackOptions } from "./stack.ts";

const DEPTH = 16;
const REQUEST_BYTES = 256 * 1024;
/** Room for requests of the volume's own beside those: what does not fit waits. */
const RING_ENTRIES = 512;

/** `whileGoing` is called whenever something has ended. The point is found by name and epoch; where there is none: ENOENT. */
export function rollBackVolume(
  options: StackOptions,
  limits: Limits,
  { snapshot, epoch }: { readonly snapshot: string; readonly epoch: number },
  whileGoing: () => void,
): RollbackResult {
  const { cow } = options;
  const impossible = (errno: number): RollbackResult => ({ failed: "impossible", errno });
  if (cow === null) return impossible(ERRNO.ENOENT);
  using ring = new Ring({ entries: RING_ENTRIES, completionEntries: 2 * RING_ENTRIES, singleThread: true });
  const bytes = Math.max(REQUEST_BYTES, cow.blockBytes);
  using memory = MappedMemory.anonymous(DEPTH * bytes);
  const requests = Array.from({ length: DEPTH }, (_, slot) => {
    const buffer = new Uint8Array(memory.buffer, slot * bytes, bytes);
    return new Request(slot, buffer, memory.address + slot * bytes);
  });
  const files: number[] = [];
  const afterBatch: (() => void)[] = [];
  const { target } = openCopying(options, cow, {
    device: 0,
    queue: 0,
    depth: DEPTH,
    limits,
    ring,
    useFile: (fd) => files.push(fd) - 1,
    afterBatch: (callback) => void afterBatch.push(callback),
  });
  ring.registerFiles(files);
  const point = target.points.find((each) => each.name === snapshot && each.epoch === epoch);
  let result: RollbackResult | undefined;
  if (point?.state !== "valid" || point.volumeBytes > limits.sizeBytes) result = impossible(ERRNO.ENOENT);
  else new Rollback(target, point, cow.blockBytes, requests).start((found) => (result = found));
  while (result === undefined) {
    for (const callback of afterBatch) callback();
    ring.submitAndWait();
    ring.reap();
    whileGoing();
  }
  target.close();
  return result;
}
