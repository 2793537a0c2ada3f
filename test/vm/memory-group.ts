/**
 * A control group around a process, in which the kernel counts the memory of all that it consists of, and bounds it.
 *
 * Invariant: what is held is what the kernel cannot have back by itself: pages of files that it may drop are no part of it.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";

const ROOT = "/sys/fs/cgroup";

export class MemoryGroup {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async make(name: string): Promise<MemoryGroup> {
    const folder = `${ROOT}/${name}`;
    await writeFile(`${ROOT}/cgroup.subtree_control`, "+memory");
    await mkdir(folder);
    return new MemoryGroup(folder);
  }

  /** A command that runs another one in there. */
  around(command: readonly string[]): readonly [string, ...string[]] {
    return ["sh", "-ec", 'echo $$ >"$0"; exec "$@"', `${this.#folder}/cgroup.procs`, ...command];
  }

  async #numbers(file: string): Promise<ReadonlyMap<string, number>> {
    const lines = (await readFile(`${this.#folder}/${file}`, "utf8")).trim().split("\n");
    return new Map(lines.map((line) => line.split(" ")).map(([name = "", number]) => [name, Number(number)]));
  }

  /** Bytes that it holds now. */
  async held(): Promise<number> {
    const current = Number(await readFile(`${this.#folder}/memory.current`, "utf8"));
    const stat = await this.#numbers("memory.stat");
    const reclaimable = ["inactive_file", "active_file", "slab_reclaimable"];
    return reclaimable.reduce((held, name) => held - (stat.get(name) ?? 0), current);
  }

  /** From now on a process in it that wants to hold more is killed. */
  async bound(bytes: number): Promise<void> {
    await writeFile(`${this.#folder}/memory.max`, String(bytes));
  }

  /** How many processes were killed for that. */
  async killed(): Promise<number> {
    return (await this.#numbers("memory.events")).get("oom_kill") ?? 0;
  }
}
