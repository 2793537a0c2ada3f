/** How a volume's device is known again: by 64 bits that the kernel keeps with it, made from the volume's name. */
import { createHash } from "node:crypto";
import type { DeviceInfo } from "../ublk/control.ts";

/** "SL", the high 16 bits of the mark of every device of sluice. */
const OWNER = 0x534cn;
const NAME_BITS = 48n;

export function volumeMark(name: string): bigint {
  const hash = createHash("sha256").update(name).digest().readUIntBE(0, 6);
  return (OWNER << NAME_BITS) | BigInt(hash);
}

export function isOurs(device: DeviceInfo): boolean {
  return device.mark >> NAME_BITS === OWNER;
}

/** What the NVRAM file of a volume says of its owner. */
export function ownerOf(name: string): { readonly volume: string; readonly mark: bigint } {
  return { volume: name, mark: volumeMark(name) };
}
