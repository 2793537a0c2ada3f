/** The target of a device that shows a point, and what becomes of its requests when the thread that serves it has ended. */
import test from "ava";
import { closeView, endView, newViewBridge } from "../../src/targets/cow/view-source.ts";
import { openTarget } from "../../src/targets/cow/view-target.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import { nullLimits } from "../../src/targets/null.ts";
import { SingleQueue, SLOT_BYTES } from "./single-queue.ts";

test("requests of a view whose server has ended are answered, those before and those after", (t) => {
  using queue = new SingleQueue(nullLimits(2 ** 20, 512, true));
  const bridge = newViewBridge(queue.requests.length, SLOT_BYTES);
  t.teardown(() => {
    closeView(bridge);
  });
  queue.open((context) => openTarget(bridge, context));
  const read = { operation: "READ", offset: 0, length: 4096 } as const;
  queue.submit(1, read);
  queue.submit(3, read);
  endView(bridge);
  t.is(queue.finish(3), -ERRNO.EIO);
  t.is(queue.finish(1), -ERRNO.EIO);
  queue.submit(2, read);
  t.is(queue.finish(2), -ERRNO.EIO);
  t.deepEqual(queue.answeredSlots.toSorted(), [1, 2, 3]);
});
