/** `sluice identity` as a process: what it prints and makes. What it refuses besides is in test/control. */
import { readdir, stat } from "node:fs/promises";
import test from "ava";
import { places } from "./command.ts";

const OTHER = "SHA256:u0Iu0gMnFHPS6Y2yuIzvPAwCsdrUt5zG5vTTBIb7mE0";

interface Shown {
  readonly name: string;
  readonly fingerprint: string;
}

test("the identity is made when it is asked for first; another one only by force, which says what is to be done", async (t) => {
  const { run, state } = await places(t);
  const first = await run("identity", "show");
  t.is(first.status, 0, first.stderr);
  const [, fingerprint = ""] = /^fingerprint +(SHA256:[A-Za-z0-9+/]{43})$/m.exec(first.stdout) ?? [];
  const [, name = ""] = /^name +(\S+)$/m.exec(first.stdout) ?? [];
  t.true(first.stdout.endsWith(`sluice identity trust ${name} ${fingerprint}\n`), first.stdout);
  t.deepEqual((await readdir(`${state}/identity`)).toSorted(), ["certificate.pem", "key.pem"]);
  t.is((await stat(`${state}/identity/key.pem`)).mode & 0o777, 0o600);
  t.is((await stat(`${state}/identity`)).mode & 0o777, 0o700);
  const refused = await run("identity", "new");
  t.is(refused.status, 1);
  t.regex(refused.stderr, /has a key.*--force replaces it/);
  t.deepEqual(JSON.parse((await run("identity", "show", "--json")).stdout), { name, fingerprint });
  const forced = await run("identity", "new", "--force");
  const [, after = ""] = /^fingerprint +(SHA256:\S+)$/m.exec(forced.stdout) ?? [];
  t.not(after, fingerprint);
  t.true(forced.stdout.includes(`  sluice identity forget ${name} && sluice identity trust ${name} ${after}\n`));
  t.is((JSON.parse((await run("identity", "show", "--json")).stdout) as Shown).fingerprint, after);
});

test("other hosts are trusted, listed and forgotten", async (t) => {
  const { run } = await places(t);
  t.is((await run("identity", "trust", "backup", OTHER)).status, 0);
  t.regex((await run("identity", "list")).stdout, /^NAME +FINGERPRINT\nbackup +SHA256:u0I.*\n$/);
  const refused = await run("identity", "trust", "other", OTHER);
  t.is(refused.status, 1);
  t.is(refused.stderr, `sluice: ${OTHER} is known as backup: a key has one name\n`);
  t.is((await run("identity", "forget", "backup")).status, 0);
  t.is((await run("identity", "list", "--json")).stdout, "[]\n");
});
