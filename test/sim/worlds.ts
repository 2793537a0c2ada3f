/** What can be simulated: each world has histories of its own, made from a seed. */
import { MirrorHistory } from "../replication/mirror-history.ts";
import { CowHistory } from "./cow-history.ts";
import { History } from "./history.ts";

export interface SimulatedHistory {
  /** What happened, if it was asked for. */
  readonly lines: string[];
  readonly reached: Readonly<Record<string, number>>;
  /** Throws where an oracle is violated. */
  run(): void;
}

export const WORLDS = {
  record: (seed: number, verbose: boolean): SimulatedHistory => new History(seed, verbose),
  snapshots: (seed: number, verbose: boolean): SimulatedHistory => new CowHistory(seed, verbose),
  bulk: (seed: number, verbose: boolean): SimulatedHistory => new CowHistory(seed, verbose, { hasBulkCopies: true }),
  mirror: (seed: number, verbose: boolean): SimulatedHistory => new MirrorHistory(seed, verbose),
} as const;

export type WorldName = keyof typeof WORLDS;
export const WORLD_NAMES = Object.keys(WORLDS) as WorldName[];
