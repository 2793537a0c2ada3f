/** Source and receiver together: the remote is one closed point of the source after the other, whoever dies. */
import test from "ava";
import { MirrorHistory } from "./mirror-history.ts";

const SEEDS = 60;

test("closed points reach the remote over kills and power cuts of both sides, and a wire that is cut", (t) => {
  const sums: Record<string, number> = {};
  for (let seed = 1; seed <= SEEDS; seed++) {
    const history = new MirrorHistory(seed, false);
    try {
      history.run();
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
    for (const [name, count] of Object.entries(history.reached)) sums[name] = (sums[name] ?? 0) + count;
  }
  t.log(JSON.stringify(sums));
  for (const name of [
    "closed",
    "sourceDeaths",
    "receiverDeaths",
    "cuts",
    "overflows",
    "full",
    "replays",
    "held",
    "rests",
  ]) {
    t.true((sums[name] ?? 0) > SEEDS / 4, name);
  }
});
