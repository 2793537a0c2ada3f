/** `sluice features`: what this kernel's ublk can, and what sluice makes of it. */
import { FEATURE_BITS, type Feature } from "../ublk/abi.ts";
import { ControlPlane } from "../ublk/control.ts";

export interface FeatureRow {
  readonly feature: Feature;
  readonly available: boolean;
  /** What sluice uses it for; null where it does not. */
  readonly use: string | null;
}

const USES: Partial<Record<Feature, string>> = {
  USER_RECOVERY: "a device outlives its daemon",
  USER_RECOVERY_REISSUE: "requests in flight are served by the next daemon",
  UPDATE_SIZE: "sluice resize on a running volume",
  QUIESCE: "asked for, so that a daemon can be replaced in an orderly way",
  SAFE_STOP_DEV: "the kernel itself refuses to stop a device that is in use",
  NO_AUTO_PART_SCAN: "tells that the kernel scans partitions after the start: they are found without udev",
  CMD_IOCTL_ENCODE: "required",
};

/** Throws ENODRIVER or EACCES. */
export async function kernelFeatures(): Promise<FeatureRow[]> {
  using control = ControlPlane.open();
  const known = await control.features();
  return (Object.keys(FEATURE_BITS) as Feature[]).map((feature) => ({
    feature,
    available: known.has(feature),
    use: USES[feature] ?? null,
  }));
}
