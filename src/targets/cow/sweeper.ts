/**
 * Finds originals that nobody wants any more, a few at each turn, so that no turn takes long.
 *
 * Invariant: a version is dropped only when no point that originals are kept for finds it.
 */
import type { CompletionHandler, Io } from "../../ublk/io.ts";
import type { OriginalStore } from "./original-store.ts";
import type { Points } from "./points.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** Buckets of the map looked at in one turn; each has about one version. */
const BUCKETS_PER_TURN = 256;
/** Of passed blocks: as many as the largest segment of a copy has. */
const BLOCKS_AT_ONCE = 65_536;

export class Sweeper implements CompletionHandler {
  readonly #map: VersionMap;
  readonly #points: Points;
  readonly #store: OriginalStore;
  readonly #io: Io;
  readonly #handler: number;
  #bucket = 0;
  #isRunning = false;
  #again = false;

  constructor(map: VersionMap, points: Points, store: OriginalStore, io: Io) {
    this.#map = map;
    this.#points = points;
    this.#store = store;
    this.#io = io;
    this.#handler = io.addHandler(this);
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Some point has gone: look at everything, once from now on. */
  start(): void {
    this.#again = this.#isRunning;
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#bucket = 0;
    this.#io.turn(this.#handler, 0);
  }

  completed(): void {
    const end = Math.min(this.#bucket + BUCKETS_PER_TURN, this.#map.buckets);
    for (; this.#bucket < end; this.#bucket++) this.#sweep(this.#bucket);
    // The map grows by buckets at its end, which take versions from those before.
    if (this.#bucket < this.#map.buckets) this.#io.turn(this.#handler, 0);
    else if (this.#again) {
      this.#again = false;
      this.#bucket = 0;
      this.#io.turn(this.#handler, 0);
    } else this.#isRunning = false;
  }

  #sweep(bucket: number): void {
    const map = this.#map;
    for (let version = map.firstOf(bucket), next; version !== NONE; version = next) {
      next = map.after(version);
      this.#dropUnwanted(version);
    }
  }

  /** Looks at the versions of some blocks at once; where there are too many for one call, at everything by and by. */
  sweepBlocks(first: number, end: number): void {
    if (end - first > BLOCKS_AT_ONCE) {
      this.start();
      return;
    }
    const map = this.#map;
    for (let block = first; block < end; block++) {
      for (let version = map.newest(block), next; version !== NONE; version = next) {
        next = map.older(version);
        this.#dropUnwanted(version);
      }
    }
  }

  #dropUnwanted(version: number): void {
    const map = this.#map;
    if (map.isPending(version)) return;
    const older = map.older(version);
    const before = older === NONE ? 0 : map.epoch(older);
    if (this.#points.isWanted(map.block(version), before, map.epoch(version))) return;
    const segment = this.#store.layout.segmentOf(map.slot(version));
    map.remove(version);
    this.#store.segments.unwant(segment);
  }
}
