/** How a volume's device is known again: by 64 bits that the kernel keeps with it, made from the volume's name. */
import { createHash } from "node:crypto";
import type { DeviceInfo } from "../ublk/control.ts";

/** "SL", the high 16 bits of the mark of every device of sluice. */
const OWNER = 0x534cn;
const NAME_BITS = 48n;
const VIEW_OWNER = 0x5356n;
const RECEIVED_VIEW_OWNER = 0x5352n;
const EPOCH_BITS = 16n;

export function volumeMark(name: string): bigint {
  const hash = createHash("sha256").update(name).digest().readUIntBE(0, 6);
  return (OWNER << NAME_BITS) | BigInt(hash);
}

/** The mark of the device that shows a snapshot: "SV", 32 bits of the volume's name, the low 16 of the snapshot's epoch. */
export function viewMark(name: string, epoch: number): bigint {
  return (VIEW_OWNER << NAME_BITS) | ((volumeMark(name) & 0xffff_ffffn) << EPOCH_BITS) | BigInt(epoch & 0xffff);
}

/** Whether a device shows a snapshot of this volume. */
export function isViewOf(name: string, mark: bigint): boolean {
  return mark >> EPOCH_BITS === viewMark(name, 0) >> EPOCH_BITS;
}

/** The mark of the device that shows a point of a volume that is mirrored to here: "SR", and as above the number of the point. */
export function receivedViewMark(name: string, point: number): bigint {
  const low = ((volumeMark(name) & 0xffff_ffffn) << EPOCH_BITS) | BigInt(point % 0x1_0000);
  return (RECEIVED_VIEW_OWNER << NAME_BITS) | low;
}

export function isReceivedView(mark: bigint): boolean {
  return mark >> NAME_BITS === RECEIVED_VIEW_OWNER;
}

export function isOurs(device: DeviceInfo): boolean {
  return device.mark >> NAME_BITS === OWNER;
}

/** What the NVRAM file of a volume says of its owner. */
export function ownerOf(name: string): { readonly volume: string; readonly mark: bigint } {
  return { volume: name, mark: volumeMark(name) };
}
