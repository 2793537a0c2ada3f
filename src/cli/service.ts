/** Starting and stopping daemons: through systemd where it runs and knows the unit, else with a supervisor of our own. */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { askStatus, askStop } from "../control/client.ts";
import { logPath, runtimeDirectory } from "../control/paths.ts";
import { TREE } from "../control/tree.ts";
import type { VolumeStatus } from "../control/status.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

const execute = promisify(execFile);
const SUPERVISOR = fileURLToPath(new URL("bin/sluice-supervise", TREE));
const POLL_MS = 50;

/** Whether systemd is at work here and has our unit. */
async function systemdServes(): Promise<boolean> {
  if (!existsSync("/run/systemd/system")) return false;
  return execute("systemctl", ["cat", "sluice@.service"]).then(
    () => true,
    () => false,
  );
}

async function systemctl(action: "start" | "stop", name: string): Promise<void> {
  const unit = `sluice@${name}.service`;
  await execute("systemctl", [action, unit]).catch(async (cause: unknown) => {
    const { stdout } = await execute("journalctl", ["--unit", unit, "--lines=5", "--output=cat", "--no-pager"]).catch(
      () => ({
        stdout: "",
      }),
    );
    throw new UblkError("ESYSTEMD", `systemd could not ${action} ${unit}:\n${stdout.trim()}`, { cause });
  });
}

async function running(name: string): Promise<VolumeStatus | undefined> {
  return askStatus(name).catch((error: unknown) => {
    if (codeOf(error) === "ENOTRUNNING" || codeOf(error) === "EGONE") return undefined;
    throw error;
  });
}

/** Starts a volume's daemon and waits until it serves. Throws with what the daemon said when it does not. */
export async function startService(name: string, timeoutMs: number): Promise<VolumeStatus> {
  const before = await running(name);
  if (before !== undefined)
    throw new UblkError("ERUNNING", `Volume ${name} is running already, as ${before.device.path}`);
  if (await systemdServes()) {
    await systemctl("start", name);
    return askStatus(name);
  }
  await mkdir(runtimeDirectory(), { recursive: true, mode: 0o700 });
  const log = await open(logPath(name), "w", 0o600);
  const child = spawn(SUPERVISOR, [name], { detached: true, stdio: ["ignore", log.fd, log.fd] });
  await log.close();
  let failed: string | undefined;
  child.once("error", (error) => (failed = messageOf(error)));
  child.once("exit", (status) => (failed = `its daemon ended with status ${String(status)}`));
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const status = await running(name);
    if (status !== undefined) {
      child.unref();
      return status;
    }
    if (failed !== undefined) throw new UblkError("ESTART", await lastWords(name, failed));
    if (performance.now() > deadline) {
      child.kill("SIGTERM");
      throw new UblkError(
        "ETIMEDOUT",
        `Volume ${name} did not start within ${timeoutMs / 1000} s: see ${logPath(name)}`,
      );
    }
    await sleep(POLL_MS);
  }
}

/** The last errors in the daemon's log, which say more than its exit status. */
async function lastWords(name: string, otherwise: string): Promise<string> {
  const text = await readFile(logPath(name), "utf8").catch(() => "");
  const errors = [...text.matchAll(/^(?:\S+ error |<3>)(.*)$/gm)].map((match) => match[1]);
  return errors.length > 0 ? errors.join("\n") : `Volume ${name} did not start: ${otherwise}; see ${logPath(name)}`;
}

/** Stops a volume. Without force it is refused (EBUSY) while the device is in use; `waitMs` is how long to try again. */
export async function stopService(name: string, force: boolean, waitMs: number): Promise<void> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    try {
      await askStop(name, force);
      break;
    } catch (error) {
      if (codeOf(error) !== "EBUSY" || performance.now() >= deadline) throw error;
      await sleep(POLL_MS);
    }
  }
  await followStop(name);
}

/** The daemon has stopped cleanly, or is about to: lets the unit follow it, so that a start right after this is not refused. */
export async function followStop(name: string): Promise<void> {
  while ((await running(name)) !== undefined) await sleep(POLL_MS);
  if (await systemdServes()) await systemctl("stop", name);
}
