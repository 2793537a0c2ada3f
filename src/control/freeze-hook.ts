/**
 * The program that brings applications to rest around the moment that a snapshot, a copy or a bulk copy is of: `PROGRAM freeze
 * VOLUME` before it, `PROGRAM thaw VOLUME` after it, as the fsfreeze hook of QEMU's guest agent is called.
 *
 * Invariant: whoever was asked to freeze is asked to thaw, whatever came of either, before being asked to freeze again; by the
 * next daemon, where this one dies in between. The program is never waited for longer than a minute.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, constants, readFile, rm, writeFile } from "node:fs/promises";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";
import { log } from "./log.ts";

const LIMIT_MS = 60_000;
/** Of what the program prints, the end is told where it fails. */
const OUTPUT_MAX = 1000;

type Action = "freeze" | "thaw";

export class FreezeHook {
  readonly #volume: string;
  readonly #program: string;
  readonly #notePath: string;
  readonly #limitMs: number;
  #isFrozen = false;

  /** `notePath` says what is to be thawed, for as long as it is frozen; it need not outlive the machine. */
  constructor(volume: string, program: string, notePath: string, limitMs = LIMIT_MS) {
    this.#volume = volume;
    this.#program = program;
    this.#notePath = notePath;
    this.#limitMs = limitMs;
  }

  /** Throws EBUSY while it is frozen for something else; EFREEZE where the program failed, and has been asked to thaw already. */
  async freeze(): Promise<void> {
    if (this.#isFrozen) {
      throw new UblkError("EBUSY", `Volume ${this.#volume} is frozen for something else: try again when that is done`);
    }
    this.#isFrozen = true;
    try {
      await writeFile(this.#notePath, `${this.#program}\n`, { mode: 0o600 });
      await this.#run("freeze");
    } catch (error) {
      await this.#thawAnyway();
      throw error;
    }
  }

  /** Throws EFREEZE where the program failed: it is not asked again. */
  async thaw(): Promise<void> {
    try {
      await this.#run("thaw");
    } finally {
      this.#isFrozen = false;
      await rm(this.#notePath, { force: true });
    }
  }

  async #thawAnyway(): Promise<void> {
    await this.thaw().catch((error: unknown) => log("error", messageOf(error)));
  }

  /** Does something while applications are at rest. Throws EBUSY, EFREEZE, and what it throws. */
  async around<T>(action: () => Promise<T>): Promise<T> {
    await this.freeze();
    let result: T;
    try {
      result = await action();
    } catch (error) {
      await this.#thawAnyway();
      throw error;
    }
    await this.thaw();
    return result;
  }

  async #run(action: Action): Promise<void> {
    const fault = await this.#faultOf(action);
    if (fault === undefined) return;
    const meant =
      action === "freeze" ? "nothing is taken" : "what it froze may still be frozen; what was taken is not affected";
    throw new UblkError("EFREEZE", `"${this.#program} ${action} ${this.#volume}" ${fault}: ${meant}`);
  }

  /** What went wrong, in words. */
  async #faultOf(action: Action): Promise<string | undefined> {
    // A group of its own, so that all of it can be ended.
    const child = spawn(this.#program, [action, this.#volume], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (output = `${output}${text}`.slice(-OUTPUT_MAX)));
    }
    const limit = { isPassed: false };
    const timer = setTimeout(() => {
      limit.isPassed = true;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, this.#limitMs);
    try {
      const [status, signal] = (await once(child, "exit")) as [number | null, string | null];
      if (status === 0) return undefined;
      const said = output.trim().split("\n").at(-1) ?? "";
      const how = limit.isPassed
        ? `had not ended after ${this.#limitMs / 1000} s`
        : `ended with ${String(status ?? signal)}`;
      return said === "" ? how : `${how} (${said})`;
    } catch (error) {
      return `cannot be run (${messageOf(error)})`;
    } finally {
      clearTimeout(timer);
      // What it left in the background may keep them open.
      child.stdout.destroy();
      child.stderr.destroy();
    }
  }
}

/** Thaws what a daemon left frozen that died. Never throws. */
export async function thawLeftover(volume: string, notePath: string): Promise<void> {
  try {
    const program = (await readFile(notePath, "utf8")).trim();
    log("warning", `The daemon before this one died while applications were at rest: asking ${program} to thaw`);
    await new FreezeHook(volume, program, notePath).thaw();
  } catch (error) {
    if (codeOf(error) !== "ENOENT") log("error", messageOf(error));
  }
}

/** Does something while applications are at rest, where there is a program for that. Throws as `around`. */
export function atRest<T>(hook: FreezeHook | null, action: () => Promise<T>): Promise<T> {
  return hook === null ? action() : hook.around(action);
}

/** Throws ENOENT, EACCES where the program cannot be run. */
export async function checkProgram(path: string): Promise<void> {
  try {
    await access(path, constants.X_OK);
  } catch (cause) {
    throw new UblkError(codeOf(cause) ?? "EFREEZE", `${path} cannot be run: ${messageOf(cause)}`, { cause });
  }
}
