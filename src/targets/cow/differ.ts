/**
 * Finds the blocks that were overwritten between two points, a few at each turn.
 *
 * A block was overwritten after a point if the point finds a version of it in the store; and before a later point if that
 * version's epoch is below the later one's. A block whose overwrite was held while the later point was taken may be told
 * as well, though it was overwritten after it: too much, never too little.
 */
import type { CompletionHandler, Io } from "../../ublk/io.ts";
import type { Points } from "./points.ts";
import { NONE, type VersionMap } from "./version-map.ts";

/** Buckets of the map looked at in one turn. */
const BUCKETS_PER_TURN = 256;

/** Null when the first point has been given up meanwhile. */
type Done = (blocks: Float64Array | null) => void;

interface Task {
  readonly from: number;
  /** Infinity for now. */
  readonly to: number;
  readonly done: Done;
  readonly found: number[];
  bucket: number;
}

export class Differ implements CompletionHandler {
  readonly #map: VersionMap;
  readonly #points: Points;
  readonly #io: Io;
  readonly #handler: number;
  readonly #tasks: Task[] = [];

  constructor(map: VersionMap, points: Points, io: Io) {
    this.#map = map;
    this.#points = points;
    this.#io = io;
    this.#handler = io.addHandler(this);
  }

  get isIdle(): boolean {
    return this.#tasks.length === 0;
  }

  /** Blocks in no order; one may be told twice. */
  start(from: number, to: number, done: Done): void {
    this.#tasks.push({ from, to, done, found: [], bucket: 0 });
    if (this.#tasks.length === 1) this.#io.turn(this.#handler, 0);
  }

  completed(): void {
    const task = this.#tasks[0];
    if (task === undefined) return;
    const end = Math.min(task.bucket + BUCKETS_PER_TURN, this.#map.buckets);
    for (; task.bucket < end; task.bucket++) this.#look(task);
    const isKept = this.#points.isKept(task.from);
    if (task.bucket === this.#map.buckets || !isKept) {
      this.#tasks.shift();
      task.done(isKept ? Float64Array.from(task.found) : null);
    }
    if (this.#tasks.length > 0) this.#io.turn(this.#handler, 0);
  }

  #look({ bucket, from, to, found }: Task): void {
    const map = this.#map;
    for (let version = map.firstOf(bucket); version !== NONE; version = map.after(version)) {
      const epoch = map.epoch(version);
      if (map.isPending(version) || epoch < from || epoch >= to) continue;
      // The oldest of those that are not below the point: each block once.
      const older = map.older(version);
      if (older === NONE || map.epoch(older) < from) found.push(map.block(version));
    }
  }
}
