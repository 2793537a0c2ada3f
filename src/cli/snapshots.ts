/** `sluice snapshot`: its commands, and what they print. */
import type { Argv } from "yargs";
import {
  askRollback,
  askSnapshot,
  askSnapshotDelete,
  askSnapshotDiff,
  askSnapshots,
  askSnapshotUnexport,
} from "../control/client.ts";
import { formatDuration, formatSize } from "../control/sizes.ts";
import type { SnapshotList, SnapshotRow, SnapshotStoreStatus } from "../control/snapshot-status.ts";
import { print, table } from "./output.ts";
import { page, sizeArgument, volumeName, volumeNames, withName, type Act } from "./page.ts";

function withSnapshot<T>(command: Argv<T>): Argv<T & { name: string; snapshot: string }> {
  return withName(command).positional("snapshot", {
    type: "string",
    demandOption: true,
    describe: "name of the snapshot",
  });
}

/** The commands below `sluice snapshot`. */
export function snapshotCommands(command: Argv, json: boolean, act: Act): Argv {
  return command
    .usage("$0 snapshot ACTION")
    .command(
      "init <name>",
      "make the store that a volume's snapshots need",
      (init) =>
        page(
          withName(init),
          "snapshot init NAME [--size SIZE] [--block SIZE]",
          [
            "Makes the store of originals of a volume: [snapshots] in its configuration says where. A file is made",
            "with the size that is given, all of it at once; a block device is used whole. A store that exists is",
            "never touched.",
          ],
          ["$0 snapshot init data --size 20GiB", "a file with room for 20 GiB of originals"],
          ["$0 snapshot init data --block 4KiB", "a block device, for random writes of 4 KiB"],
        )
          .option("size", { type: "string", requiresArg: true, describe: "size of the new file" })
          .option("block", {
            type: "string",
            requiresArg: true,
            describe: "what is copied as a whole at its first overwrite, 4KiB to 1MiB (default: 16KiB)",
          }),
      act(async ({ name, size, block }) => {
        const { blockArgument, initStore } = await import("./snapshot-init.ts");
        const store = await initStore(name, sizeArgument(size) ?? null, blockArgument(block));
        print(json, store, () =>
          table([
            ["store", `${store.path}, ${formatSize(store.sizeBytes)} in blocks of ${formatSize(store.blockBytes)}`],
          ]),
        );
      }),
    )
    .command(
      "create <name> <snapshot>",
      "take a snapshot of this moment, of one volume or of several",
      (create) =>
        page(
          withSnapshot(create),
          "snapshot create NAME[,NAME...] SNAPSHOT",
          [
            "Takes a snapshot of a running volume, while it goes on being written. What was acknowledged",
            "before is in it, and survives a power cut, when this returns. A file system in it is as after a",
            "crash: freeze it (freeze in [snapshots] of the configuration) where that is not enough.",
            "",
            "Of several volumes, with commas between them, at one instant: what was acknowledged on one of",
            "them before a write to another was begun is never missing where the later one is shown. Writes",
            "to all of them wait meanwhile, for ten seconds at most. Either all have it in the end, or none.",
          ],
          ["$0 snapshot create data before-upgrade", "now"],
          ["$0 snapshot create data,log before-upgrade", "of both at one instant"],
        ),
      act(async ({ name, snapshot }) => {
        const volumes = volumeNames(name);
        const [first] = volumes;
        if (first !== undefined && volumes.length === 1) {
          const row = await askSnapshot(first, "create", snapshot);
          print(json, row, () => describeTaken(row));
        } else {
          const { takeGroup } = await import("../control/snapshot-group.ts");
          const rows = await takeGroup(volumes, snapshot);
          print(json, rows, () => rows.map((row) => `${row.volume}: ${describeTaken(row)}`).join("\n"));
        }
      }),
    )
    .command(
      "list <name>",
      "the snapshots of a volume, and the room in their store",
      (list) =>
        page(withName(list), "snapshot list NAME", [
          "The snapshots of a running volume, oldest first, and how full their store is. Of a volume that was mirrored",
          "to here, and promoted, the points that were kept are there as well, as @NUMBER: to be exported, rolled back to,",
          "or deleted like snapshots.",
        ]),
      act(async ({ name }) => {
        const list = await askSnapshots(volumeName(name));
        print(json, list, () => describeList(list));
      }),
    )
    .command(
      "diff <name> <from> [to]",
      "the ranges that changed between two snapshots, or since one",
      (diff) =>
        page(
          withName(diff)
            .positional("from", { type: "string", demandOption: true, describe: "name of the older snapshot" })
            .positional("to", { type: "string", describe: "name of the newer snapshot (default: now)" }),
          "snapshot diff NAME FROM [TO]",
          [
            "Prints the ranges of the volume that were overwritten between two snapshots, or since one: whole blocks,",
            "a line each, with offset and length in bytes. What an incremental backup has to copy.",
          ],
          ["$0 snapshot diff data monday tuesday --json", "for a program"],
        ),
      act(async ({ name, from, to }) => {
        const diff = await askSnapshotDiff(volumeName(name), from, to);
        print(json, diff, () => diff.ranges.map(({ offset, length }) => `${offset} ${length}`).join("\n"));
      }),
    )
    .command(
      "delete <name> <snapshot>",
      "delete a snapshot",
      (remove) =>
        page(withSnapshot(remove), "snapshot delete NAME SNAPSHOT", [
          "Deletes a snapshot; refused while it is exported. What no other snapshot wants is free soon afterwards.",
        ]),
      act(async ({ name, snapshot }) => {
        await askSnapshotDelete(volumeName(name), snapshot);
        print(json, { deleted: snapshot }, () => `${snapshot} is deleted`);
      }),
    )
    .command(
      "export <name> <snapshot>",
      "show a snapshot as a read-only block device",
      (show) =>
        page(
          withSnapshot(show),
          "snapshot export NAME SNAPSHOT",
          [
            "Makes a read-only /dev/ublkbN that shows the volume as it was. Some file systems must be told that",
            "they cannot replay their journal there, or that they have been seen already.",
          ],
          ["mount -o ro,noload $($0 snapshot export data monday) /mnt", "ext4"],
          ["mount -o ro,norecovery,nouuid $($0 snapshot export data monday) /mnt", "xfs"],
        ),
      act(async ({ name, snapshot }) => {
        const row = await askSnapshot(volumeName(name), "export", snapshot);
        print(json, row, () => row.device ?? "");
      }),
    )
    .command(
      "unexport <name> <snapshot>",
      "take the device of a snapshot away",
      (hide) =>
        page(withSnapshot(hide), "snapshot unexport NAME SNAPSHOT [--force]", [
          "Takes the device away that shows a snapshot; refused while it is open or mounted.",
        ]).option("force", { type: "boolean", default: false, describe: "even so: whoever uses it gets errors" }),
      act(async ({ name, snapshot, force }) => {
        await askSnapshotUnexport(volumeName(name), snapshot, force);
        print(json, { unexported: snapshot }, () => `${snapshot} is not exported any more`);
      }),
    )
    .command(
      "rollback <name> <snapshot>",
      "make a volume what it was when a snapshot was taken",
      (rollback) =>
        page(
          withSnapshot(rollback),
          "snapshot rollback NAME SNAPSHOT",
          [
            "Makes a volume what it was when the snapshot was taken: what was written since is lost to it,",
            "and other snapshots stay what they are. The volume is stopped, which is refused while it is in",
            "use, and started again: it is rolled back before there is a device. A crash meanwhile is no",
            "harm: the next start goes on.",
          ],
          ["$0 snapshot create data now && $0 snapshot rollback data monday", "with a way back"],
        ),
      act(async ({ name, snapshot }) => {
        const volume = volumeName(name);
        const { followStop, startService } = await import("./service.ts");
        await askRollback(volume, snapshot);
        await followStop(volume);
        const { device } = await startService(volume, Infinity);
        print(json, { rolledBackTo: snapshot, device: device.path }, () => `${volume} is what it was at ${snapshot}`);
      }),
    )
    .demandCommand(1, "name an action: init, create, list, diff, delete, export, unexport or rollback");
}

function describeTaken({ name, sizeBytes, created }: SnapshotRow): string {
  return `${name}, ${formatSize(sizeBytes)}, ${created}`;
}

function describeList({ store, snapshots }: SnapshotList): string {
  const rows = snapshots.map(({ name, kind, created, sizeBytes, state, device }) => [
    name,
    kind,
    created,
    formatSize(sizeBytes),
    state === "valid" ? "valid" : `INVALID (${state})`,
    device ?? "-",
  ]);
  return [
    table([["SNAPSHOT", "KIND", "CREATED", "SIZE", "STATE", "DEVICE"], ...rows]),
    "",
    table(storeFacts(store)),
  ].join("\n");
}

/** Rows for `sluice status` and `sluice snapshot list`. */
export function storeFacts(store: SnapshotStoreStatus): [string, string][] {
  const { counts, usedBytes, sizeBytes, blockBytes, fillingBytesPerSecond, fullInSeconds } = store;
  const filling =
    fullInSeconds === null
      ? "not filling"
      : `filling by ${formatSize(Math.round(fillingBytesPerSecond))} a second, full in ${formatDuration(fullInSeconds)}`;
  return [
    ["snapshots", `${store.store}, blocks of ${formatSize(blockBytes)}, when full: ${store.whenFull}`],
    [
      "",
      `${formatSize(usedBytes)} of ${formatSize(sizeBytes)} in use (${((usedBytes / sizeBytes) * 100).toFixed(1)} %), ${filling}`,
    ],
    [
      "",
      `${counts.moved} originals moved, ${counts.held} writes waited for one, ${counts.relocated} moved within, ` +
        `${counts.lost} lost, ${counts.givenUp} snapshots given up`,
    ],
  ];
}
