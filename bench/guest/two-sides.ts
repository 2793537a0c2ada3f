/**
 * What two hosts of a mirror have, in one guest: a disk each, of which every peer gets parts, and a pair of network devices
 * between them.
 *
 * DRBD's sockets are those of the first network namespace, whoever configures it. So both sides live in it: rules have what is
 * sent to the other side's address leave by the pair and come in again, for all peers alike, where the kernel would hand it
 * over by itself. The counters of the pair tell what went over the link.
 */
import { readFile, writeFile } from "node:fs/promises";
import { run } from "./peers.ts";

export const HERE = "192.0.2.1";
export const THERE = "192.0.2.2";
const LINKS = { here: { address: HERE, other: THERE }, there: { address: THERE, other: HERE } } as const;
const TO_THE_PAIR = "100";
const SECTORS_PER_MIB = 2048;
/** As an SSD is to a processor that is not emulated: so many operations at once, each takes so long. */
export const SLOW_DISK = { atOnce: 8, nanoseconds: 4_000_000 } as const;

export async function connectSides(): Promise<void> {
  await run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there");
  for (const name of ["all", "here", "there"]) {
    await writeFile(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, "0");
    await writeFile(`/proc/sys/net/ipv4/conf/${name}/accept_local`, "1");
  }
  for (const [name, { address, other }] of Object.entries(LINKS)) {
    await run("ip", "address", "add", `${address}/32`, "dev", name);
    await run("ip", "link", "set", name, "up");
    await run("ip", "route", "add", other, "dev", name, "src", address, "table", TO_THE_PAIR);
    await run("ip", "rule", "add", "pref", "1", "iif", name, "lookup", "local");
    await run("ip", "rule", "add", "pref", "2", "to", address, "lookup", TO_THE_PAIR);
    // Nobody answers for the other side's address.
    const there = name === "here" ? "there" : "here";
    const ethernet = (await readFile(`/sys/class/net/${there}/address`, "utf8")).trim();
    await run("ip", "neighbour", "add", other, "lladdr", ethernet, "dev", name, "nud", "permanent");
  }
  // What the kernel would look at first: whatever has an address here stays here.
  await run("ip", "rule", "add", "pref", "3", "lookup", "local");
  await run("ip", "rule", "delete", "pref", "0");
}

/** Bytes of the link so far, headers among them: from here to there, and back. */
export async function linkBytes(): Promise<{ out: number; back: number }> {
  const counter = async (name: string): Promise<number> =>
    Number(await readFile(`/sys/class/net/here/statistics/${name}`, "utf8"));
  return { out: await counter("tx_bytes"), back: await counter("rx_bytes") };
}

type Parts = Readonly<Record<string, number>>;

/** Cuts a disk in parts, of so many MiB each. Gives their paths. */
async function cut<T extends Parts>(disk: string, parts: T): Promise<Record<keyof T, string>> {
  const paths: Record<string, string> = {};
  let sector = 0;
  for (const [index, [name, mib]] of Object.entries(parts).entries()) {
    await run("addpart", disk, String(index + 1), String(sector), String(mib * SECTORS_PER_MIB));
    paths[name] = `${disk}p${index + 1}`;
    sector += mib * SECTORS_PER_MIB;
    // Memory that a disk has not yet is taken at the first write.
    await run("sh", "-c", `dd if=/dev/zero of=${paths[name]} bs=1M count=${mib} oflag=direct status=none`);
  }
  return paths as Record<keyof T, string>;
}

/** A disk a side, in memory, in the same parts: slow ones, or such as have nothing to wait for. */
export async function makeDisks<H extends Parts, T extends Parts>(
  isSlow: boolean,
  here: H,
  there: T,
): Promise<{ here: Record<keyof H, string>; there: Record<keyof T, string> }> {
  const mibOf = (parts: Parts): number => Object.values(parts).reduce((sum, mib) => sum + mib, 0);
  const mib = Math.max(mibOf(here), mibOf(there));
  if (isSlow) {
    const { atOnce, nanoseconds } = SLOW_DISK;
    const speed = [`completion_nsec=${nanoseconds}`, `hw_queue_depth=${atOnce}`, "irqmode=2", "submit_queues=1"];
    const size = `gb=${Math.ceil(mib / 1024)}`;
    await run("modprobe", "null_blk", "nr_devices=2", "memory_backed=1", size, "bs=512", "no_sched=1", ...speed);
  } else {
    await run("modprobe", "brd", "rd_nr=2", `rd_size=${mib * 1024}`, "max_part=16");
  }
  const disk = isSlow ? "/dev/nullb" : "/dev/ram";
  return { here: await cut(`${disk}0`, here), there: await cut(`${disk}1`, there) };
}
