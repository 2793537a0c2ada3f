/**
 * One seed: a volume's whole history, of several lives of its daemon, with whatever chance does to it.
 *
 * Deterministic: everything that happens comes from the seed. Throws where an oracle is violated.
 */
import { createNvram } from "../../src/nvram/nvram-file.ts";
import { SimDisk } from "./disk.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { Host } from "./host.ts";
import { SimMemory } from "./memory.ts";
import { covers } from "./oracle.ts";
import { Random } from "./random.ts";
import { SECTOR_BYTES } from "./stamps.ts";
import { Death, World, type Faults } from "./world.ts";

const SALT = 0x51e1ce;
const DEPTH = 8;
const MAX_SECTORS = 24;
/** Of the life at the end, in which nothing fails. */
const LAST_TURNS = 30;
const MARK = 7n;

/** What a seed makes of the world. */
export interface Plan {
  readonly sectorsPerChunk: number;
  readonly chunks: number;
  readonly grownChunks: number;
  readonly limitChunks: number;
  readonly nvramKind: "memory" | "file";
  readonly lives: number;
  readonly faults: Faults;
  /** How often the remote gets a turn. */
  readonly drainShare: number;
  readonly rots: boolean;
  /** Volume and remote are equal at the start, and the record is empty. */
  readonly inSync: boolean;
}

function planOf(random: Random): Plan {
  // A large volume has a record of several pages; its chunks are small so that it costs no more than the others.
  const isLarge = random.chance(0.03);
  const chunks = isLarge ? 35_000 : random.pick([9, 40, 500, 1000]);
  return {
    sectorsPerChunk: isLarge ? 1 : 8,
    chunks,
    grownChunks: random.chance(0.3) ? chunks + 1 + random.below(600) : chunks,
    limitChunks: random.pick(isLarge ? [40, 500] : [8, 12, 30, 2000]),
    nvramKind: random.chance(0.5) ? "memory" : "file",
    lives: 1 + random.below(4),
    faults: random.chance(0.5)
      ? { failures: 0, shortTransfers: 0 }
      : { failures: random.pick([0, 0.02, 0.1]), shortTransfers: random.pick([0, 0.1, 0.3]) },
    drainShare: random.pick([0.05, 0.3, 0.6]),
    rots: random.chance(0.1),
    inSync: isLarge || random.chance(0.8),
  };
}

/** A write of a whole chunk, a flush, or one step of the copying to the remote. */
export type Command = number | "flush" | "copy";

export class History {
  readonly lines: string[] = [];
  readonly #verbose: boolean;
  readonly #random: Random;
  /** Of what happens between lives: it does not change what seeds have been to the lives themselves. */
  readonly #afterwards: Random;
  readonly #plan: Plan;
  readonly #disk: SimDisk;
  readonly #remote: Int32Array;
  readonly #nvram: SimMemory;
  readonly #host: Host;
  #chunks: number;
  #stepsLeft = 0;
  #engine: Engine | undefined;
  #grown = false;
  /** What happened in it, for those who want to know whether histories reach what they are to reach. */
  readonly reached = { powerCuts: 0, kills: 0, cleanStops: 0, updates: 0, answers: 0, grown: 0 };

  constructor(seed: number, verbose: boolean, plan?: Plan) {
    this.#verbose = verbose;
    this.#random = new Random(seed);
    this.#afterwards = new Random(~seed);
    this.#plan = plan ?? planOf(this.#random);
    const { chunks, grownChunks } = this.#plan;
    this.#chunks = chunks;
    this.#disk = new SimDisk(grownChunks * this.#plan.sectorsPerChunk);
    this.#remote = new Int32Array(this.#disk.sectors);
    this.#nvram = new SimMemory(this.#plan.nvramKind === "memory" ? 8 : SECTOR_BYTES, () => this.#step());
    this.#host = new Host(
      {
        depth: DEPTH,
        sectorsMax: this.#disk.sectors,
        maxSectors: MAX_SECTORS,
        maxZeroSectors: this.#plan.sectorsPerChunk === 1 ? MAX_SECTORS : 4 * this.#plan.sectorsPerChunk,
      },
      chunks * this.#plan.sectorsPerChunk,
      this.#random,
    );
  }

  get #chunkBytes(): number {
    return this.#plan.sectorsPerChunk * SECTOR_BYTES;
  }

  #tell(line: () => string): void {
    if (this.#verbose) this.lines.push(line());
  }

  /** The process may die here. */
  #step(): void {
    if (--this.#stepsLeft === 0) throw new Death("the process dies");
  }

  get #options(): EngineOptions {
    const { limitChunks, nvramKind } = this.#plan;
    const owner = { volume: "sim", mark: MARK, volumeBytes: this.#chunks * this.#chunkBytes };
    return { owner, limitChunks, depth: DEPTH, nvramKind };
  }

  run(): void {
    this.#tell(() => JSON.stringify(this.#plan));
    this.#create();
    for (let life = 0; life < this.#plan.lives; life++) this.#live(false);
    this.#live(true, LAST_TURNS);
  }

  /**
   * Carries out commands one after another, each to its end, and dies at a step; then a life without faults follows, in
   * which everything is copied. False when the step was never reached.
   */
  runScript(commands: readonly Command[], dieAt: number, how: "power cut" | "kill"): boolean {
    createNvram(this.#nvram, this.#options.owner, { chunkBytes: this.#chunkBytes, salt: SALT, inSync: true });
    const world = this.#world(this.#plan.faults);
    const engine = this.#start(world);
    this.#stepsLeft = dieAt;
    try {
      for (const command of commands) this.#carryOut(command, engine, world);
      return false;
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      this.#die(world, how);
    }
    this.#live(true, 0);
    return true;
  }

  #carryOut(command: Command, engine: Engine, world: World): void {
    const submit = (request: Parameters<Engine["submit"]>[0]): void => this.#submit(engine, world, request);
    const { sectorsPerChunk } = this.#plan;
    if (command === "copy") this.#drain(engine, false);
    else if (command === "flush") this.#host.askFor(0, 0, submit);
    else this.#host.askFor(command * sectorsPerChunk, sectorsPerChunk, submit);
    for (let rounds = 0; command !== "copy" && this.#host.inFlight > 0; rounds++) {
      world.endBatch();
      if (!world.isIdle) world.complete();
      // What is held for want of room waits for the remote.
      else this.#drain(engine, false);
      if (rounds > 1000) throw new Error("a command does not come to its end");
    }
    this.#step();
  }

  /** The file is made again until its making has come to an end. */
  #create(): void {
    for (let attempt = 0; ; attempt++) {
      this.#stepsLeft = attempt < 2 ? this.#random.below(12) : 0;
      try {
        createNvram(this.#nvram, this.#options.owner, {
          chunkBytes: this.#chunkBytes,
          salt: SALT,
          inSync: this.#plan.inSync,
        });
        return;
      } catch (error) {
        if (!(error instanceof Death)) throw error;
        this.#nvram.cutPower(this.#random);
      }
    }
  }

  #live(isLast: boolean, lastTurns = 0): void {
    const random = this.#random;
    const faults = isLast ? { failures: 0, shortTransfers: 0 } : this.#plan.faults;
    const world = this.#world(faults);
    this.#stepsLeft = isLast ? 0 : 10 + random.below(400);
    if (!this.#grown && random.chance(0.5)) {
      this.#grown = true;
      this.#chunks = this.#plan.grownChunks;
      this.#host.sectors = this.#chunks * this.#plan.sectorsPerChunk;
      if (this.#plan.grownChunks > this.#plan.chunks) this.#grow();
    }
    try {
      const engine = this.#start(world);
      const turns = isLast ? lastTurns : random.chance(0.2) ? random.below(150) : Infinity;
      for (let turn = 0; turn < turns; turn++) this.#turn(engine, world);
      this.#stop(engine, world, isLast);
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      this.#die(world, random.chance(0.6) ? "power cut" : "kill");
    } finally {
      this.reached.updates += this.#engine?.opened.record.counts.read().updates ?? 0;
      this.reached.answers = this.#host.answers;
      this.#engine = undefined;
    }
  }

  #world(faults: Faults): World {
    const watcher = {
      storeChanges: (offset: number, length: number): void => this.#checkCovered(offset, length),
      tell: (line: () => string): void => this.#tell(line),
    };
    return new World(this.#random, this.#disk, this.#nvram, faults, watcher, () => this.#step());
  }

  #start(world: World): Engine {
    this.#tell(() => "the daemon starts");
    const engine = new Engine(this.#options, world, this.#host);
    this.#engine = engine;
    this.#host.attach(world, (line) => this.#tell(line));
    this.#host.repeat((request) => engine.submit(request));
    world.endBatch();
    return engine;
  }

  /** What the volume gains is not what the remote has, whatever that is; and the process may well die while it grows. */
  #grow(): void {
    this.#remote.fill(-1, this.#plan.chunks * this.#plan.sectorsPerChunk);
    if (this.#stepsLeft > 0 && this.#random.chance(0.5)) this.#stepsLeft = 1 + this.#random.below(12);
    this.reached.grown++;
  }

  /** A few things happen, then the batch ends. */
  #turn(engine: Engine, world: World): void {
    const random = this.#random;
    for (let events = 1 + random.below(4); events > 0; events--) {
      if (random.chance(this.#plan.drainShare)) this.#drain(engine, random.chance(0.1));
      if (random.chance(0.5)) this.#host.ask((request) => this.#submit(engine, world, request));
      else if (!world.isIdle) world.complete();
    }
    world.endBatch();
    this.#step();
  }

  #drain(engine: Engine, fails: boolean): void {
    const copy = (chunk: number): void => {
      const first = chunk * this.#plan.sectorsPerChunk;
      this.#remote.set(this.#disk.current.subarray(first, first + this.#plan.sectorsPerChunk), first);
      this.#tell(() => `copied chunk ${chunk}`);
    };
    engine.drain.tick(this.#random, copy, fails);
  }

  /** R3: what the record covers goes through at once. */
  #submit(engine: Engine, world: World, request: Parameters<Engine["submit"]>[0]): void {
    const changes = request.operation !== 0 && request.operation !== 2;
    const { record } = engine.opened;
    const [first, last] = [
      Math.floor(request.offset / this.#chunkBytes),
      Math.floor((request.offset + request.length - 1) / this.#chunkBytes),
    ];
    let covered = changes && !record.isUpdating && !record.isRepairing;
    for (let chunk = first; chunk <= last && covered; chunk++) {
      covered = this.#covered(this.#nvram.durable, chunk) && this.#covered(this.#nvram.working, chunk);
      // What was to be removed in an update that has not been made yet is covered still, but not relied upon.
      covered &&= record.places.isMember(chunk);
    }
    const before = world.changes;
    engine.submit(request);
    if (covered && world.changes === before) {
      throw new Error(`R3: a write to chunks ${first} to ${last}, all in the durable record, was held`);
    }
  }

  #covered(bytes: Uint8Array, chunk: number): boolean {
    return covers(bytes, (this.#engine as Engine).place.offset, SALT, chunk);
  }

  /** R1: nothing is changed that a crash now would not find in the record. */
  #checkCovered(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / this.#chunkBytes);
    for (let chunk = Math.floor(offset / this.#chunkBytes); chunk <= last; chunk++) {
      if (!this.#covered(this.#nvram.durable, chunk) || !this.#covered(this.#nvram.working, chunk)) {
        throw new Error(`R1: chunk ${chunk} is written, but is not durably in the record`);
      }
    }
  }

  /** R2: what a crash leaves covers every place where volume and remote differ. */
  #checkSuperset(offset: number, when: string, bytes = this.#nvram.durable): void {
    for (let chunk = 0; chunk < this.#chunks; chunk++) {
      const first = chunk * this.#plan.sectorsPerChunk;
      for (let sector = first; sector < first + this.#plan.sectorsPerChunk; sector++) {
        if (this.#remote[sector] === this.#disk.current[sector]) continue;
        if (covers(bytes, offset, SALT, chunk)) break;
        throw new Error(
          `R2: ${when}: sector ${sector} shows write ${this.#disk.current[sector]}, the remote ${this.#remote[sector]}, and chunk ${chunk} is not in the record`,
        );
      }
    }
  }

  /** A clean stop must have made durable whatever it took out of the record. */
  #cutPowerAfterStop(engine: Engine): void {
    this.#tell(() => "a power cut after the stop");
    this.#disk.cutPower(this.#afterwards);
    this.#nvram.cutPower(this.#afterwards);
    for (let sector = 0; sector < this.#chunks * this.#plan.sectorsPerChunk; sector++) {
      this.#host.oracle.check(
        sector,
        this.#disk.current[sector] as number,
        "floor",
        "R5: after a stop and a power cut",
      );
    }
    this.#host.oracle.settle(this.#disk);
    this.#checkSuperset(engine.place.offset, "after a stop and a power cut");
  }

  #die(world: World, how: "power cut" | "kill"): void {
    this.#tell(() => how);
    world.end(how);
    if (how === "kill") this.reached.kills++;
    else this.reached.powerCuts++;
    const from = how === "kill" ? "acknowledged" : "floor";
    for (let sector = 0; sector < this.#chunks * this.#plan.sectorsPerChunk; sector++) {
      this.#host.oracle.check(sector, this.#disk.current[sector] as number, from, `R5: after a ${how}`);
    }
    if (how === "power cut") {
      this.#host.oracle.settle(this.#disk);
      this.#host.forget();
    }
    const place = this.#engine?.place;
    if (place === undefined) return;
    this.#checkSuperset(place.offset, `after a ${how}`, this.#nvram.working);
    if (this.#plan.rots) this.#nvram.rot(place.offset + this.#random.below(place.lengthBytes), this.#random.below(8));
    if (this.#plan.rots) this.#checkSuperset(place.offset, "after a bit has turned over", this.#nvram.working);
  }

  /** A clean end: everything is answered, and the record says what is owed, and no more. */
  #stop(engine: Engine, world: World, drainAll: boolean): void {
    for (let rounds = 0; this.#host.inFlight > 0; rounds++) {
      if (rounds > 100_000) throw new Error(`${this.#host.inFlight} requests are never answered`);
      if (!world.isIdle) world.complete();
      this.#drain(engine, false);
      world.endBatch();
    }
    if (drainAll) while (!engine.drain.isIdle) this.#drain(engine, false);
    engine.close();
    this.reached.cleanStops++;
    this.#tell(() => "the daemon has stopped");
    this.#checkSuperset(engine.place.offset, "after a clean stop");
    if (!drainAll && this.#afterwards.chance(0.5)) this.#cutPowerAfterStop(engine);
    if (!drainAll) return;
    for (let chunk = 0; chunk < this.#chunks; chunk++) {
      if (this.#covered(this.#nvram.durable, chunk)) throw new Error(`chunk ${chunk} is owed by nobody, but recorded`);
    }
    for (let sector = 0; sector < this.#chunks * this.#plan.sectorsPerChunk; sector++) {
      if (this.#remote[sector] !== this.#disk.current[sector])
        throw new Error(`the remote differs in sector ${sector}`);
    }
  }
}
