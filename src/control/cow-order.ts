/** Orders to the copy-on-write of a running volume. */
import type { CowAnswer, CowOrder } from "../targets/cow/cow-orders.ts";
import type { Device } from "../ublk/device.ts";
import { errnoText, UblkError } from "../ublk/errors.ts";

/** Throws ESNAPSHOT, with the errno, where it could not be done. */
export async function askCow(
  volume: string,
  device: Device,
  order: CowOrder,
): Promise<Exclude<CowAnswer, { error: number }>> {
  const answer = (await device.order(order)) as CowAnswer;
  if (!("error" in answer)) return answer;
  throw new UblkError("ESNAPSHOT", `Volume ${volume}: ${errnoText(-answer.error)}`, { errno: -answer.error });
}
