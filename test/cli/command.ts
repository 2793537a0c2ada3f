/** Runs the command sluice as a process of its own, in places of its own. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutionContext } from "ava";

const SLUICE = fileURLToPath(new URL("../../bin/sluice", import.meta.url));

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Directories that stand for /etc/sluice, /run/sluice and /var/lib/sluice, of which the last one is made when it is needed. */
export interface Places {
  readonly config: string;
  readonly runtime: string;
  readonly state: string;
  /** Writes a volume's configuration; gives its path. */
  readonly configure: (name: string, toml: string) => Promise<string>;
  readonly run: (...words: readonly string[]) => Promise<Outcome>;
}

export async function places(t: ExecutionContext): Promise<Places> {
  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  t.teardown(() => rm(directory, { recursive: true }));
  const [config, runtime, state] = [`${directory}/etc`, `${directory}/run`, `${directory}/lib`];
  await mkdir(config);
  await mkdir(runtime);
  const env = {
    PATH: process.env["PATH"],
    HOME: directory,
    SLUICE_CONFIG_DIR: config,
    SLUICE_RUNTIME_DIR: runtime,
    SLUICE_STATE_DIR: state,
  };
  return {
    config,
    runtime,
    state,
    configure: async (name, toml) => {
      await writeFile(`${config}/${name}.toml`, `${toml}\n`);
      return `${config}/${name}.toml`;
    },
    run: (...words) =>
      new Promise((resolve) => {
        execFile(SLUICE, words, { env }, (error, stdout, stderr) => {
          resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
        });
      }),
  };
}
