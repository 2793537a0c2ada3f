/** The receiver of a mirror: its image is one closed point after the other, whatever dies and whenever. */
import test from "ava";
import { reached, ReceiverHistory } from "./receiver-history.ts";

const SEEDS = 80;

test("closed points of the source, kept and reached, over kills, power cuts and lost connections", (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      new ReceiverHistory(seed).run(4);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  t.log(JSON.stringify(reached));
  const { kills, powerCuts, forgotten, aborted, naks, ...often } = reached;
  t.true(
    Math.min(...Object.values(often)) > SEEDS && Math.min(kills, powerCuts, forgotten, aborted) > SEEDS / 4 && naks > 0,
  );
});
