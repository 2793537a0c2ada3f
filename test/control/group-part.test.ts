/** A volume's part in what is taken of several at one instant: its steps, and the deadlines of whoever asks for them. */
import test from "ava";
import { GroupPart, type Taking } from "../../src/control/group-part.ts";

interface Scene {
  readonly part: GroupPart<string>;
  readonly calls: string[];
  readonly taking: (name: string) => Taking<string>;
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
      const { action } = timer ?? {};
      timer = undefined;
      action?.();
      await new Promise((resolve) => setImmediate(resolve));
    },
    taking: (name) => ({
      what: `Snapshot "${name}"`,
      prepare: async () => {
        await step(`prepare ${name}`)();
        if (made.fault !== undefined) throw made.fault;
      },
      take: async (createdMs) => {
        await step(`take ${name}`)();
        return `${name} at ${createdMs}`;
      },
      goOn: step("thaw"),
      keep: step("keep"),
      undo: step("undo"),
    }),
    part: new GroupPart("data", { holdBack: step("hold"), letGo: step("let go") }, (ms, action) => {
      const mine = { ms, action };
      timer = mine;
      return () => {
        if (timer === mine) timer = undefined;
      };
    }),
  };
  return made;
}

test("the volume is held back, shows what it was, and goes on", async (t) => {
  const { part, calls, deadline, taking } = scene();
  const ticket = await part.prepare(taking("monday"));
  t.is(deadline(), 90);
  await part.hold(ticket);
  t.is(deadline(), 10);
  t.is(await part.take(ticket, 7), "monday at 7");
  await part.finish(ticket, true);
  t.is(deadline(), undefined);
  t.deepEqual(calls, ["prepare monday", "hold", "take monday", "let go", "thaw", "keep"]);
  await part.finish(ticket, false);
  t.is(calls.length, 6, "a second time nothing happens");
  t.notThrows(() => part.assertNone());
  t.not(await part.prepare(taking("tuesday")), ticket);
});

test("what another volume could not take is undone", async (t) => {
  const { part, calls, taking } = scene();
  const ticket = await part.prepare(taking("monday"));
  await part.hold(ticket);
  await part.take(ticket, 7);
  await part.finish(ticket, false);
  t.deepEqual(calls, ["prepare monday", "hold", "take monday", "let go", "thaw", "undo"]);
  await t.throwsAsync(part.finish(ticket, true), { code: "EEXPIRED" }, "it is no more");
});

test("one that was not asked to go on in time lets the volume go, and takes nothing any more", async (t) => {
  const { part, calls, pass, taking } = scene();
  const ticket = await part.prepare(taking("monday"));
  await part.hold(ticket);
  await pass();
  t.deepEqual(calls, ["prepare monday", "hold", "let go", "thaw", "undo"]);
  await t.throwsAsync(part.take(ticket, 7), { code: "EEXPIRED", message: /data was not asked to go on in time/ });
  await part.finish(ticket, false);
  t.is(calls.length, 5);

  const second = await part.prepare(taking("tuesday"));
  await pass();
  await t.throwsAsync(part.hold(second), { code: "EEXPIRED" });
  t.deepEqual(calls.slice(5), ["prepare tuesday", "thaw", "undo"], "it was not held back yet");
});

test("one that has taken lets the volume go in time, and may be told later whether it counts", async (t) => {
  const { part, calls, pass, deadline, taking } = scene();
  const ticket = await part.prepare(taking("monday"));
  await part.hold(ticket);
  await part.take(ticket, 7);
  await pass();
  t.deepEqual(calls, ["prepare monday", "hold", "take monday", "let go", "thaw"]);
  t.is(deadline(), 90);
  await part.finish(ticket, true);
  t.deepEqual(calls.slice(5), ["keep"], "nothing was at rest any more");

  const second = await part.prepare(taking("tuesday"));
  await part.hold(second);
  await part.take(second, 8);
  await pass();
  await pass();
  t.deepEqual(
    calls.slice(6),
    ["prepare tuesday", "hold", "take tuesday", "let go", "thaw", "undo"],
    "it was never told",
  );
  await t.throwsAsync(part.finish(second, true), { code: "EEXPIRED" });
  t.notThrows(() => part.assertNone());
});

test("nothing is taken of a volume that is not held back, nor by another's ticket, nor kept that was not taken", async (t) => {
  const { part, calls, taking } = scene();
  const ticket = await part.prepare(taking("monday"));
  await t.throwsAsync(part.take(ticket, 7), { code: "EEXPIRED" });
  await t.throwsAsync(part.hold("another"), { code: "EEXPIRED" });
  await part.finish("another", false);
  await part.hold(ticket);
  await t.throwsAsync(part.hold(ticket), { code: "EEXPIRED" });
  await t.throwsAsync(part.take("another", 7), { code: "EEXPIRED" });
  await t.throwsAsync(part.finish(ticket, true), { code: "EEXPIRED" });
  t.deepEqual(calls, ["prepare monday", "hold"]);
});

test("one at a time, from its first step until it has been finished, whatever is to be taken", async (t) => {
  const { part, taking } = scene();
  const busy = { code: "EBUSY", message: /Snapshot "monday" of volume data and others/ };
  const preparing = part.prepare(taking("monday"));
  await t.throwsAsync(part.prepare({ ...taking("copy-1"), what: 'Copy job "copy-1"' }), busy);
  const ticket = await preparing;
  await t.throwsAsync(part.prepare(taking("tuesday")), busy);
  const finished = part.finish(ticket, false);
  await t.throwsAsync(part.prepare(taking("tuesday")), busy);
  await finished;
  await t.notThrowsAsync(part.prepare(taking("tuesday")));
});

test("what cannot be prepared leaves nothing behind", async (t) => {
  const made = scene();
  made.fault = new Error("it cannot be");
  await t.throwsAsync(made.part.prepare(made.taking("monday")), { message: "it cannot be" });
  t.is(made.deadline(), undefined);
  made.fault = undefined;
  await t.notThrowsAsync(made.part.prepare(made.taking("monday")));
});
