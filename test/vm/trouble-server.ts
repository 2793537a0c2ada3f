/** Serves a target that makes trouble; a process of its own, since it is meant to end. See devices.test.ts. */
import { Device } from "../../src/ublk/device.ts";
import { nullLimits } from "../../src/targets/null.ts";
import type { TroubleOptions } from "./targets/trouble.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as TroubleOptions & { readonly id: number };
const source = { module: new URL("./targets/trouble.ts", import.meta.url).href, options };
const stuckAfterMs = 5_000;
const device =
  options.id >= 0
    ? await Device.recover(options.id, { source, stuckAfterMs })
    : await Device.create({ limits: nullLimits(2 ** 26, 512, false), source, recoverable: true, stuckAfterMs });
process.stdout.write(`ready ${device.id}\n`);
device.failure.catch((error: unknown) => {
  process.stdout.write(`failure ${String(error)}\n`);
  process.kill(process.pid, "SIGKILL");
});
process.once("SIGTERM", () => void device.stop().then(() => process.exit(0)));
