/** `sluice daemon`: serves a volume in this process, and tells by its exit status whether to start it again. */
import { readConfig } from "../control/config.ts";
import { configFile } from "../control/config-name.ts";
import { runDaemon } from "../control/daemon.ts";
import { volumeMark } from "../control/identity.ts";
import { log } from "../control/log.ts";
import { ControlPlane } from "../ublk/control.ts";
import { listDevices } from "../ublk/devices.ts";
import { codeOf, messageOf } from "../ublk/errors.ts";
import { EXIT } from "./output.ts";

/** Gives the exit status: 0 after a clean stop, 1 when it is worth trying again, 78 when it is not. */
export async function serve(nameOrPath: string): Promise<number> {
  try {
    await runDaemon(await readConfig(nameOrPath));
    return 0;
  } catch (error) {
    log("error", messageOf(error));
    if (process.env["SLUICE_DEBUG"] === "1" && error instanceof Error) log("debug", error.stack ?? "");
    // A second daemon is a mistake, however often it is tried, as is one of a volume that is written elsewhere.
    if (codeOf(error) === "ERUNNING" || codeOf(error) === "EMIRROR") return EXIT.configuration;
    return (await deviceWaits(nameOrPath)) ? EXIT.failed : EXIT.configuration;
  }
}

/** A daemon that cannot start need not be tried again, unless a device with somebody's requests waits for it. */
async function deviceWaits(nameOrPath: string): Promise<boolean> {
  try {
    const { name } = configFile(nameOrPath);
    using control = ControlPlane.open();
    return (await listDevices(control)).some((device) => device.mark === volumeMark(name));
  } catch {
    return false;
  }
}
