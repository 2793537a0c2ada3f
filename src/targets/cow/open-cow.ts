/** Puts copy-on-write over a target: what the store has is read back first. */
import type { ByteStorage } from "../../nvram/byte-storage.ts";
import type { Target, TargetContext } from "../../ublk/target.ts";
import { CowTarget, type CowSetup } from "./cow-target.ts";
import { recoverStore } from "./recovery.ts";
import { openStore, type StoreOwner } from "./store-file.ts";

export type CowOptions = Omit<CowSetup, "layout" | "salt" | "recovered">;

/** `next` has been opened with `belowCow`. Throws as openStore, and ESTORE where the store cannot be read. */
export function openCow(
  store: ByteStorage,
  owner: StoreOwner,
  options: CowOptions,
  next: Target,
  context: TargetContext,
): CowTarget {
  const { layout, salt } = openStore(store, owner);
  const recovered = recoverStore(store, layout, salt);
  return new CowTarget({ ...options, layout, salt, recovered }, next, context);
}
