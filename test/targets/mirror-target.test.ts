/**
 * The source of a mirror, on a disk that answers in any order, fails and falls short: what it logs is what the disk gets, and
 * each closed point reproduces the moment of its cut, while the host goes on, writes overlap, and the log overflows.
 */
import test from "ava";
import { Places } from "../../src/nvram/places.ts";
import { RUN_KIND, runSectors, type PointRun } from "../../src/replication/point-items.ts";
import { planPoint } from "../../src/replication/point-plan.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { DirtyBlocks, dirtyBlocksBytes } from "../../src/targets/mirror/dirty-blocks.ts";
import { belowMirror, MirrorTarget, type Cut } from "../../src/targets/mirror/mirror-target.ts";
import type { MirrorPolicy } from "../../src/targets/mirror/modes.ts";
import { OwedChunks, type ChunkRun } from "../../src/targets/mirror/owed-chunks.ts";
import { TransferReader, transferRingBytes, TransferWriter } from "../../src/targets/mirror/transfer-ring.ts";
import { decodeTransfer, ENTRY_KIND } from "../../src/targets/mirror/transfer.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { SimDisk } from "../sim/disk.ts";
import { SimMemory } from "../sim/memory.ts";
import { Random } from "../sim/random.ts";
import { readStamp, SECTOR_BYTES, stamp } from "../sim/stamps.ts";
import { DATA_FILE, World } from "../sim/world.ts";

const SECTORS = 8 * 24 + 3;
const CHUNK_SECTORS = 32;
const DEPTH = 8;
const MAX_SECTORS = 20;
const GEOMETRY = { volumeSectors: SECTORS, blockSectors: 8 } as const;

interface Setting {
  readonly policy: MirrorPolicy;
  readonly failures: number;
  /** Sectors of data in the log: where it is small it overflows. */
  readonly ringSectors: number;
  /** Room in the points. The volume has 25. */
  readonly blocks: number;
}

/** A place that is read for a point. */
interface Wanted {
  readonly sector: number;
  readonly sectors: number;
  readonly run: PointRun | undefined;
}

/** A point on its way. */
interface Point {
  readonly cut: Cut;
  readonly runs: readonly PointRun[];
  readonly copies: readonly ChunkRun[];
  /** What the log says of each sector at the cut. */
  readonly logged: Int32Array;
  readonly wanted: Wanted[];
  /** What was read, by sector. */
  readonly data: Map<number, number>;
  reading: number;
}

/** A source with its host, and a remote that does what points say. */
class Mirrored implements Layer {
  readonly #random: Random;
  readonly #disk = new SimDisk(SECTORS);
  readonly #world: World;
  readonly #places = new Places({ chunks: Math.ceil(SECTORS / CHUNK_SECTORS) });
  readonly #owed = new OwedChunks(this.#places);
  readonly #ring: TransferReader;
  readonly #target: MirrorTarget;
  readonly #requests: Request[];
  readonly #isBusy = new Array<boolean>(DEPTH).fill(false);
  /** When each came. */
  readonly #ages = new Float64Array(DEPTH);
  #asked = 0;
  readonly #isCheckedAlways: boolean;
  #sequence = 0;
  /** What the log has said of each sector, up to the transfer that is looked at next. */
  #logged = new Int32Array(SECTORS);
  #nextTransfer = 1;
  /** Sequences by transfer and place: what a receiver has in its log. */
  readonly #transferred = new Map<string, number>();
  readonly #remote = new Int32Array(SECTORS);
  /** It logs, and what is read may be copied. */
  #isReady = false;
  #isCutting = false;
  #point: Point | undefined;
  readonly reached = { closed: 0, open: 0, abandoned: 0, overflows: 0, held: 0, answers: 0 };

  constructor(seed: number, { policy, failures, ringSectors, blocks }: Setting) {
    this.#random = new Random(seed);
    this.#isCheckedAlways = failures === 0;
    const nothing = (): void => undefined;
    const watcher = { storeChanges: nothing, tell: nothing };
    const nvram = new SimMemory(SECTOR_BYTES, nothing);
    this.#world = new World(this.#random, this.#disk, nvram, { failures, shortTransfers: 0.1 }, watcher, nothing);
    const size = { slots: 16, dataBytes: ringSectors * SECTOR_BYTES };
    const memory = new SharedArrayBuffer(transferRingBytes(size));
    const half = (): DirtyBlocks =>
      new DirtyBlocks(new ArrayBuffer(dirtyBlocksBytes(blocks)), { capacity: blocks, ...GEOMETRY });
    const context = this.#world.context(DEPTH);
    const fileOptions = { fd: DATA_FILE, isBlockDevice: false, punchesHoles: true, zeroesRanges: true };
    const parts = {
      writer: new TransferWriter(memory, size, { number: 1, sequence: 1 }),
      halves: [half(), half()],
      owed: this.#owed,
      chunkBytes: CHUNK_SECTORS * SECTOR_BYTES,
      mode: "async",
      policy,
    } as const;
    this.#target = new MirrorTarget(parts, new FileTarget(fileOptions, belowMirror(context)), context);
    this.#ring = new TransferReader(memory, size, 1);
    for (let chunk = 0; chunk < this.#places.chunks; chunk++) this.#places.restore(chunk);
    this.#requests = this.#isBusy.map((_, slot) => {
      const buffer = this.#world.memory(MAX_SECTORS * SECTOR_BYTES);
      return new Request(slot, new Uint8Array(buffer.buffer), buffer.address);
    });
    this.#target.whenOverflowed = () => {
      this.reached.overflows++;
      this.#isReady = false;
      this.#isCutting = false;
      this.#point = undefined;
    };
  }

  #start(): void {
    this.#target.startLogging((cut) => {
      this.#isReady = true;
      // What lies there now is older than all that this logging tells of it.
      this.#logged = this.#disk.current.slice();
      this.#nextTransfer = cut.endTransfer;
      if (cut.half.count > 0) throw new Error("a log begins with a point that has something in it");
      this.#hasCut(cut);
    });
  }

  /** A request by chance; writes may overlap. */
  #ask(): void {
    const random = this.#random;
    const slot = this.#isBusy.indexOf(false);
    if (slot < 0) return;
    const request = this.#requests[slot] as Request;
    const kind = random.below(20);
    const isAligned = random.chance(0.5);
    const sector = isAligned ? 8 * random.below(24) : random.below(SECTORS);
    const most = isAligned ? 8 * (1 + random.below(2)) : 1 + random.below(12);
    const sectors = kind < 1 ? 0 : Math.min(most, SECTORS - sector);
    request.operation =
      kind < 1 ? Operation.FLUSH : kind < 3 ? Operation.WRITE_ZEROES : kind < 4 ? Operation.DISCARD : Operation.WRITE;
    request.offset = kind < 1 ? 0 : sector * SECTOR_BYTES;
    request.length = sectors * SECTOR_BYTES;
    const view = new DataView(request.buffer.buffer, request.buffer.byteOffset);
    if (request.operation === Operation.WRITE) stamp(view, ++this.#sequence, sector, sectors);
    this.#isBusy[slot] = true;
    this.#ages[slot] = ++this.#asked;
    if (sectors > 0) this.#places.beginWrite(...chunksOf(request));
    request.pass(this.#target, this);
  }

  answered(request: Request): void {
    this.#isBusy[request.slot] = false;
    this.reached.answers++;
    if (request.length === 0) return;
    this.#places.endWrite(...chunksOf(request));
    for (const other of this.#requests) {
      const isOlder =
        this.#isBusy[other.slot] === true && (this.#ages[other.slot] ?? 0) < (this.#ages[request.slot] ?? 0);
      if (isOlder && overlap(request, other)) throw new Error("a write has overtaken one that it overlaps");
    }
  }

  /** Reads the log up to a transfer, and lets go of it. */
  #follow(end: number): void {
    for (; this.#nextTransfer !== end; this.#nextTransfer++) {
      const { table, pieces } = this.#ring.take(this.#nextTransfer, false);
      const { entries, data } = decodeTransfer(new Uint8Array(Buffer.concat([table, ...pieces])), SECTORS);
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      let place = 0;
      for (const { kind, sector, sectors } of entries) {
        for (let index = 0; index < sectors; index++) {
          this.#logged[sector + index] = 0;
          if (kind !== ENTRY_KIND.DATA) continue;
          const found = readStamp(view, place * SECTOR_BYTES);
          if (found.sector !== sector + index) throw new Error(`the log has sector ${found.sector} for another`);
          this.#logged[sector + index] = found.sequence;
          this.#transferred.set(`${this.#nextTransfer} ${place++}`, found.sequence);
        }
      }
    }
    this.#ring.release(end);
  }

  /** The link takes what there is. */
  #link(): void {
    if (!this.#isReady) return;
    void this.#ring.waitBeyond(this.#ring.end, () => undefined);
    // What belongs to the next point comes after what was read for this one is known.
    if (this.#point === undefined && !this.#isCutting) this.#follow(this.#ring.end);
  }

  #cut(): void {
    if (!this.#isReady || this.#isCutting || this.#point !== undefined) return;
    this.#isCutting = true;
    this.#target.cut((cut) => {
      this.#isCutting = false;
      this.#hasCut(cut);
    });
  }

  #hasCut(cut: Cut): void {
    this.#follow(cut.endTransfer);
    const runs = [...planPoint(cut.half, 0, 3)];
    const copy = cut.isClosed ? undefined : this.#owed.take(2);
    const copies = copy === undefined ? [] : [copy];
    const wanted: Wanted[] = [];
    for (const run of runs) {
      if (run.kind !== RUN_KIND.DATA) continue;
      wanted.push({ sector: run.block * GEOMETRY.blockSectors, sectors: runSectors(run, GEOMETRY), run });
    }
    for (const { first, count } of copies) {
      const sector = first * CHUNK_SECTORS;
      wanted.push({ sector, sectors: Math.min(sector + count * CHUNK_SECTORS, SECTORS) - sector, run: undefined });
    }
    this.#point = { cut, runs, copies, logged: this.#logged.slice(), wanted, data: new Map(), reading: 0 };
  }

  /** Reads for the point that was cut, and ends it when all is read. */
  #goOn(): void {
    const point = this.#point;
    if (point === undefined) return;
    const wanted = point.wanted.pop();
    if (wanted === undefined) {
      if (point.reading === 0) this.#endPoint(point);
      return;
    }
    const isStarted = this.#target.read(wanted.sector, wanted.sectors, (result, bytes) => {
      this.#hasRead(point, wanted, result, bytes);
    });
    if (isStarted) point.reading++;
    else point.wanted.push(wanted);
  }

  #hasRead(point: Point, wanted: Wanted, result: number, bytes: Uint8Array): void {
    point.reading--;
    if (this.#point !== point) return;
    if (result < 0) {
      point.wanted.push(wanted);
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let index = 0; index < wanted.sectors; index++) {
      point.data.set(wanted.sector + index, readStamp(view, index * SECTOR_BYTES).sequence);
    }
    if (wanted.run !== undefined) this.#target.hasRead(wanted.run.block, wanted.run.blocks);
  }

  #endPoint(point: Point): void {
    this.#point = undefined;
    const isCommitted = !this.#random.chance(0.2);
    if (isCommitted) this.#apply(point);
    else this.reached.abandoned++;
    for (const run of point.copies) {
      if (isCommitted) this.#owed.copied(run);
      else this.#owed.giveBack(run);
    }
    this.#target.endPoint(isCommitted, point.cut.isClosed);
  }

  #apply(point: Point): void {
    for (const run of point.runs) {
      const begin = run.block * GEOMETRY.blockSectors;
      for (let index = 0; index < runSectors(run, GEOMETRY); index++) {
        if (run.kind === RUN_KIND.DATA) continue;
        const isReference = run.kind === RUN_KIND.REFERENCE;
        const found = isReference ? this.#transferred.get(`${run.transfer} ${run.place + index}`) : 0;
        if (found === undefined) throw new Error("a reference to what was never sent");
        this.#remote[begin + index] = found;
      }
    }
    for (const [sector, sequence] of point.data) this.#remote[sector] = sequence;
    if (!point.cut.isClosed) {
      this.reached.open++;
      return;
    }
    this.reached.closed++;
    if (this.#isCheckedAlways) this.#compare(point.logged, "at a closed point");
  }

  #compare(wanted: Int32Array, when: string): void {
    for (let sector = 0; sector < SECTORS; sector++) {
      if (this.#remote[sector] === wanted[sector]) continue;
      throw new Error(`${when} sector ${sector} is of write ${this.#remote[sector]}, wanted ${wanted[sector]}`);
    }
  }

  #turn(isSlow: boolean): void {
    const what = this.#random.below(10);
    if (what < 3) this.#ask();
    else if (what < 6) this.#world.complete();
    else if (what < 7 && !isSlow) this.#link();
    else if (what < 8 && this.#random.chance(0.2)) this.#cut();
    else if (what < 9) this.#goOn();
    if (!this.#target.isLogging && this.#random.chance(0.05)) this.#start();
    this.#world.endBatch();
  }

  run(turns: number): void {
    for (let turn = 0; turn < turns; turn++) this.#turn(turn % 200 < 60);
    this.#settle();
  }

  /** The host writes no more: all comes to its end, and the remote is what the source is. */
  #settle(): void {
    this.#until(
      () => !this.#isBusy.includes(true) && this.#world.isIdle && this.#point === undefined && !this.#isCutting,
    );
    const { closed } = this.reached;
    this.#until(() => {
      this.#cut();
      return this.reached.closed > closed;
    });
    this.reached.held += this.#target.heldWrites;
    this.#compare(this.#disk.current, "at the end");
    this.#target.close();
  }

  #until(isSo: () => boolean): void {
    for (let turn = 0; !isSo(); turn++) {
      if (turn > 20_000) throw new Error("it does not come to an end");
      if (!this.#target.isLogging) this.#start();
      this.#world.complete();
      this.#link();
      // Where the host waits for room, a point makes some.
      if (this.#isBusy.includes(true)) this.#cut();
      this.#goOn();
      this.#world.endBatch();
    }
  }
}

function overlap(one: Request, other: Request): boolean {
  return one.offset < other.offset + other.length && other.offset < one.offset + one.length;
}

function chunksOf({ offset, length }: Request): [number, number] {
  const bytes = CHUNK_SECTORS * SECTOR_BYTES;
  return [Math.floor(offset / bytes), Math.floor((offset + length - 1) / bytes)];
}

const SEEDS = 60;
const SETTINGS: Readonly<Record<string, Setting>> = {
  "nothing fails": { policy: "continue", failures: 0, ringSectors: 1024, blocks: 50 },
  "the log overflows, and logging goes on later": { policy: "continue", failures: 0, ringSectors: 256, blocks: 40 },
  "the disk fails, the log overflows": { policy: "continue", failures: 0.05, ringSectors: 256, blocks: 40 },
  "points overflow": { policy: "continue", failures: 0, ringSectors: 1024, blocks: 22 },
  "the host waits where there is no room": { policy: "stop", failures: 0, ringSectors: 64, blocks: 22 },
};

for (const [what, setting] of Object.entries(SETTINGS)) {
  test(`closed points are moments of the source: ${what}`, (t) => {
    const reached = { closed: 0, open: 0, abandoned: 0, overflows: 0, held: 0, answers: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const mirrored = new Mirrored(seed, setting);
      try {
        mirrored.run(1500);
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
      for (const name of Object.keys(reached) as (keyof typeof reached)[]) reached[name] += mirrored.reached[name];
    }
    t.log(JSON.stringify(reached));
    t.true(reached.closed > SEEDS && reached.abandoned > SEEDS / 2 && reached.held > SEEDS);
    const mayOverflow = setting.policy === "continue" && Math.min(setting.ringSectors / 20, setting.blocks) < 50;
    t.is(reached.overflows > SEEDS, mayOverflow);
    t.true(reached.open > SEEDS || setting.policy === "stop");
  });
}
