/** Which points of a volume are told of as snapshots, and under which names. */
import test from "ava";
import type { GroupEntry } from "../../src/control/group-part.ts";
import type { SnapshotRow } from "../../src/control/snapshot-status.ts";
import { Snapshots } from "../../src/control/snapshots.ts";
import type { Point, PointKind } from "../../src/targets/cow/catalog.ts";
import { CowCounts } from "../../src/targets/cow/cow-counts.ts";
import type { CowAnswer, CowOrder } from "../../src/targets/cow/cow-orders.ts";
import type { CowView } from "../../src/targets/volume.ts";
import type { Device } from "../../src/ublk/device.ts";

const GEOMETRY = { blockBytes: 4096, sectorBytes: 512, slotsPerSegment: 64, segments: 6, catalogBytes: 4096 };
const POINTS = [
  ["mirror", "7"],
  ["copy", "nightly"],
  ["snapshot", "7"],
  ["bulk", "out"],
] as const;

function snapshotsOf(points: Point[]): Snapshots {
  const order = (order: CowOrder): Promise<CowAnswer> => {
    if (order.kind === "drop") points.splice(0, points.length, ...points.filter(({ epoch }) => epoch !== order.epoch));
    return Promise.resolve({ points: [...points] });
  };
  const counts = new CowCounts();
  const view = { path: "/store", geometry: GEOMETRY, fullPolicy: "invalidate", counts } as CowView;
  const group = { assertNone: () => undefined } as unknown as GroupEntry<SnapshotRow>;
  return new Snapshots("v", view, { order } as unknown as Device, null, false, group, () => undefined);
}

test("points of a mirror are told of beside snapshots, never under the name of one, and can be deleted", async (t) => {
  const points = POINTS.map(([kind, name], index): Point => pointOf(kind, name, index + 1));
  const snapshots = snapshotsOf(points);
  const told = async (): Promise<(readonly string[])[]> =>
    (await snapshots.list()).snapshots.map(({ kind, name }) => [kind, name]);
  t.deepEqual(await told(), [
    ["mirror", "@7"],
    ["snapshot", "7"],
  ]);
  t.is((await snapshots.findValid("@7")).epoch, 1);
  t.is((await snapshots.findValid("7")).epoch, 3);
  await t.throwsAsync(snapshots.create("@8"), { code: "ENAME" });
  await snapshots.drop("@7");
  t.deepEqual(await told(), [["snapshot", "7"]]);
  await t.throwsAsync(snapshots.drop("@7"), { code: "ENOENT" });
  t.deepEqual(
    points.map(({ name }) => name),
    ["nightly", "7", "out"],
  );
});

function pointOf(kind: PointKind, name: string, epoch: number): Point {
  return { epoch, kind, name, createdMs: 0, volumeBytes: 4096, state: "valid", mark: 0 };
}
