/** The production engine, put together over a simulated world: what a daemon is between its start and its death. */
import type { PredictiveRecord } from "../../src/nvram/record.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { belowRecord, openRecord, type BelowRecord, type OpenRecord } from "../../src/targets/open-record.ts";
import { DaxPersistence } from "../../src/nvram/dax-persistence.ts";
import type { Drain } from "../../src/nvram/drain.ts";
import { FilePersistence } from "../../src/nvram/file-persistence.ts";
import { openNvram, type NvramOwner, type RecordPlace } from "../../src/nvram/nvram-file.ts";
import type { Persistence } from "../../src/nvram/persistence.ts";
import type { Places } from "../../src/nvram/places.ts";
import type { Request } from "../../src/ublk/request.ts";
import type { Host } from "./host.ts";
import type { Random } from "./random.ts";
import { DATA_FILE, NVRAM_FILE, type World } from "./world.ts";

export interface EngineOptions {
  readonly owner: NvramOwner;
  readonly limitChunks: number;
  readonly depth: number;
  readonly nvramKind: "memory" | "file";
}

/** The remote, and the copying to it: chunk by chunk, of what the volume shows when chance says so. */
export class SimDrain implements Drain {
  readonly #places: Places;
  readonly #owed = new Set<number>();
  readonly #copying: number[] = [];

  constructor(places: Places) {
    this.#places = places;
  }

  /** Everything that was owed before the process died is owed still. */
  begin(): void {
    for (let position = 0; position < this.#places.count; position++) this.#owed.add(this.#places.member(position));
  }

  written(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) this.#owed.add(chunk);
  }

  get isIdle(): boolean {
    return this.#owed.size === 0 && this.#copying.length === 0;
  }

  /** Begins to copy a chunk, or ends with one; `copy` carries the bytes over. */
  tick(random: Random, copy: (chunk: number) => void, fails: boolean): void {
    if (this.#copying.length > 0 && (this.#owed.size === 0 || random.chance(0.5))) {
      const chunk = this.#copying.shift() as number;
      if (!fails) copy(chunk);
      this.#places.endCopy(chunk, !fails);
      if (fails) this.#owed.add(chunk);
      return;
    }
    for (const chunk of this.#owed) {
      if (!this.#places.beginCopy(chunk)) continue;
      this.#owed.delete(chunk);
      this.#copying.push(chunk);
      return;
    }
  }
}

export class Engine {
  readonly place: RecordPlace;
  readonly drain: SimDrain;
  readonly opened: OpenRecord;
  readonly #host: Host;

  constructor(options: EngineOptions, world: World, host: Host) {
    this.#host = host;
    this.place = openNvram(world.nvram, options.owner);
    const context = world.context(options.depth);
    const file = new FileTarget(
      {
        fd: DATA_FILE,
        isBlockDevice: false,
        punchesHoles: world.random.chance(0.8),
        zeroesRanges: world.random.chance(0.8),
      },
      belowRecord(context),
    );
    let drain: SimDrain | undefined;
    const setup = { place: this.place, limitChunks: options.limitChunks };
    const persistence = this.#persistence(options, world, context.useFile(NVRAM_FILE));
    const openBelow = ({ places }: PredictiveRecord): BelowRecord => ({
      drain: (drain = new SimDrain(places)),
      next: file,
    });
    this.opened = openRecord(setup, persistence, openBelow, context);
    this.drain = drain as unknown as SimDrain;
  }

  #persistence({ nvramKind }: EngineOptions, world: World, file: number): Persistence {
    const { offset, lengthBytes } = this.place;
    const { nvram } = world;
    if (nvramKind === "file") return new FilePersistence(world, file, offset, nvram.read(offset, lengthBytes));
    const bytes = nvram.working.subarray(offset, offset + lengthBytes);
    return new DaxPersistence(bytes, (at, length) => {
      nvram.persist(offset + at, length);
    });
  }

  submit(request: Request): void {
    this.#host.pass(request, this.opened.target);
  }

  close(): void {
    this.opened.target.close();
  }
}
