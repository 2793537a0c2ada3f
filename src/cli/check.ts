/** `sluice check`: everything that can be known before a start, a line each. */
import { readConfig, type VolumeConfig } from "../control/config.ts";
import { checkProgram } from "../control/freeze-hook.ts";
import { volumeMark } from "../control/identity.ts";
import { formatSize } from "../control/sizes.ts";
import { storeBytes } from "../control/store-size.ts";
import { examineNvramBacking } from "../targets/nvram-backing.ts";
import { openVolume, type RecordSpec, type SnapshotSpec, type VolumeSpec } from "../targets/volume.ts";
import { ControlPlane } from "../ublk/control.ts";
import { listDevices } from "../ublk/devices.ts";
import { roomBytes } from "../targets/cow/cleaner.ts";
import { examineStore } from "../targets/store-backing.ts";
import { codeOf, messageOf, UblkError } from "../ublk/errors.ts";

export interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly text: string;
}

/** Never throws for what is wrong with the volume: that is what it finds. */
export async function checkVolume(nameOrPath: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  const tell = async (what: string, look: () => Promise<string>): Promise<void> => {
    try {
      findings.push({ what, ok: true, text: await look() });
    } catch (error) {
      for (const text of messageOf(error).split("\n")) findings.push({ what, ok: false, text });
    }
  };
  let config: VolumeConfig | undefined;
  await tell("configuration", async () => {
    config = await readConfig(nameOrPath);
    return config.file;
  });
  const known = config;
  if (known !== undefined) {
    await tell("backing", () => checkBacking(known));
    const { record, snapshots } = known.volume;
    if (record !== null) await tell("record", () => checkRecord(known.volume, record));
    if (snapshots !== null) await tell("snapshots", () => checkStore(snapshots));
    const { freezeProgram } = known;
    if (freezeProgram !== null) {
      await tell("freeze", async () => {
        await checkProgram(freezeProgram);
        return freezeProgram;
      });
    }
    await tell("device", () => checkDevice(known));
  }
  await tell("kernel", async () => {
    using control = ControlPlane.open();
    const features = await control.features();
    if (!features.has("USER_RECOVERY_REISSUE"))
      throw new UblkError("EOPNOTSUPP", "this kernel's ublk has no user recovery");
    return `ublk with user recovery${features.has("UPDATE_SIZE") ? " and resizing" : ", without resizing"}`;
  });
  return findings;
}

async function checkBacking(config: VolumeConfig): Promise<string> {
  if ("sizeBytes" in config.volume.backing) return config.volume.backing.kind;
  try {
    await using volume = await openVolume({ ...config.volume, record: null, snapshots: null });
    return `${config.volume.backing.path}, ${formatSize(volume.limits.sizeBytes)}, ${volume.explain.join(", ")}`;
  } catch (error) {
    // A volume that runs has its own store open: that is as it should be.
    if (codeOf(error) === "EBUSY" && (await ownDevice(config.name)) !== undefined)
      return `${config.volume.backing.path}, in use by this volume`;
    throw error;
  }
}

async function checkRecord({ backing, sizeBytes }: VolumeSpec, record: RecordSpec): Promise<string> {
  const wholeBytes = "sizeBytes" in backing ? backing.sizeBytes : await storeBytes(backing.path);
  const volumeBytes = sizeBytes ?? wholeBytes;
  const { chunks, chunkBytes } = await examineNvramBacking(record.path, { ...record, volumeBytes });
  const grows = chunks * chunkBytes < volumeBytes ? "; grows with the volume at the start" : "";
  return `${record.path}, chunks of ${formatSize(chunkBytes)}, at most ${formatSize(record.limitBytes)}${grows}`;
}

async function checkStore({ path, fullPolicy, volume, mark }: SnapshotSpec): Promise<string> {
  const { geometry, volume: owner, mark: found } = await examineStore(path);
  if (found !== mark) throw new UblkError("EOWNER", `Store ${path}: it belongs to volume ${owner}, wanted ${volume}`);
  const bytes = roomBytes(geometry);
  return `${path}, ${formatSize(bytes)} in blocks of ${formatSize(geometry.blockBytes)}, when full: ${fullPolicy}`;
}

async function ownDevice(name: string): Promise<number | undefined> {
  using control = ControlPlane.open();
  return (await listDevices(control)).find((device) => device.mark === volumeMark(name))?.id;
}

async function checkDevice(config: VolumeConfig): Promise<string> {
  const own = await ownDevice(config.name);
  if (own !== undefined) return `/dev/ublkb${own} is this volume's`;
  if (config.device === null) return "the kernel will choose a number";
  using control = ControlPlane.open();
  const taken = (await listDevices(control)).some((device) => device.id === config.device);
  if (taken)
    throw new UblkError(
      "EEXIST",
      `number ${config.device} is taken by another device: choose another, or leave it out`,
    );
  return `/dev/ublkb${config.device} is free`;
}
