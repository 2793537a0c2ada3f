/** PostgreSQL with checksums of its pages, which checkpoints often. It refuses to run as root. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { owned } from "../children.ts";
import { sh, tried } from "../support.ts";
import { REPORT, SCHEMA, type Database } from "./database.ts";

const PROGRAMS = "/usr/lib/postgresql/15/bin";
const NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups"];
const AS_NOBODY = `setpriv ${NOBODY.join(" ")}`;
const SOCKET = "/tmp";
const SETTINGS = `
listen_addresses = ''
unix_socket_directories = '${SOCKET}'
max_connections = 5
shared_buffers = 4MB
min_wal_size = 2MB
max_wal_size = 4MB
checkpoint_timeout = 30s
autovacuum_naptime = 5s
jit = off
`;
const PSQL = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", SOCKET, "-U", "postgres"];
const pathIn = (directory: string): string => `${directory}/postgresql`;

/** Each in a line: every index against its table, every table by itself, and what the load has left. */
const QUESTIONS = `
select count(bt_index_check(oid, true)) as indexes from pg_class where relam = 403 and relkind = 'i'
select count(*) as faults from pg_class c cross join lateral verify_heapam(c.oid) where relkind in ('r', 'm', 't')
${REPORT}
`.trimStart();

let server: ChildProcess | undefined;

async function start(path: string): Promise<void> {
  const child = owned(
    spawn("setpriv", [...NOBODY, `${PROGRAMS}/postgres`, "-D", path], { stdio: ["ignore", "ignore", "pipe"] }),
  );
  server = child;
  let output = "";
  await new Promise<void>((resolve, reject) => {
    createInterface(child.stderr).on("line", (line) => {
      output += `${line}\n`;
      if (line.includes("ready to accept connections")) resolve();
    });
    child.once("exit", () => {
      reject(new Error(`PostgreSQL has ended: ${output}`));
    });
  });
}

export const postgresql: Database = {
  name: "PostgreSQL",
  async create(directory) {
    const path = pathIn(directory);
    await sh(`mkdir ${path} && chown 65534:65534 ${path}`);
    await sh(
      `cd / && ${AS_NOBODY} ${PROGRAMS}/initdb -D ${path} -U postgres -A trust --no-locale --encoding=UTF8 --no-sync ` +
        "--data-checksums --wal-segsize=1 --no-instructions",
    );
    // Once for all of its files is sooner done than one by one.
    await sh(`sync -f ${path}`);
    await appendFile(`${path}/postgresql.conf`, SETTINGS);
    await start(path);
    await sh(`psql ${PSQL.join(" ")} -c "create extension amcheck; ${SCHEMA}"`);
  },
  shell: () => owned(spawn("stdbuf", ["-oL", "psql", ...PSQL], { stdio: "pipe" })),
  say: (words) => `\\echo ${words}`,
  async verify(directory) {
    const path = pathIn(directory);
    // The server that the file tells of is the one that was copied, and still runs.
    await sh(`rm ${path}/postmaster.pid`);
    const ask = `${AS_NOBODY} ${PROGRAMS}/postgres --single -F -c exit_on_error=on -D ${path} postgres`;
    const { code, output } = await tried(`(cd / && ${ask} <<'END'\n${QUESTIONS}END\n)`);
    const [, last] = /report = "(\d+) \1 \1 \1"/.exec(output) ?? [];
    if (code !== 0 || last === undefined || !/automatic recovery/.test(output) || !/faults = "0"/.test(output)) {
      throw new Error(`the copy of PostgreSQL's database is not sound: ${output}`);
    }
    await sh(`cd / && ${AS_NOBODY} ${PROGRAMS}/pg_checksums --check -D ${path}`);
    return Number(last);
  },
  async stop() {
    if (server === undefined) return;
    const ended = once(server, "exit");
    server.kill("SIGINT");
    await ended;
  },
};
