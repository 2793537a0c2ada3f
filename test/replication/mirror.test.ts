/** Source and receiver together: the remote is one closed point of the source after the other, whoever dies. */
import test from "ava";
import { MirrorHistory, reached } from "./mirror-history.ts";

const SEEDS = 60;

test("closed points reach the remote over kills and power cuts of both sides, and a wire that is cut", (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      new MirrorHistory(seed).run(6000);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  t.log(JSON.stringify(reached));
  t.true(
    Math.min(reached.closed, reached.sourceDeaths, reached.receiverDeaths, reached.cuts, reached.overflows) > SEEDS / 2,
  );
});
