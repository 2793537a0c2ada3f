/**
 * One seed of copy-on-write: a volume, its store of originals, points that are taken, read and dropped, and a daemon that
 * dies at any step. Throws where an oracle is violated.
 *
 * The oracle of a point: it shows exactly what the volume would have shown when it was taken, had everything that was under
 * way then come to its end, and goes on showing it whatever is written, or dies, afterwards. The oracle of a volume that is
 * held back: nothing that comes meanwhile reaches it, nor is answered, so that no point that is taken shows it.
 * The oracle of a rollback: in the end, however often it had to be begun, the volume shows what the point shows.
 */
import { FileTarget } from "../../src/targets/file.ts";
import { belowCow, type CowTarget, type FullPolicy } from "../../src/targets/cow/cow-target.ts";
import type { Point } from "../../src/targets/cow/catalog.ts";
import { CowCounts } from "../../src/targets/cow/cow-counts.ts";
import type { PointKind } from "../../src/targets/cow/catalog.ts";
import type { BlockRun } from "../../src/targets/cow/points.ts";
import { Layout } from "../../src/targets/cow/layout.ts";
import { openCow } from "../../src/targets/cow/open-cow.ts";
import { Rollback, type RollbackResult } from "../../src/targets/cow/rollback.ts";
import { createStore } from "../../src/targets/cow/store-file.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { SimDisk } from "./disk.ts";
import { Host } from "./host.ts";
import { SimMemory } from "./memory.ts";
import { OutsideCopy } from "./outside-copy.ts";
import { Random } from "./random.ts";
import { SimCopy } from "./sim-copy.ts";
import { readStamp, SECTOR_BYTES } from "./stamps.ts";
import { DATA_FILE, Death, World, type Faults } from "./world.ts";

const DEPTH = 8;
/** Of the queue: the host's, and one that an outside copy reads with. */
const SLOTS = DEPTH + 1;
const OUTSIDE_SLOT = DEPTH;
const MAX_SECTORS = 24;
const VIEW_SECTORS = 16;
const MARK = 7n;
const SALT = 0x51e1ce;
const OWNER = { volume: "sim", mark: MARK };
const LAST_TURNS = 30;
const HOLD_TURNS = 30;

interface Plan {
  readonly sectors: number;
  readonly sectorsPerBlock: number;
  readonly slotsPerSegment: number;
  readonly segments: number;
  readonly lives: number;
  readonly faults: Faults;
  readonly fullPolicy: FullPolicy;
  readonly pointShare: number;
  readonly points: number;
  /** Of the points, so many are those of copies. */
  readonly copyShare: number;
}

function planOf(random: Random): Plan {
  const isFaulty = random.chance(0.2);
  return {
    sectors: random.pick([50, 101, 300]),
    sectorsPerBlock: random.pick([1, 2, 4]),
    slotsPerSegment: random.pick([4, 9, 33, 64]),
    segments: random.pick([6, 8, 20, 60]),
    lives: 1 + random.below(4),
    faults: isFaulty
      ? {
          failures: random.pick([0.001, 0.02]),
          readFailures: random.pick([0, 0.02]),
          breaks: random.pick([0, 0.01]),
          shortTransfers: 0.2,
        }
      : { failures: 0, shortTransfers: random.pick([0, 0.2]) },
    fullPolicy: "invalidate",
    pointShare: random.pick([0.01, 0.05]),
    points: random.pick([1, 3, 8]),
    copyShare: random.pick([0, 0.3]),
  };
}

/** A read of a point. */
interface View {
  readonly name: string;
  readonly sector: number;
  readonly request: Request;
}

/** The volume while it is held back. */
interface Hold {
  /** Slots of the host whose overwrites and flushes came since it was. */
  readonly came: Set<number>;
  turnsLeft: number;
}

/** What a point must show. */
interface Expected {
  readonly epoch: number;
  readonly name: string;
  readonly kind: PointKind;
  readonly shows: Int32Array;
  /** Slots of the host whose requests were under way when it was taken. */
  readonly underWay: Set<number>;
  /** It is being taken, or dropped. */
  isAsked: boolean;
  /** It was durable once. */
  wasTaken: boolean;
  state: "being taken" | "taken" | "being dropped" | "being given up" | "given up";
}

export class CowHistory implements Layer {
  readonly lines: string[] = [];
  readonly #verbose: boolean;
  readonly #random: Random;
  readonly #plan: Plan;
  /** For holding the volume back, which most histories know nothing of. */
  readonly #holds: Random;
  /** How often, per turn, that begins. */
  readonly #holdShare: number;
  /** How often a life begins with a rollback. */
  readonly #rollbackShare: number;
  /** What is to be rolled back to, until it has been: kept over the lives. */
  #rollingBackTo: string | undefined;
  #rollbacks = 0;
  readonly #disk: SimDisk;
  readonly #storage: SimMemory;
  readonly #host: Host;
  readonly #expected = new Map<string, Expected>();
  /** Where the history has bulk copies. */
  readonly #outside: OutsideCopy | undefined;
  readonly #note = {
    isThere: false,
    write: () => void (this.#note.isThere = true),
    clear: () => void (this.#note.isThere = false),
  };
  #counts = new CowCounts();
  #faultless = false;
  #engine: CowTarget | undefined;
  #names = 0;
  #stepsLeft = 0;
  /** Points that are being taken or dropped. */
  #asked = 0;
  readonly #copies = new Map<string, SimCopy>();
  #hold: Hold | undefined;
  /** Reads of points that are under way, by slot. */
  readonly #views: (View | undefined)[] = new Array<View | undefined>(DEPTH).fill(undefined);
  readonly reached = {
    powerCuts: 0,
    kills: 0,
    cleanStops: 0,
    points: 0,
    dropped: 0,
    givenUp: 0,
    viewReads: 0,
    answers: 0,
    moved: 0,
    relocated: 0,
    held: 0,
    torn: 0,
    diffs: 0,
    copies: 0,
    heldBack: 0,
    pointsHeld: 0,
    bulks: 0,
    rollbacks: 0,
    rollbacksBegunAgain: 0,
  };

  constructor(seed: number, verbose: boolean, { hasBulkCopies = false } = {}) {
    this.#verbose = verbose;
    this.#random = new Random(seed ^ 0x0c0f);
    this.#plan = planOf(this.#random);
    this.#holds = new Random(seed ^ 0x401d);
    this.#holdShare = this.#holds.pick([0, 0, 0.02]);
    this.#rollbackShare = this.#holds.pick([0, 0, 0.6]);
    this.#disk = new SimDisk(this.#plan.sectors);
    this.#storage = new SimMemory(SECTOR_BYTES, () => this.#step());
    const habits = {
      depth: DEPTH,
      sectorsMax: this.#plan.sectors,
      maxSectors: MAX_SECTORS,
      maxZeroSectors: 40,
    };
    this.#host = new Host(habits, this.#plan.sectors, this.#random);
    if (hasBulkCopies) this.#outside = this.#newOutsideCopy(seed);
    this.#host.whenAnswered = (slot) => {
      if (this.#hold?.came.has(slot) === true) throw new Error(`slot ${slot} is answered, but the volume is held back`);
      for (const { underWay } of this.#expected.values()) underWay.delete(slot);
    };
  }

  #newOutsideCopy(seed: number): OutsideCopy {
    const { sectors, sectorsPerBlock, faults } = this.#plan;
    const options = {
      ...{ sectors, sectorsPerBlock, seed, slot: OUTSIDE_SLOT },
      mayFail: faults.failures > 0,
      tell: (line: () => string) => this.#tell(line),
    };
    const outside = new OutsideCopy(options, this.#random);
    outside.whenDone = (epoch) => {
      const expected = [...this.#expected.values()].find((each) => each.epoch === epoch);
      this.reached.bulks++;
      if (expected !== undefined) this.#drop(this.#engine as CowTarget, expected);
    };
    return outside;
  }

  #tell(line: () => string): void {
    if (this.#verbose) this.lines.push(line());
  }

  #step(): void {
    if (--this.#stepsLeft === 0) throw new Death("the process dies");
  }

  get #layout(): Layout {
    const { sectorsPerBlock, slotsPerSegment, segments } = this.#plan;
    const blockBytes = sectorsPerBlock * SECTOR_BYTES;
    return new Layout({ blockBytes, sectorBytes: 512, slotsPerSegment, segments, catalogBytes: 2048 });
  }

  run(): void {
    this.#tell(() => JSON.stringify(this.#plan));
    createStore(this.#storage, OWNER, this.#layout.geometry, SALT);
    this.#storage.write(this.#layout.sizeBytes - 1, new Uint8Array(1));
    this.#storage.sync();
    for (let life = 0; life < this.#plan.lives; life++) this.#live(false);
    this.#live(true);
  }

  #live(isLast: boolean): void {
    const random = this.#random;
    this.#faultless = isLast;
    const faults = isLast ? { failures: 0, shortTransfers: 0 } : { ...this.#plan.faults, tears: true };
    const watcher = {
      storeChanges: () => undefined,
      changed: (slot: number, sector: number) => this.#changed(slot, sector),
      tell: (line: () => string) => this.#tell(line),
    };
    const world = new World(random, this.#disk, this.#storage, faults, watcher, () => this.#step());
    this.#stepsLeft = isLast ? 0 : 10 + random.below(600);
    try {
      const engine = this.#start(world);
      if (this.#rollbackShare > 0) this.#maybeRollBack(engine, world);
      if (isLast || random.chance(0.3)) this.#verify(engine, world);
      const turns = isLast ? LAST_TURNS : random.chance(0.2) ? random.below(200) : Infinity;
      for (let turn = 0; turn < turns; turn++) this.#turn(engine, world);
      this.#stop(engine, world, isLast);
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      this.#die(world, random.chance(0.6) ? "power cut" : "kill");
    } finally {
      this.reached.answers = this.#host.answers;
      const { moved, relocated, held, givenUp } = this.#counts.read();
      this.reached.moved += moved;
      this.reached.relocated += relocated;
      this.reached.held += held;
      this.reached.givenUp += givenUp;
    }
  }

  #start(world: World): CowTarget {
    this.#tell(() => "the daemon starts");
    this.#asked = 0;
    this.#hold = undefined;
    this.#counts = new CowCounts();
    const context = world.context(SLOTS);
    const groupBlocks = this.#random.pick([1, 3, 16]);
    const tuning = { groupBlocks, pieces: 3, pieceBytes: 4 * SECTOR_BYTES };
    const file = new FileTarget(
      { fd: DATA_FILE, isBlockDevice: false, punchesHoles: true, zeroesRanges: true },
      belowCow(context, tuning),
    );
    const options = {
      file: context.useFile(1),
      volumeBytes: this.#plan.sectors * SECTOR_BYTES,
      tuning,
      fullPolicy: this.#plan.fullPolicy,
      lossNote: this.#note,
      counts: this.#counts,
    };
    const engine = openCow(this.#storage, OWNER, options, file, context);
    this.#engine = engine;
    this.reached.torn += engine.tornAtStart;
    this.#compareCatalog(engine);
    this.#host.attach(world, (line) => this.#tell(line));
    for (let slot = 0; slot < DEPTH; slot++) {
      const memory = world.memory(VIEW_SECTORS * SECTOR_BYTES);
      this.#requests[slot] = new Request(slot, new Uint8Array(memory.buffer), memory.address);
      this.#views[slot] = undefined;
    }
    this.#outside?.attach(world.memory(VIEW_SECTORS * SECTOR_BYTES), engine);
    this.#host.repeat((request) => this.#host.pass(request, engine));
    for (const [name, { kind, state }] of this.#expected)
      if (kind === "copy" && state === "taken") this.#startCopy(engine, name);
    world.endBatch();
    return engine;
  }
  readonly #requests: Request[] = [];

  #startCopy(engine: CowTarget, name: string): void {
    const { epoch, shows } = this.#expected.get(name) as Expected;
    const { sectorsPerBlock } = this.#plan;
    const copy =
      this.#copies.get(name) ?? new SimCopy(epoch, shows, sectorsPerBlock, this.#random, (line) => this.#tell(line));
    this.#copies.set(name, copy);
    copy.attach(engine, { failures: this.#faultless ? 0 : 0.02 });
  }

  /** What a copy waits for happens; its point goes when it is complete. */
  #stepCopies(engine: CowTarget): void {
    for (const [name, copy] of [...this.#copies]) {
      const expected = this.#expected.get(name);
      if (expected?.state !== "taken" || expected.isAsked || copy.isReading) continue;
      copy.step();
      if (!copy.isComplete) continue;
      this.reached.copies++;
      this.#drop(engine, expected);
    }
  }

  /** What was promised is there, what was dropped is not. What was under way may be either. */
  #compareCatalog(engine: CowTarget): void {
    const found = new Map(engine.points.map((point) => [point.name, point]));
    for (const [name, expected] of this.#expected) {
      const point = found.get(name);
      found.delete(name);
      if (point === undefined) {
        if (expected.wasTaken && expected.state !== "being dropped")
          throw new Error(`point ${name} was taken, but is gone`);
        this.#expected.delete(name);
      } else {
        if (point.epoch !== expected.epoch) throw new Error(`point ${name} has another epoch`);
        if (point.state !== "valid") {
          if (expected.state === "taken" && !this.#mayGiveUp()) throw new Error(`point ${name} is ${point.state}`);
          expected.state = "given up";
        } else if (expected.state === "given up") throw new Error(`point ${name} was given up, but is valid`);
        else {
          if (expected.underWay.size > 0) throw new Error(`point ${name} is durable, but has not been drained`);
          expected.state = "taken";
        }
        expected.isAsked = false;
        expected.wasTaken = true;
      }
    }
    if (found.size > 0) throw new Error(`points that are not to be: ${[...found.keys()].join(", ")}`);
  }

  /** Whether the plan gives a reason to. */
  #mayGiveUp(): boolean {
    return this.#plan.segments < 60 || this.#plan.slotsPerSegment < 33 || this.#plan.faults.failures > 0;
  }

  /** Points that the engine has given up by itself. */
  #lookAtPoints(): void {
    for (const { name, state, epoch } of this.#engine?.points ?? []) {
      const expected = this.#expected.get(name);
      if (state === "valid" || expected === undefined || expected.state === "given up") continue;
      if (this.#engine?.leaving.includes(epoch) === true) {
        expected.state = "being given up";
        continue;
      }
      if (!this.#mayGiveUp()) throw new Error(`point ${name} was given up without a reason: ${state}`);
      this.#tell(() => `point ${name} is given up: ${state}`);
      expected.state = "given up";
    }
  }

  /** A sector of the volume has changed: what was under way when a point was taken belongs to it. */
  #changed(slot: number, sector: number): void {
    if (slot >= DEPTH) throw new Error(`a request of the engine's own, ${slot}, changes the volume`);
    if (this.#hold?.came.has(slot) === true) throw new Error(`slot ${slot} changes a volume that is held back`);
    for (const { underWay, shows } of this.#expected.values()) {
      if (underWay.has(slot)) shows[sector] = this.#disk.current[sector] as number;
    }
  }

  #turn(engine: CowTarget, world: World): void {
    const random = this.#random;
    if (this.#holdShare > 0) this.#holdOrLetGo(engine);
    for (let events = 1 + random.below(4); events > 0; events--) {
      if (random.chance(this.#plan.pointShare)) this.#takeOrDrop(engine, world);
      if (random.chance(0.2)) this.#readPoint(engine);
      if (this.#outside !== undefined && random.chance(0.3)) this.#copyOutside(this.#outside, engine, world);
      if (random.chance(0.02)) this.#diff(engine);
      if (random.chance(0.5)) this.#stepCopies(engine);
      if (random.chance(0.5)) this.#host.ask((request) => this.#submit(engine, request));
      else if (!world.isIdle) world.complete();
    }
    world.endBatch();
    this.#lookAtPoints();
    this.#step();
  }

  /** Whoever holds the volume back takes a point, as often as not, and lets go; or dies, and a deadline lets go. */
  #holdOrLetGo(engine: CowTarget): void {
    if (this.#hold === undefined) {
      if (!this.#holds.chance(this.#holdShare)) return;
      this.#tell(() => "hold back");
      this.#hold = { came: new Set(), turnsLeft: this.#holds.below(HOLD_TURNS) };
      engine.holdBack();
    } else if (this.#hold.turnsLeft-- === 0) this.#letGo(engine);
  }

  #letGo(engine: CowTarget): void {
    this.#tell(() => "let go");
    this.#hold = undefined;
    engine.letGo();
  }

  #submit(engine: CowTarget, request: Request): void {
    if (this.#hold !== undefined && request.operation !== Operation.READ) {
      this.#hold.came.add(request.slot);
      this.reached.heldBack++;
    }
    this.#host.pass(request, engine);
  }

  #copyOutside(outside: OutsideCopy, engine: CowTarget, world: World): void {
    if (outside.isActive) outside.turn(engine);
    else if ([...this.#expected.values()].every(({ kind }) => kind !== "bulk")) {
      const expected = this.#take(engine, world, "bulk", outside.choose(engine));
      const { epoch, name, shows } = expected;
      outside.begin({
        ...{ epoch, name, shows },
        isTaken: () => expected.state === "taken",
        isLost: () => {
          this.#lookAtPoints();
          return this.#expected.get(name) !== expected || /dropped|given up/.test(expected.state);
        },
      });
    }
  }

  #takeOrDrop(engine: CowTarget, world: World): void {
    const taken = [...this.#expected.values()].filter(
      ({ state, isAsked }) => !isAsked && (state === "taken" || state === "given up"),
    );
    const kind = this.#random.chance(this.#plan.copyShare) ? "copy" : "snapshot";
    if (this.#expected.size < this.#plan.points && this.#random.chance(0.7)) {
      this.#take(engine, world, kind);
      this.#outside?.pointIsTaken();
    } else if (taken.length > 0) this.#drop(engine, this.#random.pick(taken));
  }

  #take(engine: CowTarget, world: World, kind: PointKind, passed: readonly BlockRun[] = []): Expected {
    const name = `${kind === "copy" ? "c" : "p"}${++this.#names}`;
    this.#tell(() => `take ${name}`);
    const shows = this.#disk.current.slice();
    const underWay = new Set([...world.changing].filter((slot) => slot < DEPTH));
    const epoch = engine.lastEpoch + 1;
    const expected: Expected = {
      ...{ epoch, kind, name, shows, underWay },
      ...{ isAsked: true, wasTaken: false, state: "being taken" },
    };
    this.#expected.set(name, expected);
    this.#asked++;
    engine.takePoint(
      kind,
      name,
      0,
      (result) => {
        this.#asked--;
        expected.isAsked = false;
        this.#tell(() => `taken ${name}: ${typeof result === "number" ? result : "yes"}`);
        if (typeof result === "number") {
          if (this.#plan.faults.failures === 0) throw new Error(`point ${name} could not be taken: ${result}`);
          if (!engine.points.some((point) => point.name === name)) this.#expected.delete(name);
          return;
        }
        if (expected.underWay.size > 0) throw new Error(`point ${name} was taken before what was under way had ended`);
        if (result.epoch !== epoch) throw new Error(`point ${name} has epoch ${result.epoch}, not ${epoch}`);
        this.reached.points++;
        if (this.#hold !== undefined) this.reached.pointsHeld++;
        expected.wasTaken = true;
        if (expected.state !== "being taken") return;
        expected.state = "taken";
        if (kind === "copy") this.#startCopy(engine, name);
      },
      passed,
    );
    return expected;
  }

  #drop(engine: CowTarget, expected: Expected): void {
    // Whoever exports it is asked to stop first.
    if (this.#views.some((view) => view?.name === expected.name)) return;
    if (this.#copies.get(expected.name)?.isReading === true) return;
    this.#copies.get(expected.name)?.cancel();
    this.#tell(() => `drop ${expected.name}`);
    expected.state = "being dropped";
    expected.isAsked = true;
    this.#asked++;
    engine.dropPoint(expected.epoch, (result) => {
      this.#asked--;
      this.#tell(() => `dropped ${expected.name}: ${result}`);
      if (result === 0) {
        this.#expected.delete(expected.name);
        this.#copies.delete(expected.name);
        this.reached.dropped++;
      } else if (this.#plan.faults.failures === 0) throw new Error(`point ${expected.name} could not be dropped`);
    });
  }

  /** Those that can be read: what a bulk copy's point shows is not kept once it is marked. */
  #snapshots(): Expected[] {
    return [...this.#expected.values()].filter(({ state, kind }) => state === "taken" && kind === "snapshot");
  }

  #readPoint(engine: CowTarget): void {
    const slot = this.#views.indexOf(undefined);
    const taken = this.#snapshots();
    if (slot < 0 || taken.length === 0) return;
    const expected = this.#random.pick(taken);
    const sector = this.#random.below(this.#plan.sectors);
    const count = 1 + this.#random.below(Math.min(VIEW_SECTORS, this.#plan.sectors - sector));
    this.#read(engine, expected, slot, sector, count);
  }

  /** What differs between two points is told. */
  #diff(engine: CowTarget): void {
    const taken = this.#snapshots();
    const from = this.#random.pick(taken);
    const to = this.#random.pick(taken);
    if (taken.length === 0 || from.epoch >= to.epoch) return;
    const { sectorsPerBlock, sectors } = this.#plan;
    this.#tell(() => `diff of ${from.name} and ${to.name}`);
    engine.diff(from.epoch, to.epoch, (found) => {
      if (found === null) return;
      this.reached.diffs++;
      const told = new Set(found);
      for (let sector = 0; sector < sectors; sector++) {
        if (from.shows[sector] === to.shows[sector] || told.has(Math.floor(sector / sectorsPerBlock))) continue;
        throw new Error(`sector ${sector} differs between ${from.name} and ${to.name}, and is not told`);
      }
      // A write may leave a block as it was (zeroes over zeroes), but no block is told that was never written.
      for (const block of told) {
        if (!this.#host.wasWritten(block * sectorsPerBlock, sectorsPerBlock))
          throw new Error(`block ${block} is told, but was never written`);
      }
    });
  }

  #read(engine: CowTarget, { name, epoch }: Expected, slot: number, sector: number, count: number): void {
    const request = this.#requests[slot] as Request;
    request.operation = Operation.READ;
    request.offset = sector * SECTOR_BYTES;
    request.length = count * SECTOR_BYTES;
    this.#views[slot] = { name, sector, request };
    this.#tell(() => `read ${sector}+${count} of ${name}`);
    request.pass(engine.reader.view(epoch), this);
  }

  /** A read of a point has ended. */
  answered(request: Request, result: number): void {
    const view = this.#views[request.slot];
    if (view === undefined) throw new Error("a read of a point was answered twice");
    this.#views[request.slot] = undefined;
    this.reached.viewReads++;
    const expected = this.#expected.get(view.name);
    this.#tell(() => `answer of ${view.name}, ${view.sector}: ${result}`);
    if (result < 0) {
      this.#lookAtPoints();
      const { failures, readFailures = 0 } = this.#plan.faults;
      if (expected?.state === "taken" && failures === 0 && readFailures === 0) {
        throw new Error(`point ${view.name} cannot be read: ${result}`);
      }
      return;
    }
    if (expected === undefined) throw new Error(`point ${view.name} was read, but is no more`);
    const data = new DataView(request.buffer.buffer, request.buffer.byteOffset, request.length);
    for (let index = 0; index < request.length / SECTOR_BYTES; index++) {
      const found = readStamp(data, index * SECTOR_BYTES);
      const sector = view.sector + index;
      if (found.sequence === expected.shows[sector] && (found.sequence === 0 || found.sector === sector)) continue;
      throw new Error(
        `R4: point ${view.name} shows write ${found.sequence} of sector ${found.sector} in sector ${sector}, wanted write ${expected.shows[sector]}`,
      );
    }
  }

  /** Before the host comes: begins a rollback, or goes on with the one that a death has interrupted. */
  #maybeRollBack(engine: CowTarget, world: World): void {
    if (this.#rollingBackTo === undefined) {
      if (this.#host.inFlight > 0 || !this.#holds.chance(this.#rollbackShare)) return;
      // A copy's point does not keep what the copy has behind it.
      const taken = [...this.#expected.values()].filter(({ state, kind }) => state === "taken" && kind === "snapshot");
      if (taken.length === 0) return;
      this.#rollingBackTo = this.#holds.pick(taken).name;
      this.#rollbacks++;
    } else this.reached.rollbacksBegunAgain++;
    const expected = this.#expected.get(this.#rollingBackTo);
    const point = engine.points.find(({ name }) => name === this.#rollingBackTo);
    // The store had failed: nothing is left to roll back to.
    if (expected?.state !== "taken" || point === undefined) {
      this.#rollingBackTo = undefined;
      return;
    }
    this.#tell(() => `roll back to ${point.name}`);
    const before = this.#disk.current.slice();
    for (let sector = 0; sector < this.#plan.sectors; sector++) {
      this.#host.oracle.begin(sector, 1, -this.#rollbacks, expected.shows[sector] as number, false);
    }
    const result = this.#rollBack(engine, world, point);
    this.#tell(() => `rolled back: ${JSON.stringify(result)}`);
    this.#lookAtPoints();
    if (result === "done") {
      this.#rollingBackTo = undefined;
      this.reached.rollbacks++;
      this.#host.oracle.acknowledge(0, this.#plan.sectors, true);
      const wrong = this.#disk.current.findIndex((sequence, sector) => sequence !== expected.shows[sector]);
      if (wrong >= 0) throw new Error(`after a rollback to ${point.name} sector ${wrong} is another`);
    } else if (result.failed === "impossible") {
      this.#rollingBackTo = undefined;
      const wrong = this.#disk.current.findIndex((sequence, sector) => sequence !== before[sector]);
      if (wrong >= 0) throw new Error(`a rollback that was impossible has changed sector ${wrong}`);
    } else if (this.#plan.faults.failures === 0) throw new Error(`a rollback is incomplete: ${result.errno}`);
    else throw new Death("a daemon that cannot roll back does not serve");
  }

  #rollBack(engine: CowTarget, world: World, point: Point): RollbackResult {
    const requests = Array.from({ length: 3 }, (_, slot) => {
      const memory = world.memory(MAX_SECTORS * SECTOR_BYTES);
      return new Request(slot, new Uint8Array(memory.buffer), memory.address);
    });
    let result: RollbackResult | undefined;
    const full = engine.points.filter(({ state }) => state === "full").length;
    const { blockBytes } = this.#layout.geometry;
    new Rollback(engine, point, blockBytes, requests).start((found) => (result = found));
    while (result === undefined) {
      world.endBatch();
      if (world.isIdle) throw new Error("a rollback never ends");
      world.complete();
    }
    world.endBatch();
    // What was torn is moved again first: after many deaths that may want the last room.
    if (engine.tornAtStart === 0 && engine.points.filter(({ state }) => state === "full").length > full)
      throw new Error("a rollback has cost a point");
    return result;
  }

  /** Reads every point whole. */
  #verify(engine: CowTarget, world: World): void {
    for (const expected of this.#snapshots()) {
      if (expected.state !== "taken") continue;
      for (let sector = 0; sector < this.#plan.sectors; sector += VIEW_SECTORS) {
        while (!this.#views.includes(undefined)) this.#finish(world);
        const count = Math.min(VIEW_SECTORS, this.#plan.sectors - sector);
        this.#read(engine, expected, this.#views.indexOf(undefined), sector, count);
      }
      while (this.#views.some((view) => view !== undefined)) this.#finish(world);
    }
  }

  #finishCopies(engine: CowTarget, world: World): void {
    for (let rounds = 0; this.#copies.size > 0; rounds++) {
      if (rounds > 100_000) throw new Error("a copy never ends");
      this.#stepCopies(engine);
      this.#lookAtPoints();
      for (const [name, { state }] of [...this.#copies]) {
        const expected = this.#expected.get(name);
        // What could not be read when it was moved aside can never be copied.
        const isLost = state === "failed" && (this.#plan.faults.readFailures ?? 0) > 0;
        if (expected?.state === "taken" && isLost && !expected.isAsked) this.#drop(engine, expected);
        if (expected?.state !== "taken") this.#copies.delete(name);
      }
      if (!world.isIdle) world.complete();
      world.endBatch();
    }
  }

  #finish(world: World): void {
    if (world.isIdle) throw new Error("a read of a point is never answered");
    world.complete();
    world.endBatch();
  }

  #stop(engine: CowTarget, world: World, isLast: boolean): void {
    if (this.#hold !== undefined) this.#letGo(engine);
    const isBusy = (): boolean =>
      this.#host.inFlight > 0 ||
      this.#views.some((view) => view !== undefined) ||
      this.#asked > 0 ||
      this.#outside?.isBusy === true ||
      isOutsideActive();
    // The last daemon sees a copy through.
    const isOutsideActive = (): boolean => isLast && this.#outside?.isActive === true;
    world.endBatch();
    for (let rounds = 0; isBusy(); rounds++) {
      if (isLast) this.#outside?.turn(engine);
      // A queue waits for a completion: where none is under way, there is no next batch.
      if ((world.isIdle && isBusy() && !isOutsideActive()) || rounds > 100_000)
        throw new Error(`${this.#host.inFlight} requests are never answered`);
      if (!world.isIdle) world.complete();
      world.endBatch();
    }
    if (isLast) {
      this.#finishCopies(engine, world);
      this.#verify(engine, world);
      for (const expected of [...this.#expected.values()]) this.#drop(engine, expected);
      for (let rounds = 0; !world.isIdle; rounds++) {
        if (rounds > 100_000) throw new Error("the engine never comes to rest");
        world.complete();
        world.endBatch();
      }
      if (engine.versions > 0) throw new Error(`${engine.versions} originals are wanted by nobody, but kept`);
    }
    engine.close();
    for (const copy of this.#copies.values()) copy.die("kill");
    this.reached.cleanStops++;
    this.#tell(() => "the daemon has stopped");
  }

  #die(world: World, how: "power cut" | "kill"): void {
    this.#tell(() => how);
    world.end(how);
    for (const copy of this.#copies.values()) copy.die(how);
    if (how === "kill") this.reached.kills++;
    else this.reached.powerCuts++;
    const from = how === "kill" ? "acknowledged" : "floor";
    for (let sector = 0; sector < this.#plan.sectors; sector++) {
      this.#host.oracle.check(sector, this.#disk.current[sector] as number, from, `R5: after a ${how}`);
    }
    if (how === "power cut") {
      this.#host.oracle.settle(this.#disk);
      this.#host.forget();
    }
  }
}
