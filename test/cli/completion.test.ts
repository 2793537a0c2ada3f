/** Completion: the words that may follow, and the scripts, run by their shells where these are installed. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { places } from "./command.ts";

const BIN = dirname(fileURLToPath(new URL("../../bin/sluice", import.meta.url)));

test("commands, options, volumes and shells are completed where they may stand", async (t) => {
  const { run, configure } = await places(t);
  await configure("data", "");
  await configure("dump", "");
  await configure("other", "");
  const words = async (...typed: string[]): Promise<string[]> => {
    const { status, stdout, stderr } = await run("--get-yargs-completions", "sluice", ...typed);
    t.is(status, 0);
    t.is(stderr, "");
    return stdout.trimEnd().split("\n");
  };
  t.true((await words("")).includes("status"));
  t.deepEqual((await words("up", "")).slice(0, 3), ["data", "dump", "other"]);
  t.deepEqual(await words("up", "d"), ["data", "dump"]);
  t.true((await words("down", "data", "--")).includes("--force"));
  t.deepEqual(await words("completion", ""), ["bash", "zsh", "fish"]);
});

test("each shell has its script, bash unless told otherwise", async (t) => {
  const { run } = await places(t);
  t.regex((await run("completion", "bash")).stdout, /complete .* -F _sluice sluice/);
  t.regex((await run("completion", "zsh")).stdout, /^#compdef sluice\n/);
  t.regex((await run("completion", "fish")).stdout, /^complete --command sluice/m);
  t.is((await run("completion")).stdout, (await run("completion", "bash")).stdout);
});

const COMPLETE_IN = {
  bash: 'eval "$(sluice completion bash)"; COMP_WORDS=(sluice up d); COMP_CWORD=2; _sluice; printf "%s\\n" "${COMPREPLY[@]}"',
  fish: "sluice completion fish | source; complete --do-complete 'sluice up d'",
} as const;

for (const [shell, script] of Object.entries(COMPLETE_IN)) {
  const where = existsSync(`/usr/bin/${shell}`) || existsSync(`/bin/${shell}`) ? test : test.skip;
  where(`${shell} completes the names of volumes`, async (t) => {
    const { config, configure } = await places(t);
    await configure("data", "");
    await configure("other", "");
    const env = { ...process.env, PATH: `${BIN}:${process.env["PATH"] ?? ""}`, SLUICE_CONFIG_DIR: config };
    const { stdout } = await promisify(execFile)(shell, ["-c", script], { env });
    t.is(stdout.trim(), "data");
  });
}
