/** The memory between a queue's thread and the thread of the handlers. */
import test from "ava";
import fc from "fast-check";
import { BridgeMemory } from "../../src/ublk/bridge.ts";

test("what one end asks is what the other end sees, in each slot, up to the largest sizes", (t) => {
  const slot = fc.record({
    operation: fc.nat(5),
    sectors: fc.nat(2 ** 32 - 1),
    offset: fc.maxSafeNat(),
    flags: fc.nat(1),
    result: fc.integer({ min: -4095, max: 2 ** 31 - 1 }),
    address: fc.nat(2 ** 47),
  });
  fc.assert(
    fc.property(fc.array(slot, { minLength: 1, maxLength: 64 }), (slots) => {
      const asking = new BridgeMemory(slots.length);
      const answering = new BridgeMemory(slots.length, asking.shared);
      for (const [index, each] of slots.entries()) {
        asking.ask(index, each.operation, each.offset, each.sectors * 512, each.flags);
        asking.setBufferAddress(index, each.address);
        answering.answer(index, each.result);
        asking.submittedSlots[index] = index;
        answering.answeredSlots[index] = slots.length - index;
      }
      for (const [index, each] of slots.entries()) {
        t.deepEqual(
          {
            operation: answering.operation(index),
            sectors: answering.length(index) / 512,
            offset: answering.offset(index),
            flags: answering.flags(index),
            result: asking.result(index),
            address: answering.bufferAddress(index),
          },
          each,
        );
        t.is(answering.submittedSlots[index], index);
        t.is(asking.answeredSlots[index], slots.length - index);
      }
    }),
  );
});
