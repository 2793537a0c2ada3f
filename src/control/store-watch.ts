/** Watches over the store of a volume's originals: how full it is, how fast it fills, and a warning when that matters. */
import { roomBytes } from "../targets/cow/cleaner.ts";
import type { CowView } from "../targets/volume.ts";
import { FillLevels } from "./fill-levels.ts";
import { log } from "./log.ts";
import { formatDuration, formatSize } from "./sizes.ts";
import type { SnapshotStoreStatus } from "./snapshot-status.ts";
import { secondsUntilFull, StoreForecast } from "./store-forecast.ts";

const SAMPLE_MS = 5_000;

export class StoreWatch {
  readonly #view: CowView;
  readonly #forecast = new StoreForecast(() => performance.now());
  readonly #levels = new FillLevels();
  #warnings = 0;

  constructor(view: CowView) {
    this.#view = view;
  }

  /** Looks at the store every few seconds, until what is returned is called. */
  start(): () => void {
    this.#look();
    const timer = setInterval(() => this.#look(), SAMPLE_MS);
    return () => clearInterval(timer);
  }

  #look(): void {
    const { moved } = this.#view.counts.read();
    this.#forecast.sample(moved * this.#view.geometry.blockBytes);
    const { store, usedBytes, sizeBytes, whenFull, fullInSeconds } = this.status();
    const level = this.#levels.look((usedBytes / sizeBytes) * 100);
    if (level === undefined) return;
    this.#warnings++;
    const when = fullInSeconds === null ? "" : `, full in ${formatDuration(fullInSeconds)} at the rate of late`;
    const then = whenFull === "stall" ? "writes will wait" : "the oldest snapshot will be given up";
    log(
      "warning",
      `Store ${store} is more than ${level} % full: ${formatSize(usedBytes)} of ${formatSize(sizeBytes)}${when}. ` +
        `When it is full, ${then}: delete snapshots`,
    );
  }

  status(): SnapshotStoreStatus {
    const { path, geometry, fullPolicy, counts } = this.#view;
    const numbers = counts.read();
    const { blockBytes } = geometry;
    const sizeBytes = roomBytes(geometry);
    const usedBytes = numbers.usedSlots * blockBytes;
    const fillingBytesPerSecond = this.#forecast.bytesPerSecond(numbers.moved * blockBytes);
    return {
      store: path,
      blockBytes,
      sizeBytes,
      usedBytes,
      fillingBytesPerSecond,
      fullInSeconds: secondsUntilFull(sizeBytes - usedBytes, fillingBytesPerSecond),
      warnings: this.#warnings,
      whenFull: fullPolicy,
      counts: numbers,
    };
  }
}
