/**
 * What a mirror costs a host, beside the kernel's own DRBD 8.4 and md RAID 1 over a network block device: in one guest run,
 * over the same disks and the same link. Medians of several rounds, in which all take turns; ratios, and bytes that were
 * counted. DRBD sends in the clear: ratios to it are those of the clear transport, and what TLS costs stands beside them.
 */
import { measureInGuest, saveResult } from "./guest-run.ts";
import { PEERS, type MirrorMeasurement, type MirrorOrder, type MirrorSample } from "./guest/mirror.ts";
import { SLOW_DISK } from "./guest/two-sides.ts";
import { linesOf, median } from "./report.ts";

const PACKAGES = "drbd-utils,mdadm,nbd-server,nbd-client,libnl-genl-3-200";
const MEMORY = "4G";
const MIB = 2 ** 20;

/** Ratios of IOPS that must be reached; null where it is only told. */
const PAIRS: readonly (readonly [ours: string, other: string, least: number | null])[] = [
  [PEERS.async, PEERS.plain, 0.9],
  [PEERS.alone, PEERS.plain, 0.9],
  [PEERS.async, PEERS.record, null],
  [PEERS.sync, PEERS.drbdC, 1],
  [PEERS.async, PEERS.drbdA, 1],
  [PEERS.sync, PEERS.raid, null],
  [PEERS.memory, PEERS.drbdC, null],
  [PEERS.asyncTls, PEERS.async, null],
  [PEERS.syncTls, PEERS.sync, null],
  [PEERS.drbdA, PEERS.plain, null],
  [PEERS.drbdC, PEERS.plain, null],
  [PEERS.raid, PEERS.plain, null],
];
/** Payload that was sent for each byte of the host, points among it; payload of points for each byte of transfers. */
const MOST = { payload: 1.01, points: 0.005, gapMs: 1000, copied: 1 } as const;
/** A point that is due is cut when the clock of the source comes to it, and was seen by looking: so much later at most. */
const GAP_SLACK_MS = 250;
/** These may let the receiver fall behind and copy later, which costs what it costs. */
const UNBOUNDED: readonly string[] = [PEERS.alone];

export interface MirrorOptions extends MirrorOrder {
  readonly kernel: string;
}

export async function mirror(options: MirrorOptions): Promise<{ result: unknown; text: string }> {
  const { kernel, rounds, load, slowDisk } = options;
  const order: MirrorOrder = { rounds, load, slowDisk };
  const machine = ["--packages", PACKAGES, "--mem", MEMORY];
  const measured = (await measureInGuest("bench/guest/mirror.ts", order, kernel, ...machine)) as MirrorMeasurement;
  const { samples, catchUp, killed } = measured;
  const ratios = ratiosOf(samples);
  const traffic = trafficOf(samples);
  const copiedRatio = killed.copiedBytes / killed.recordedBytes;
  const result = {
    ...{ kernel: measured.kernel, drbd: measured.drbd, rounds, slowDisk, ratios, traffic, catchUp },
    killed: { ...killed, ratio: copiedRatio },
  };
  const saved = await saveResult(`mirror${slowDisk ? "-slow-disk" : ""}-${kernel}`, { ...result, samples });
  const mib = (bytes: number): string => (bytes / MIB).toFixed(1);
  const disks = slowDisk
    ? `A disk a side, of at most ${(SLOW_DISK.atOnce / SLOW_DISK.nanoseconds) * 1e9} operations a second.`
    : "A disk a side, in memory: what decides is the emulated processor, which both sides share.";
  const text = [
    `Linux ${measured.kernel}, DRBD ${measured.drbd}, emulated guest: compare within a row; medians of ${rounds} rounds.`,
    "Both sides are in one network namespace, as DRBD's sockets are always in the first one; a pair of veth devices is the link of all.",
    `${disks} The server of md's far side keeps writes in its page cache.`,
    `All but "${PEERS.alone}" wait where the link is slower, as DRBD does. CPU is the source's daemon's own time for a request.`,
    "",
    ...linesOf([
      ["load", "peer", "IOPS", "p99 µs", "CPU µs"],
      ...medianRows(samples).map((row) => [
        ...[row.load, row.peer, row.iops.toFixed(0), row.p99Us.toFixed(0)],
        row.cpuUs === null ? "-" : row.cpuUs.toFixed(1),
      ]),
    ]),
    "",
    ...linesOf([
      ["load", "IOPS of", "beside", "ratio", "wanted", ""],
      ...ratios.map(({ load: under, ours, other, ratio, least }) => [
        ...[under, ours, other, ratio.toFixed(2)],
        ...(least === null ? ["-", ""] : [`at least ${least}`, ratio >= least ? "reached" : "not reached"]),
      ]),
    ]),
    "",
    "For each byte that the host wrote, until the other side had all: on the link there and back, with headers, and payload of it;",
    `payload of points for each byte of transfers; points, and the longest time between two. Wanted: payload at most ${MOST.payload},`,
    `points at most ${MOST.points}, a point each ${MOST.gapMs} ms. Then how long the other side was behind, and how long it applied.`,
    ...linesOf([
      ["load", "peer", "there", "back", "payload", "points", "closed", "open", "gap ms", "behind ms", "applied ms", ""],
      ...traffic.map((row) => [
        ...[row.load, row.peer, row.out.toFixed(4), row.back.toFixed(4)],
        ...(row.own === null
          ? ["-", "-", "-", "-", "-"]
          : [
              ...[row.own.payload.toFixed(4), row.own.points.toFixed(5)],
              ...[row.own.closed, row.own.open, row.own.gapMs].map((figure) => figure.toFixed(0)),
            ]),
        ...[row.behindMs.toFixed(0), row.appliedMs.toFixed(0), row.verdict],
      ]),
    ]),
    "",
    `Caught up with ${mib(catchUp.toCopyBytes)} MiB beside a load in ${catchUp.seconds.toFixed(1)} s, with ${catchUp.points.open} open and ` +
      `${catchUp.points.closed} closed points, ${catchUp.points.longestGapMs} ms between two at most: ` +
      (isOften(catchUp.points.longestGapMs) ? "reached" : "not reached"),
    `Killed under load: ${mib(killed.copiedBytes)} MiB sent for ${mib(killed.recordedBytes)} MiB in the record, ${copiedRatio.toFixed(3)} of it: ` +
      (copiedRatio <= MOST.copied * MOST.payload ? "reached" : "not reached"),
    `Saved as ${saved}`,
  ];
  return { result, text: text.join("\n") };
}

const isOften = (gapMs: number): boolean => gapMs <= MOST.gapMs + GAP_SLACK_MS;

type Key = "iops" | "p99Us" | "cpuUs";

function grouped(samples: readonly MirrorSample[]): { load: string; peer: string; own: MirrorSample[] }[] {
  const loads = [...new Set(samples.map(({ load }) => load))];
  return loads.flatMap((load) =>
    Object.values(PEERS).map((peer) => ({
      ...{ load, peer },
      own: samples.filter((sample) => sample.load === load && sample.peer === peer),
    })),
  );
}

function medianRows(
  samples: readonly MirrorSample[],
): { load: string; peer: string; iops: number; p99Us: number; cpuUs: number | null }[] {
  return grouped(samples).map(({ load, peer, own }) => {
    const of = (key: Key): number => median(own.map((sample) => sample[key] ?? NaN));
    const cpuUs = of("cpuUs");
    return { load, peer, iops: of("iops"), p99Us: of("p99Us"), cpuUs: Number.isNaN(cpuUs) ? null : cpuUs };
  });
}

interface Ratio {
  readonly load: string;
  readonly ours: string;
  readonly other: string;
  readonly ratio: number;
  readonly least: number | null;
}

function ratiosOf(samples: readonly MirrorSample[]): Ratio[] {
  const rows = medianRows(samples);
  const loads = [...new Set(rows.map(({ load }) => load))];
  const iops = (load: string, peer: string): number =>
    rows.find((row) => row.load === load && row.peer === peer)?.iops ?? NaN;
  return loads.flatMap((load) =>
    PAIRS.map(([ours, other, least]) => ({
      ...{ load, ours, other, least },
      ratio: iops(load, ours) / iops(load, other),
    })),
  );
}

interface Traffic {
  readonly load: string;
  readonly peer: string;
  /** For each byte of the host. */
  readonly out: number;
  readonly back: number;
  /** Of a mirror of sluice. */
  readonly own: {
    readonly payload: number;
    readonly points: number;
    readonly closed: number;
    readonly open: number;
    readonly gapMs: number;
  } | null;
  readonly behindMs: number;
  readonly appliedMs: number;
  readonly verdict: string;
}

/** Of those that send anything. */
function trafficOf(samples: readonly MirrorSample[]): Traffic[] {
  return grouped(samples.filter(({ peer }) => peer !== PEERS.plain && peer !== PEERS.record))
    .filter(({ own }) => own.length > 0)
    .map(({ load, peer, own: all }) => {
      const of = (figure: (sample: MirrorSample) => number): number => median(all.map(figure));
      const isOurs = all.every(({ sent }) => sent !== null);
      const own = isOurs
        ? {
            payload: of(({ sent, hostBytes }) => ((sent?.transfers ?? NaN) + (sent?.points ?? NaN)) / hostBytes),
            points: of(({ sent }) => (sent?.points ?? NaN) / (sent?.transfers ?? NaN)),
            closed: of(({ points }) => points?.closed ?? NaN),
            open: of(({ points }) => points?.open ?? NaN),
            gapMs: Math.max(...all.map(({ points }) => points?.longestGapMs ?? NaN)),
          }
        : null;
      return {
        ...{ load, peer, own },
        out: of(({ outBytes, hostBytes }) => outBytes / hostBytes),
        back: of(({ backBytes, hostBytes }) => backBytes / hostBytes),
        behindMs: of(({ behindMs }) => behindMs),
        appliedMs: of(({ appliedMs }) => appliedMs),
        verdict: own === null ? "" : verdictOf(peer, own),
      };
    });
}

function verdictOf(peer: string, { payload, points, gapMs }: NonNullable<Traffic["own"]>): string {
  const missed = [
    ...(payload <= MOST.payload || UNBOUNDED.includes(peer) ? [] : ["payload"]),
    ...(points <= MOST.points || UNBOUNDED.includes(peer) ? [] : ["points"]),
    ...(isOften(gapMs) ? [] : ["gap"]),
  ];
  return missed.length === 0 ? "reached" : `not reached: ${missed.join(", ")}`;
}
