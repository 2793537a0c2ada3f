/**
 * The part of the benchmark of bulk copies that runs in the guest, as root: how fast dd reads a volume with and without a bulk
 * copy begun, while nothing is written and while little is.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { askBulkBegin, askBulkDrop, askSnapshots, askStatus } from "../../src/control/client.ts";
import { leave, readOrder, tell } from "./order.ts";
import { configure, makeRamDisks, run } from "./peers.ts";

export interface BulkOrder {
  readonly rounds: number;
}

/** What is written while dd reads, in writes a second. */
export const WRITES_PER_SECOND = [0, 20] as const;

export interface BulkSample {
  readonly round: number;
  readonly writesPerSecond: number;
  readonly isBegun: boolean;
  readonly bytesPerSecond: number;
  /** Originals that were moved meanwhile. */
  readonly moved: number;
}

export interface BulkMeasurement {
  readonly kernel: string;
  readonly samples: readonly BulkSample[];
}

/** Of the store's disk. */
export const DISKS = ["512M"] as const;
const NAME = "bulked";
const DEVICE = `/dev/sluice/${NAME}`;
const POLL_MS = 20;
/** Of dd over the whole device, in a reading: one alone is over too soon to be compared. */
const PASSES = 8;

const moved = async (): Promise<number> => (await askSnapshots(NAME)).store.counts.moved;
const written = async (): Promise<number> => (await askStatus(NAME)).statistics.write.count;

/** The whole device some times, as a program reads it that knows nothing of sluice; bytes a second, as dd says. */
async function read(): Promise<number> {
  let bytes = 0;
  let seconds = 0;
  for (let pass = 0; pass < PASSES; pass++) {
    const text = await run("sh", "-c", `LC_ALL=C dd if=${DEVICE} of=/dev/null bs=1M iflag=direct 2>&1`);
    const said = /^(\d+) bytes .* copied, ([\d.e+-]+) s/m.exec(text);
    bytes += Number(said?.[1]);
    seconds += Number(said?.[2]);
  }
  return bytes / seconds;
}

/** Has random places written to at a rate; gives how to end that. */
async function startWrites(writesPerSecond: number, seed: number): Promise<() => Promise<void>> {
  if (writesPerSecond === 0) return () => Promise.resolve();
  const before = await written();
  const words = [
    ...["--name=w", `--filename=${DEVICE}`, "--ioengine=libaio", "--direct=1", "--rw=randwrite", "--bs=4k"],
    ...["--norandommap", `--randseed=${seed}`, `--rate_iops=${writesPerSecond}`, "--time_based", "--runtime=3600"],
  ];
  const writer = spawn("fio", words, { stdio: "ignore" });
  while ((await written()) === before) await sleep(POLL_MS);
  return async () => {
    writer.kill("SIGINT");
    await once(writer, "exit");
  };
}

async function measure(round: number, writesPerSecond: number, isBegun: boolean): Promise<BulkSample> {
  const before = await moved();
  if (isBegun) await askBulkBegin(NAME, null);
  const endWrites = await startWrites(writesPerSecond, round);
  const bytesPerSecond = await read();
  const during = (await moved()) - before;
  await endWrites();
  if (isBegun) await askBulkDrop(NAME, undefined);
  while ((await askSnapshots(NAME)).store.usedBytes > 0) await sleep(POLL_MS);
  return { round, writesPerSecond, isBegun, bytesPerSecond, moved: during };
}

async function main(): Promise<void> {
  const { rounds } = readOrder() as BulkOrder;
  await run("modprobe", "ublk_drv");
  const [disk] = await makeRamDisks(1);
  await configure(NAME, `path = "${disk}"`, '[snapshots]\nstore = "/dev/vda"');
  await run("bin/sluice", "snapshot", "init", NAME);
  await run("bin/sluice", "up", NAME);
  const samples: BulkSample[] = [];
  // In the first round everything is compiled that is compiled while it runs; it is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const writesPerSecond of WRITES_PER_SECOND) {
      // Who comes first takes turns.
      for (const isBegun of round % 2 === 0 ? [false, true] : [true, false]) {
        const sample = await measure(round, writesPerSecond, isBegun);
        if (round > 0) samples.push(sample);
        tell(`round ${round} ${JSON.stringify(sample)}`);
      }
    }
  }
  await leave({ kernel: release(), samples });
}

if (import.meta.main) await main();
