/** A volume's part in a snapshot of several volumes: its steps, and the deadlines of whoever asks for them. */
import test from "ava";
import { GroupPart } from "../../src/control/group-part.ts";

interface Scene {
  readonly part: GroupPart<string>;
  readonly calls: string[];
  /** The deadline that runs, in seconds; undefined where there is none. */
  readonly deadline: () => number | undefined;
  /** It passes. */
  readonly pass: () => Promise<void>;
  /** Thrown by what is prepared next. */
  fault: Error | undefined;
}

function scene(): Scene {
  const calls: string[] = [];
  let timer: { ms: number; action: () => void } | undefined;
  const step = (name: string) => (): Promise<void> => {
    calls.push(name);
    return Promise.resolve();
  };
  const made: Scene = {
    calls,
    fault: undefined,
    deadline: () => (timer === undefined ? undefined : timer.ms / 1000),
    pass: async () => {
      timer?.action();
      timer = undefined;
      await new Promise((resolve) => setImmediate(resolve));
    },
    part: new GroupPart(
      "data",
      {
        prepare: async (name) => {
          await step(`prepare ${name}`)();
          if (made.fault !== undefined) throw made.fault;
        },
        holdBack: step("hold"),
        take: async (name) => {
          await step(`take ${name}`)();
          return name;
        },
        letGo: step("let go"),
        finish: step("finish"),
      },
      (ms, action) => {
        const mine = { ms, action };
        timer = mine;
        return () => {
          if (timer === mine) timer = undefined;
        };
      },
    ),
  };
  return made;
}

test("the volume is held back, shows what it was, and goes on", async (t) => {
  const { part, calls, deadline } = scene();
  const ticket = await part.prepare("monday");
  t.is(deadline(), 90);
  await part.hold(ticket);
  t.is(deadline(), 10);
  t.is(await part.take(ticket), "monday");
  await part.finish(ticket);
  t.is(deadline(), undefined);
  t.deepEqual(calls, ["prepare monday", "hold", "take monday", "let go", "finish"]);
  await part.finish(ticket);
  t.is(calls.length, 5, "a second time nothing happens");
  t.notThrows(() => part.assertNone());
  t.not(await part.prepare("tuesday"), ticket);
});

test("one that was not asked to go on in time lets the volume go, and takes nothing any more", async (t) => {
  const { part, calls, pass } = scene();
  const ticket = await part.prepare("monday");
  await part.hold(ticket);
  await pass();
  t.deepEqual(calls, ["prepare monday", "hold", "let go", "finish"]);
  await t.throwsAsync(part.take(ticket), { code: "EEXPIRED", message: /data was not asked to go on in time/ });
  await part.finish(ticket);
  t.is(calls.length, 4);

  const second = await part.prepare("tuesday");
  await pass();
  await t.throwsAsync(part.hold(second), { code: "EEXPIRED" });
  t.deepEqual(calls.slice(4), ["prepare tuesday", "finish"], "it was not held back yet");
});

test("nothing is taken of a volume that is not held back, nor by another's ticket", async (t) => {
  const { part, calls } = scene();
  const ticket = await part.prepare("monday");
  await t.throwsAsync(part.take(ticket), { code: "EEXPIRED" });
  await t.throwsAsync(part.hold("another"), { code: "EEXPIRED" });
  await part.finish("another");
  await part.hold(ticket);
  await t.throwsAsync(part.hold(ticket), { code: "EEXPIRED" });
  await t.throwsAsync(part.take("another"), { code: "EEXPIRED" });
  t.deepEqual(calls, ["prepare monday", "hold"]);
});

test("one at a time, until it has been finished", async (t) => {
  const { part } = scene();
  const ticket = await part.prepare("monday");
  await t.throwsAsync(part.prepare("tuesday"), { code: "EBUSY", message: /"monday" of volume data and others/ });
  const finished = part.finish(ticket);
  await t.throwsAsync(part.prepare("tuesday"), { code: "EBUSY" });
  await finished;
  await t.notThrowsAsync(part.prepare("tuesday"));
});

test("what cannot be prepared leaves nothing behind", async (t) => {
  const made = scene();
  made.fault = new Error("it cannot be");
  await t.throwsAsync(made.part.prepare("monday"), { message: "it cannot be" });
  t.is(made.deadline(), undefined);
  made.fault = undefined;
  await t.notThrowsAsync(made.part.prepare("monday"));
});
