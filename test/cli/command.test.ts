/** The command sluice without a kernel to talk to: usage, help, errors, JSON. test/vm has it on real devices. */
import { existsSync } from "node:fs";
import test from "ava";
import { serveApi } from "../../src/control/api.ts";
import { UblkError } from "../../src/ublk/errors.ts";
import { SampleVolume, sampleStatus } from "../control/sample.ts";
import { places } from "./command.ts";

const COMMANDS = ["up", "down", "status", "list", "resize", "check", "features", "orphans", "daemon", "completion"];
/** What needs a machine without the driver is skipped where it is loaded. */
const withoutDriver = existsSync("/dev/ublk-control") ? test.skip : test;

test("--help names every command, the files, the environment and the exit status", async (t) => {
  const { run } = await places(t);
  const { status, stdout, stderr } = await run("--help");
  t.is(status, 0);
  t.is(stderr, "");
  for (const command of COMMANDS) t.regex(stdout, new RegExp(`^ +sluice ${command}\\b`, "m"));
  for (const heading of ["Files", "Exit status", "Environment", "Examples"]) t.true(stdout.includes(`\n${heading}\n`));
});

for (const command of COMMANDS) {
  test(`${command} --help says how it is written, what it does, and its exit status`, async (t) => {
    const { run } = await places(t);
    const { status, stdout } = await run(command, "--help");
    t.is(status, 0);
    t.regex(stdout, new RegExp(`^sluice ${command}\\b.*\\n\\n[A-Z].{40,}`));
    t.regex(stdout, /Exit status: 0 done, 1 failed, 2 wrong usage/);
    for (const line of stdout.split("\n")) t.true(line.length <= 100, line);
  });
}

test("wrong usage is one line on standard error, and status 2", async (t) => {
  const { run } = await places(t);
  for (const [line, wanted] of [
    ["", "name a command"],
    ["sttus", "Did you mean status?"],
    ["up", "the name of a volume is missing"],
    ["up a b", "Unknown argument: b"],
    ["up a --bogus", "Unknown argument: bogus"],
    ["up a --timeout soon", 'wanted a number of seconds, found "soon"'],
    ["down a --wait -1", 'wanted a number of seconds, found "-1"'],
    ["down a --wait", "Not enough arguments following: wait"],
    ["resize a 5z", 'wanted a size such as 10GiB, found "5z"'],
    ["resize a 0", 'wanted a size such as 10GiB, found "0"'],
    ["completion ksh", 'Argument: shell, Given: "ksh", Choices: "bash", "zsh", "fish"'],
  ] as const) {
    const { status, stdout, stderr } = await run(...line.split(" ").filter((word) => word !== ""));
    t.is(status, 2, line);
    t.is(stdout, "");
    t.regex(stderr, /^sluice: [^\n]+\n$/, line);
    t.true(stderr.includes(wanted), stderr);
  }
});

test("a configuration that is wrong is told in a line for each fault", async (t) => {
  const { run, configure } = await places(t);
  const file = await configure("data", 'target = "null"\nqueue_dept = 1');
  for (const words of [
    ["up", "data"],
    ["up", file],
    ["daemon", "data"],
  ]) {
    const { status, stderr } = await run(...words);
    t.is(status, words[0] === "daemon" ? 78 : 1);
    const lines = stderr.trimEnd().split("\n").toSorted();
    t.is(lines.length, 2);
    t.true(lines[0]?.endsWith(`${file}: queue_dept: is no key here, wanted queue_depth?`), stderr);
    t.true(lines[1]?.endsWith(`${file}: size: wanted the size of the null volume, such as "1GiB", found none`), stderr);
  }
});

test("a volume that is not there, or not running, is told so", async (t) => {
  const { run } = await places(t);
  t.regex((await run("up", "nope")).stderr, /^sluice: .*nope\.toml does not exist: there is no volume "nope"\n$/);
  for (const command of ["status", "down", "resize"]) {
    const { status, stderr } = await run(command, "nope");
    t.is(status, 1);
    t.is(stderr, 'sluice: Volume nope is not running: start it with "sluice up nope"\n');
  }
  t.regex((await run("status", "Such")).stderr, /is no name for a volume/);
});

test("--json gives JSON for what is wrong, too", async (t) => {
  const { run } = await places(t);
  const { status, stdout, stderr } = await run("status", "nope", "--json");
  t.is(status, 1);
  t.is(stderr, "");
  t.is((JSON.parse(stdout) as { error: { code: string } }).error.code, "ENOTRUNNING");
});

test("SLUICE_DEBUG alone shows where an error came from", async (t) => {
  const { run } = await places(t);
  t.notRegex((await run("status", "nope")).stderr, /\n +at /);
});

withoutDriver("without the driver one line says what to do", async (t) => {
  const { run, configure } = await places(t);
  await configure("nil", 'target = "null"\nsize = "1GiB"');
  for (const words of [["features"], ["up", "nil"], ["up", "nil", "--foreground"]]) {
    const { status, stderr } = await run(...words);
    t.is(status === 78 ? 1 : status, 1);
    t.regex(stderr, /^[^\n]*no ublk driver at work[^\n]*modprobe ublk_drv[^\n]*\n$/m, words.join(" "));
  }
});

withoutDriver("without the driver volumes are listed all the same, and there are no orphans", async (t) => {
  const { run, configure } = await places(t);
  await configure("nil", 'target = "null"\nsize = "1GiB"');
  const row = { volume: "nil", state: "stopped", device: null, sizeBytes: null, pid: null };
  t.deepEqual(JSON.parse((await run("list", "--json")).stdout), [row]);
  t.is((await run("list")).stdout, "VOLUME  STATE    DEVICE  SIZE  PID\nnil     stopped  -       -     -\n");
  t.is((await run("orphans")).stdout, "no orphans\n");
});

withoutDriver("check tells what is well and what is not, and fails when anything is not", async (t) => {
  const { run, configure } = await places(t);
  await configure("data", 'path = "/nonexistent/data.img"');
  const { status, stdout } = await run("check", "data", "--json");
  t.is(status, 1);
  const findings = JSON.parse(stdout) as { what: string; ok: boolean; text: string }[];
  const verdicts = new Map(findings.map(({ what, ok }) => [what, ok]));
  t.is(verdicts.get("configuration"), true);
  t.is(verdicts.get("backing"), false);
  t.is(verdicts.get("kernel"), false);
  t.false((await run("check", "data")).stdout.includes("\u001b"), "no colours where there is no terminal");
});

test("a running volume: status, metrics, resize, and a stop that is refused", async (t) => {
  const { run, runtime } = await places(t);
  const volume = new SampleVolume();
  const server = await serveApi(`${runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  const { stdout } = await run("status", "data");
  t.regex(stdout, /^device +\/dev\/ublkb3, \/dev\/sluice\/data$/m);
  t.regex(stdout, /^write +100 +400KiB +0 +5\d +9\d/m);
  t.deepEqual(JSON.parse((await run("status", "data", "--json")).stdout), JSON.parse(JSON.stringify(sampleStatus())));
  t.regex((await run("status", "data", "--metrics")).stdout, /^sluice_requests_total/m);
  t.is((await run("resize", "data", "2GiB")).stdout, "data has 2GiB\n");
  t.regex((await run("up", "data")).stderr, /does not exist/);
  volume.error = new UblkError("EBUSY", "/dev/ublkb3 is in use: mounted at /mnt");
  const refused = await run("down", "data");
  t.is(refused.status, 1);
  t.is(refused.stderr, "sluice: /dev/ublkb3 is in use: mounted at /mnt\n");
  t.deepEqual(volume.calls.slice(-2), ["resize 2147483648", "stop false"]);
});

test("to complete a command line never does what it says", async (t) => {
  const { run, runtime, configure } = await places(t);
  await configure("data", "");
  const volume = new SampleVolume();
  const server = await serveApi(`${runtime}/data.sock`, volume);
  t.teardown(() => server.close());
  for (const words of [
    ["down", "data"],
    ["down", "data", ""],
    ["down", "data", "--force"],
    ["resize", "data", "1G"],
  ]) {
    await run("--get-yargs-completions", "sluice", ...words);
  }
  t.deepEqual(volume.calls, []);
});
