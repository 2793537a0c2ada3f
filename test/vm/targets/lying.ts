/** A target for tests: a file target over which FLUSH and FUA do nothing. A checker of durability must find it out. */
import { Operation } from "../../../src/ublk/request.ts";
import type { QueueContext, Target } from "../../../src/ublk/target.ts";
import { openTarget as openStack, type StackOptions } from "../../../src/targets/stack.ts";

export function openTarget(options: StackOptions, context: QueueContext): Target {
  const next = openStack(options, context);
  return {
    submit(request) {
      request.fua = false;
      if (request.operation === Operation.FLUSH) request.succeed();
      else next.submit(request);
    },
  };
}
