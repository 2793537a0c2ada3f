/** The forecast of a store, and the levels at which is warned. */
import test from "ava";
import { FillLevels } from "../../src/control/fill-levels.ts";
import { secondsUntilFull, StoreForecast } from "../../src/control/store-forecast.ts";

/** A forecast whose clock stands until it is told to go on. */
function scene(): { forecast: StoreForecast; pass: (seconds: number) => void } {
  let ms = 1_000_000;
  return { forecast: new StoreForecast(() => ms), pass: (seconds) => void (ms += seconds * 1000) };
}

test("the rate is what was newly used since the first sample, by the time that has passed", (t) => {
  const { forecast, pass } = scene();
  t.is(forecast.bytesPerSecond(0), 0, "nothing has been sampled yet");
  forecast.sample(5000);
  t.is(forecast.bytesPerSecond(9000), 0, "no time has passed");
  pass(0.5);
  t.is(forecast.bytesPerSecond(9000), 0, "too little has passed");
  pass(9.5);
  t.is(forecast.bytesPerSecond(9000), 400);
  forecast.sample(9000);
  pass(10);
  t.is(forecast.bytesPerSecond(9000), 200, "it has stood still since");
});

test("what came before the last five minutes does not count", (t) => {
  const { forecast, pass } = scene();
  forecast.sample(0);
  pass(10);
  for (let sample = 0; sample < 60; sample++) {
    forecast.sample(1_000_000);
    pass(5);
  }
  t.is(forecast.bytesPerSecond(1_000_300), 1);
  pass(5);
  t.is(forecast.bytesPerSecond(1_000_610), 2);
  forecast.sample(1_000_610);
  pass(3600);
  forecast.sample(1_000_610);
  t.is(forecast.bytesPerSecond(1_000_610), 0);
});

test("when it is full", (t) => {
  t.is(secondsUntilFull(1000, 10), 100);
  t.is(secondsUntilFull(1000, 0), null);
  t.is(secondsUntilFull(0, 10), 0);
  t.is(secondsUntilFull(-5, 10), 0, "what is kept for making room may be used for a moment");
});

test("a level is told once when it is passed upwards, and again only after it was clearly left", (t) => {
  const levels = new FillLevels();
  const told = (...percents: number[]): (number | undefined)[] => percents.map((percent) => levels.look(percent));
  t.deepEqual(told(0, 74.9, 75, 75, 80), [undefined, undefined, 75, undefined, undefined]);
  t.deepEqual(told(74, 76, 70, 75), [undefined, undefined, undefined, undefined], "it flaps");
  t.deepEqual(told(69.9, 75), [undefined, 75]);
  t.deepEqual(told(96), [95], "only the highest of several");
  t.deepEqual(told(94, 95, 90.1, 95), [undefined, undefined, undefined, undefined]);
  t.deepEqual(told(89.9, 90, 95), [undefined, undefined, 95], "it never left 90");
  t.deepEqual(told(100, 10, 100), [undefined, undefined, 95]);
});
