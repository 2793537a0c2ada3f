/** How large a backing store is by now, whatever part of it a volume uses. */
import { open } from "node:fs/promises";
import { native } from "../ublk/native.ts";

/** Bytes of a regular file or block device. */
export async function storeBytes(path: string): Promise<number> {
  const handle = await open(path, "r");
  try {
    const stats = await handle.stat();
    return stats.isBlockDevice() ? native.blockDevice(handle.fd).sizeBytes : stats.size;
  } finally {
    await handle.close();
  }
}
