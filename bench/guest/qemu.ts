/**
 * The part of the benchmark beside QEMU's storage daemon that runs in the guest, as root: random overwrites of a volume that is
 * kept as it was, or is being copied, by sluice and by QEMU's copy-before-write, on the same three disks, in turns.
 */
import { release } from "node:os";
import { askCopyCancel, askCopyStart } from "../../src/control/client.ts";
import { leave, readOrder, tell } from "./order.ts";
import { run } from "./peers.ts";
import { diskNode, QemuDaemon } from "./qemu-daemon.ts";
import { countersOf, FAST_DISKS, overwrite, startSluice, VOLUME_NAME, WRITTEN_BYTES } from "./snapshot.ts";

export interface QemuOrder {
  readonly rounds: number;
}

/**
 * What there is beside the load. "kept": the volume as it was is kept aside, and nobody copies it. "copied": it is copied, and what
 * is overwritten before is kept aside. "copied directly": what is overwritten before goes to the destination first.
 */
export type Keeping = "nothing" | "kept" | "copied" | "copied directly";

export interface QemuContender {
  readonly by: "sluice" | "qemu";
  readonly keeping: Keeping;
  readonly blockKib: number;
}

export interface QemuSample extends QemuContender {
  readonly iops: number;
  readonly p99Us: number;
  /** Of the volume's disk, the store's and the destination's, for each byte that was overwritten. */
  readonly readRatio: number;
  readonly storedRatio: number;
  readonly copiedRatio: number;
}

export interface QemuMeasurement {
  readonly kernel: string;
  readonly version: string;
  readonly samples: readonly QemuSample[];
}

/** QEMU moves clusters of 64 KiB. */
export const QEMU_CONTENDERS: readonly QemuContender[] = [
  { by: "sluice", keeping: "nothing", blockKib: 4 },
  { by: "qemu", keeping: "nothing", blockKib: 64 },
  { by: "sluice", keeping: "kept", blockKib: 4 },
  { by: "sluice", keeping: "kept", blockKib: 64 },
  { by: "qemu", keeping: "kept", blockKib: 64 },
  { by: "sluice", keeping: "copied", blockKib: 4 },
  { by: "sluice", keeping: "copied", blockKib: 64 },
  { by: "qemu", keeping: "copied", blockKib: 64 },
  { by: "qemu", keeping: "copied directly", blockKib: 64 },
];

/** Of the volume's disk, the store's and the destination. */
export const QEMU_DISKS = ["256M", "1G", "256M"] as const;
const VOLUME_BYTES = 256 * 2 ** 20;
const DESTINATION = { device: "vdc", path: "/dev/vdc" } as const;
const COPY_BYTES_PER_SECOND = 4 * 2 ** 20;
const JOB = "copy";

/** Has everything going, gives the device, and how to take it all away again. */
interface Going {
  readonly path: string;
  readonly takeDown: () => Promise<void>;
}

async function sluice({ keeping, blockKib }: QemuContender): Promise<Going> {
  const { path, takeDown } = await startSluice(FAST_DISKS, keeping === "kept" ? 1 : 0, blockKib);
  if (keeping !== "copied") return { path, takeDown };
  await askCopyStart(VOLUME_NAME, {
    name: JOB,
    destinations: [DESTINATION.path],
    segmentBytes: 2 ** 20,
    order: "linear",
    bytesPerSecond: COPY_BYTES_PER_SECOND,
    recordBytes: null,
    force: false,
    staged: false,
  });
  return {
    path,
    takeDown: async () => {
      await askCopyCancel(VOLUME_NAME, JOB);
      await takeDown();
    },
  };
}

async function qemu({ keeping }: QemuContender): Promise<Going> {
  const source = diskNode("source", FAST_DISKS.volume, VOLUME_BYTES);
  const kept = [
    diskNode("fleecing", FAST_DISKS.store, VOLUME_BYTES),
    { driver: "copy-before-write", "node-name": "filter", file: "source", target: "fleecing" },
    { driver: "snapshot-access", "node-name": "then", file: "filter" },
  ];
  const isFleecing = keeping === "kept" || keeping === "copied";
  const daemon = await QemuDaemon.start(
    [source, diskNode("destination", DESTINATION.path, VOLUME_BYTES), ...(isFleecing ? kept : [])],
    isFleecing ? "filter" : "source",
  );
  const isCopied = keeping === "copied" || keeping === "copied directly";
  if (isCopied) {
    await daemon.ask("blockdev-backup", {
      "job-id": JOB,
      device: isFleecing ? "then" : "source",
      target: "destination",
      sync: "full",
      speed: COPY_BYTES_PER_SECOND,
    });
  }
  return {
    path: daemon.path,
    takeDown: async () => {
      if (isCopied) await daemon.cancelJob(JOB);
      await daemon.stop();
    },
  };
}

async function measure(contender: QemuContender): Promise<QemuSample> {
  const { path, takeDown } = await (contender.by === "sluice" ? sluice : qemu)(contender);
  const disks = [FAST_DISKS.volume, FAST_DISKS.store, DESTINATION.path];
  const before = await Promise.all(disks.map(countersOf));
  const { iops, p99Us } = await overwrite(path);
  const after = await Promise.all(disks.map(countersOf));
  await takeDown();
  const ratio = (disk: number, key: "readBytes" | "writtenBytes"): number =>
    ((after[disk]?.[key] ?? NaN) - (before[disk]?.[key] ?? NaN)) / WRITTEN_BYTES;
  return {
    ...contender,
    iops,
    p99Us,
    readRatio: ratio(0, "readBytes"),
    storedRatio: ratio(1, "writtenBytes"),
    copiedRatio: ratio(2, "writtenBytes"),
  };
}

async function main(): Promise<void> {
  const { rounds } = readOrder() as QemuOrder;
  await run("modprobe", "ublk_drv");
  const samples: QemuSample[] = [];
  for (let round = 1; round <= rounds; round++) {
    // Nobody always comes first, or always after the same one.
    const turn = round % QEMU_CONTENDERS.length;
    for (const contender of [...QEMU_CONTENDERS.slice(turn), ...QEMU_CONTENDERS.slice(0, turn)]) {
      const sample = await measure(contender);
      samples.push(sample);
      tell(`round ${round} ${JSON.stringify(sample)}`);
    }
  }
  const version = (await run("qemu-storage-daemon", "--version")).split("\n")[0] ?? "";
  await leave({ kernel: release(), version, samples });
}

if (import.meta.main) await main();
