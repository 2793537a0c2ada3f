/** `sluice orphans`: devices that nobody serves and no volume waits for. */
import { ControlPlane } from "../ublk/control.ts";
import { removeDevice } from "../ublk/devices.ts";
import { takeInventory } from "./inventory.ts";
import { print } from "./output.ts";

/** Shows them, and removes them if `remove` says so. */
export async function showOrphans(remove: boolean, json: boolean): Promise<void> {
  const ids = (await takeInventory()).flatMap(({ state, device }) =>
    state === "orphan" && device !== null ? [device] : [],
  );
  if (remove && ids.length > 0) {
    using control = ControlPlane.open();
    for (const id of ids) await removeDevice(control, id);
  }
  print(json, { orphans: ids, removed: remove }, () =>
    ids.length === 0 ? "no orphans" : ids.map((id) => `/dev/ublkb${id}${remove ? " removed" : ""}`).join("\n"),
  );
}
