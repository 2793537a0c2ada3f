/**
 * Histories of a mirror by chance: a source with its host, its log and a sender; a wire that is cut; a receiver. Either side
 * dies at any step, by a kill or a power cut, the other one goes on.
 *
 * What must hold (R6): whatever the receiver keeps and reaches as a closed point is what the log of the source said at its cut,
 * over what its disk showed when that log began. One that it has made itself is the one before it with transfers of the same log
 * behind that, in their order; and where the source is given up for good, with all that it was told are durable there. The record of the source lets go of what was settled, wherever that is durable:
 * then only the receiver's own word, "full" until its first closed point, brings all of the volume over.
 */
import { Places } from "../../src/nvram/places.ts";
import { FoundLog } from "../../src/replication/found-log.ts";
import { FRAME, type FrameType } from "../../src/replication/frame.ts";
import type { Welcome } from "../../src/replication/handshake.ts";
import { NO_GENERATION, NO_GENERATIONS } from "../../src/replication/generations.ts";
import { COMPARE_READS, ImageComparer } from "../../src/replication/image-comparer.ts";
import { logBytes } from "../../src/replication/log-geometry.ts";
import { LogReplay } from "../../src/replication/log-replay.ts";
import { recoverLog } from "../../src/replication/log-recovery.ts";
import { createLog } from "../../src/replication/log-superblock.ts";
import { decodeAck, decodePointBegin } from "../../src/replication/messages.ts";
import { APPLY_WRITES, PointApplier } from "../../src/replication/point-applier.ts";
import { ReceiverLog } from "../../src/replication/receiver-log.ts";
import { Receiver, type CommittedPoint } from "../../src/replication/receiver.ts";
import { Sender, type SourceVolume } from "../../src/replication/sender.ts";
import { isBefore } from "../../src/replication/transfer-id.ts";
import { FileTarget } from "../../src/targets/file.ts";
import { belowMirror, MirrorTarget } from "../../src/targets/mirror/mirror-target.ts";
import { OwedChunks, type ChunkRun } from "../../src/targets/mirror/owed-chunks.ts";
import { decodeTransfer, ENTRY_KIND, type Transfer } from "../../src/targets/mirror/transfer.ts";
import { TransferReader, transferRingBytes, TransferWriter } from "../../src/targets/mirror/transfer-ring.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { SimDisk } from "../sim/disk.ts";
import { SimMemory } from "../sim/memory.ts";
import { Random } from "../sim/random.ts";
import { readStamp, SECTOR_BYTES, stamp } from "../sim/stamps.ts";
import { DATA_FILE, Death, NVRAM_FILE, World } from "../sim/world.ts";
import { newDirtyBlocks } from "./point-model.ts";

const SECTORS = 8 * 24 + 3;
const CHUNK_SECTORS = 32;
const CHUNKS = Math.ceil(SECTORS / CHUNK_SECTORS);
const GEOMETRY = { volumeSectors: SECTORS, blockSectors: 8 } as const;
/** Chunks that are copied with a point, each with a read of its own. */
const COPIED_AT_ONCE = 3;
const DEPTH = 8;
const MAX_SECTORS = 20;
const RING = { slots: 16, dataBytes: 256 * SECTOR_BYTES } as const;
const LOG = { sectorBytes: 512, windowBytes: 512 * 1024, ringBytes: 3 * 512 * 1024 } as const;
const OWNER = { volume: "data", mark: 7n } as const;
const FAULTS = { failures: 0, shortTransfers: 0.05, tears: true } as const;
const nothing = (): void => undefined;

const NOTHING_REACHED = {
  closed: 0,
  kept: 0,
  sourceDeaths: 0,
  receiverDeaths: 0,
  cuts: 0,
  overflows: 0,
  stuck: 0,
  naks: 0,
  answers: 0,
  full: 0,
  dropped: 0,
  replays: 0,
  promotions: 0,
  /** Sectors that were to be copied and were found equal; volumes that were compared as a whole; bits that were found turned over. */
  equalSectors: 0,
  verified: 0,
  found: 0,
  held: 0,
  /** Everything came to rest in the middle of it. */
  rests: 0,
};
/** How often what has happened. */
export type Reached = Record<keyof typeof NOTHING_REACHED, number>;

/** Turns of a history, beside those in which it comes to its end. */
const TURNS = 6000;

/** Of a sector that nobody has written yet: what the source's disk held before it was mirrored. */
const BEFORE = 1_000_000;
/** Of a sector that nobody has ever written so: its bits have turned over. */
const TURNED = 2_000_000;
/** What the moment of a point is called that was cut while the host was held back: this, and the last write that was asked before. */
const HELD_MS = 1_000_000_000;
const GENERATION = "00000000000000aa";

interface Remote {
  readonly world: World;
  readonly receiver: Receiver;
}

/** What was sent behind a closed point, before the log began anew. */
interface Tail {
  readonly log: number;
  readonly transfers: Transfer[];
}

interface Wire {
  readonly type: FrameType;
  readonly payload: Uint8Array;
}

/** A life of the source. */
class Source implements Layer {
  readonly #reached: Reached;
  /** Writes begin before this sector. */
  readonly #reach: number;
  readonly world: World;
  readonly target: MirrorTarget;
  readonly sender: Sender;
  readonly #random: Random;
  readonly #disk: SimDisk;
  readonly #places = new Places({ chunks: CHUNKS });
  readonly #requests: Request[];
  readonly #isBusy = new Array<boolean>(DEPTH).fill(false);
  readonly #ring: TransferReader;
  readonly #whenBase: (image: Int32Array) => void;
  #sequence: number;
  /** Grows with what happens: the link's clock. */
  #turns = 0;
  readonly #later: (() => void)[] = [];
  /** What the moment of a point is called that is to be cut while the host is held back; 0 for none. */
  #heldMs = 0;

  constructor(
    random: Random,
    disk: SimDisk,
    step: () => void,
    life: {
      incarnation: number;
      sequence: number;
      recorded: readonly number[];
      reach: number;
      isComparing: boolean;
      bytesPerSecond: number;
    },
    whenBase: (image: Int32Array) => void,
    reached: Reached,
  ) {
    this.#reached = reached;
    this.#random = random;
    this.#reach = life.reach;
    this.#disk = disk;
    this.#sequence = life.sequence;
    this.#whenBase = whenBase;
    const watcher = { storeChanges: nothing, tell: nothing };
    this.world = new World(random, disk, new SimMemory(SECTOR_BYTES, nothing), FAULTS, watcher, step);
    const memory = new SharedArrayBuffer(transferRingBytes(RING));
    const context = this.world.context(DEPTH);
    const options = { fd: DATA_FILE, isBlockDevice: false, punchesHoles: true, zeroesRanges: true };
    const owed = new OwedChunks(this.#places);
    const writer = new TransferWriter(memory, RING, { number: 1, sequence: 1 });
    this.target = new MirrorTarget(
      {
        writer,
        halves: [newDirtyBlocks(GEOMETRY, 60), newDirtyBlocks(GEOMETRY, 60)],
        owed,
        chunkBytes: CHUNK_SECTORS * SECTOR_BYTES,
        mode: "async",
        policy: "continue",
      },
      new FileTarget(options, belowMirror(context)),
      context,
    );
    this.#ring = new TransferReader(memory, RING, life.incarnation);
    for (const chunk of life.recorded) this.#places.restore(chunk);
    owed.begin();
    let copies: ChunkRun[] = [];
    const { target } = this;
    const volume: SourceVolume = {
      get hostRequests(): number {
        return target.requests;
      },
      get awaitsMemory(): boolean {
        return target.mode === "memory";
      },
      restart: (isFull, partialsMax, done) => {
        this.target.stopLogging();
        if (isFull) owed.copyVolume();
        this.target.startLogging(({ half, endTransfer, isClosed }) => {
          copies = [];
          this.#whenBase(this.#disk.current.slice());
          done({ half, endTransfer, isClosed, copies });
        }, partialsMax);
      },
      acknowledged: (received, durable) => {
        this.target.acknowledged(received, durable);
      },
      cut: (copyChunks, isHeld, done) => {
        if (isHeld && !this.target.isHeldBack) {
          done(undefined);
          return;
        }
        this.target.cut(({ half, endTransfer, isClosed }) => {
          copies = [];
          for (let left = isClosed ? 0 : Math.min(copyChunks, COPIED_AT_ONCE); left > 0; left--) {
            const run = owed.take(1);
            if (run !== undefined) copies.push(run);
          }
          done({ half, endTransfer, isClosed, copies });
        });
      },
      read: (sector, sectors, done) => {
        if (!this.target.read(sector, sectors, done)) throw new Error("too many reads");
      },
      look: (sector, sectors, done) => {
        this.target.look(sector, sectors, done);
      },
      hasRead: (block, blocks) => {
        this.target.hasRead(block, blocks);
      },
      endPoint: (isCommitted, isClosed) => {
        for (const run of copies.splice(0)) {
          if (isCommitted) owed.copied(run);
          else owed.giveBack(run);
        }
        this.target.endPoint(isCommitted, isClosed);
      },
      lacks: (sector, sectors) => {
        owed.unlogged(Math.floor(sector / CHUNK_SECTORS), Math.floor((sector + sectors - 1) / CHUNK_SECTORS));
      },
    };
    this.target.whenOverflowed = () => {
      this.#reached.overflows++;
      this.sender.beginAnew();
    };
    const parts = { volume, ring: this.#ring, incarnation: life.incarnation, geometry: GEOMETRY };
    const clock = { nowMs: () => this.#turns, later: (_ms: number, action: () => void) => this.#later.push(action) };
    this.sender = new Sender(
      { ...parts, ...clock, chunkSectors: CHUNK_SECTORS, ringSize: RING, isComparing: life.isComparing },
      {
        ready: nothing,
        committed: nothing,
        stuck: () => {
          this.#reached.stuck++;
          this.sender.beginAnew();
        },
      },
    );
    if (life.bytesPerSecond > 0) this.sender.limitCopying(life.bytesPerSecond);
    this.#requests = this.#isBusy.map((_, slot) => {
      const buffer = this.world.memory(MAX_SECTORS * SECTOR_BYTES);
      return new Request(slot, new Uint8Array(buffer.buffer), buffer.address);
    });
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** What the record holds after its death: what is settled and durable may have left it. */
  get recorded(): number[] {
    const chunks = Array.from({ length: CHUNKS }, (_, chunk) => chunk).filter((chunk) => this.#places.isMember(chunk));
    const kept = chunks.filter((chunk) => !this.#places.isSpare(chunk) || !this.#isDurable(chunk));
    this.#reached.dropped += chunks.length - kept.length;
    return kept;
  }

  #isDurable(chunk: number): boolean {
    const { current, durable } = this.#disk;
    const end = Math.min((chunk + 1) * CHUNK_SECTORS, SECTORS);
    for (let sector = chunk * CHUNK_SECTORS; sector < end; sector++)
      if (current[sector] !== durable[sector]) return false;
    return true;
  }

  get isIdle(): boolean {
    return !this.#isBusy.includes(true) && this.world.isIdle;
  }

  /** The host asks for something; `wrote` is told of the blocks that are written. */
  ask(wrote: (block: number) => void = nothing): void {
    const random = this.#random;
    const slot = this.#isBusy.indexOf(false);
    if (slot < 0) return;
    const request = this.#requests[slot] as Request;
    this.#isBusy[slot] = true;
    if (random.chance(0.1)) {
      request.operation = Operation.FLUSH;
      request.offset = 0;
      request.length = 0;
      request.pass(this.target, this);
      return;
    }
    const isAligned = random.chance(0.5);
    const sector = isAligned ? 8 * random.below(Math.floor(this.#reach / 8)) : random.below(this.#reach);
    const sectors = Math.min(isAligned ? 8 * (1 + random.below(2)) : 1 + random.below(12), SECTORS - sector);
    request.operation = random.chance(0.15) ? Operation.DISCARD : Operation.WRITE;
    request.offset = sector * SECTOR_BYTES;
    request.length = sectors * SECTOR_BYTES;
    for (let block = Math.floor(sector / 8); block * 8 < sector + sectors; block++) wrote(block);
    const view = new DataView(request.buffer.buffer, request.buffer.byteOffset);
    if (request.operation === Operation.WRITE) stamp(view, ++this.#sequence, sector, sectors);
    const [first, last] = chunksOf(request);
    for (let chunk = first; chunk <= last; chunk++) {
      if (this.#places.isMember(chunk)) continue;
      this.#places.add(chunk, false);
      this.#places.settle(chunk);
    }
    this.#places.beginWrite(first, last);
    request.pass(this.target, this);
  }

  answered(request: Request): void {
    this.#isBusy[request.slot] = false;
    this.#reached.answers++;
    if (request.operation === Operation.FLUSH) return;
    this.#places.endWrite(...chunksOf(request));
  }

  /** A point, or one that is cut while the host is held back: it may go on before that comes to it. */
  cut(): void {
    const { target, sender } = this;
    if (!target.isHeldBack && this.#random.chance(0.1)) {
      target.isHeldBack = true;
      this.#heldMs = HELD_MS + this.#sequence;
    }
    const answer = (point: number | undefined): void => {
      if (point !== undefined) this.#reached.held++;
      this.#heldMs = 0;
    };
    if (this.#heldMs > 0) sender.cut({ createdMs: this.#heldMs, answer });
    else sender.cut();
  }

  letGo(): void {
    this.#heldMs = 0;
    this.target.isHeldBack = false;
  }

  /** The link looks for what was logged, and for what it was to do later. */
  link(): void {
    this.#turns++;
    if (this.target.isHeldBack && this.#random.chance(0.3)) this.letGo();
    this.#later.shift()?.();
    void this.#ring.waitBeyond(this.#ring.end, nothing);
    this.sender.pump();
  }
}

function chunksOf({ offset, length }: Request): [number, number] {
  const bytes = CHUNK_SECTORS * SECTOR_BYTES;
  return [Math.floor(offset / bytes), Math.floor((offset + length - 1) / bytes)];
}

function follow(image: Int32Array, { entries, data }: Transfer): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let place = 0;
  for (const { kind, sector, sectors } of entries) {
    for (let index = 0; index < sectors; index++) {
      image[sector + index] = kind === ENTRY_KIND.DATA ? readStamp(view, place++ * SECTOR_BYTES).sequence : 0;
    }
  }
}

export class MirrorHistory {
  /** What happened, if it was asked for. */
  readonly lines: string[] = [];
  readonly reached: Reached = { ...NOTHING_REACHED };
  readonly #isVerbose: boolean;
  readonly #random: Random;
  readonly #sourceDisk = new SimDisk(SECTORS);
  readonly #image = new SimDisk(SECTORS);
  readonly #logFile: SimMemory;
  #stepsLeft = { source: Infinity, receiver: Infinity };
  #incarnation = 0;
  #source: Source | undefined;
  #receiver: Remote | undefined;
  #wire: "cut" | "meeting" | "connected" = "cut";
  #toReceiver: Wire[] = [];
  #toSource: Wire[] = [];
  /** What the log says, up to the last cut; and transfers behind it. */
  #logged: Int32Array = new Int32Array(SECTORS);
  #tapped: Transfer[] = [];
  readonly #expected = new Map<number, Int32Array>();
  readonly #tails = new Map<number, Tail>();
  /** Those that the receiver has made. */
  readonly #made = new Set<number>();
  /** Logs that the source has begun. */
  #logs = 0;
  /** By incarnation: the last transfer that the source was told is durable. */
  readonly #durable = new Map<number, number>();
  #kept = 0;
  /** The last point that was begun, and the last closed one that was this.reached. */
  #begunPoint = 0;
  #reachedPoint = 0;
  #sequence = 0;
  #recorded: readonly number[] = [];
  /** In some histories there are chunks that nobody ever writes to: only a full copy brings them over. */
  readonly #reach: number;
  /** What is copied is compared first. */
  readonly #isComparing: boolean;
  /** In some histories hardly any point comes to its end. */
  readonly #cutChance: number;
  /** Sectors of the image in which bits have turned over. */
  readonly #turned = new Set<number>();
  /** Logs that had begun before: with a later one anything may be copied, whatever turned. */
  #logsBefore = 0;
  /** Blocks that the host has written since. */
  readonly #rewritten = new Set<number>();
  /** The receiver has a closed point, or is committed to one. */
  #hasClosed = false;

  constructor(seed: number, isVerbose: boolean) {
    this.#random = new Random(seed);
    this.#isVerbose = isVerbose;
    this.#reach = this.#random.chance(0.5) ? SECTORS : Math.floor(SECTORS / 2);
    this.#isComparing = this.#random.chance(0.5);
    this.#cutChance = this.#random.chance(0.2) ? 0.3 : 0.01;
    for (let sector = 0; sector < SECTORS; sector++) this.#sourceDisk.write(sector, BEFORE + sector);
    this.#sourceDisk.harden(0, SECTORS);
    this.#logFile = new SimMemory(SECTOR_BYTES, () => {
      this.#step("receiver");
    });
    this.#logFile.write(logBytes(LOG) - SECTOR_BYTES, new Uint8Array(SECTOR_BYTES));
    createLog(this.#logFile, OWNER, LOG, 1, { committed: 0, applied: 0 });
  }

  #step(side: "source" | "receiver"): void {
    if (--this.#stepsLeft[side] < 0) throw new Death(side);
  }

  #note(what: string): void {
    if (this.#isVerbose) this.lines.push(what);
  }

  /** Throws where the remote is not what it has to be. */
  run(): void {
    for (let turn = 0; turn < TURNS; turn++) this.#turn(false);
    if (this.#random.chance(0.3)) this.#promote();
    else {
      this.#stepsLeft = { source: Infinity, receiver: Infinity };
      this.#settle();
      this.#compareAll();
    }
  }

  /** Bits of the image turn over, and are found. */
  #compareAll(): void {
    this.#turnBits();
    const isRepairing = this.#random.chance(0.5);
    this.#verifyUnderLoad(isRepairing);
    if (!isRepairing) this.#verifyUnderLoad(true);
    this.#settle();
    this.reached.equalSectors = (this.#source?.sender.compareCounts.copied.equalBytes ?? 0) / SECTOR_BYTES;
  }

  /** Some sectors of the image become others, with nobody's doing. */
  #turnBits(): void {
    this.#logsBefore = this.#logs;
    for (let count = 1 + this.#random.below(3); count > 0; count--) {
      const sector = this.#random.below(SECTORS);
      this.#note(`a bit of sector ${sector} of the image turns over`);
      this.#image.write(sector, TURNED + sector);
      this.#image.harden(sector, 1);
      this.#turned.add(sector);
    }
  }

  #connectedSource(): Source {
    for (let turn = 0; turn < 60_000; turn++) {
      if (this.#source !== undefined && this.#wire === "connected") return this.#source;
      this.#turn(true);
    }
    throw new Error("they do not connect");
  }

  /** Compares all while the host goes on: what was turned over is found, unless it was written meanwhile, and nothing else. */
  #verifyUnderLoad(isRepairing: boolean): void {
    this.#note(`verifying${isRepairing ? ", and repairing" : ""}`);
    const source = this.#connectedSource();
    const { sender } = source;
    sender.endVerification();
    sender.verify(isRepairing);
    for (let turn = 0; sender.verification?.state !== "done"; turn++) {
      if (turn > 200_000) throw new Error("verifying does not come to an end");
      if (turn < 20_000 && this.#random.chance(0.05)) source.ask((block) => this.#rewritten.add(block));
      if (turn < 20_000 && this.#wire === "connected" && this.#random.chance(0.0005)) this.#cutWire();
      this.#turn(true);
    }
    this.reached.verified++;
    const found = new Set<number>();
    for (const { offset, length } of sender.verification.places) {
      for (let at = offset; at < offset + length; at += 8 * SECTOR_BYTES) found.add(at / (8 * SECTOR_BYTES));
    }
    const turned = new Set([...this.#turned].map((sector) => Math.floor(sector / 8)));
    for (const block of found) if (!turned.has(block)) throw new Error(`a false alarm: block ${block}`);
    for (const block of turned) {
      const isMended = this.#rewritten.has(block) || this.#logs > this.#logsBefore;
      if (!found.has(block) && !isMended) throw new Error(`block ${block} was not found to differ`);
    }
    this.reached.found += found.size;
  }

  #turn(isLast: boolean): void {
    const random = this.#random;
    try {
      this.#source ??= this.#startSource(isLast);
      this.#receiver ??= this.#startReceiver(isLast);
      if (this.#wire === "cut" && (isLast || random.chance(0.2))) this.#meet(this.#source, this.#receiver.receiver);
      this.#move(this.#source, this.#receiver, isLast);
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      this.#die(error.message as "source" | "receiver");
    }
  }

  #move(source: Source, { world, receiver }: Remote, isLast: boolean): void {
    const random = this.#random;
    const what = random.below(24);
    if (what < 4 && !isLast) source.ask();
    else if (what < 9) {
      source.world.complete();
      source.world.endBatch();
    } else if (what < 13) {
      world.complete();
      world.endBatch();
    } else if (what < 15) source.link();
    else if (what < 16) {
      if (isLast) source.letGo();
      if (random.chance(0.3)) {
        if (isLast) source.sender.cut();
        else source.cut();
      }
    } else if (what < 20) this.#deliver(receiver);
    else if (what < 23) this.#answer(source);
    else if (!isLast && random.chance(this.#cutChance) && this.#wire === "connected") this.#cutWire();
    else if (!isLast && random.chance(0.02) && this.#wire === "connected") this.#verify(source);
    else if (!isLast && random.chance(0.03) && this.#wire === "connected") this.#rest(source, { world, receiver });
    if (this.#turned.size === 0 && (source.sender.verification?.differentBytes ?? 0) > 0) {
      throw new Error(`a false alarm: ${JSON.stringify(source.sender.verification)}`);
    }
  }

  #verify({ sender }: Source): void {
    if (sender.verification?.state === "comparing") return;
    if (sender.verification?.state === "done") this.reached.verified++;
    this.#note("verifying");
    sender.verify(false);
  }

  #deliver(receiver: Receiver): void {
    const frame = this.#toReceiver.shift();
    if (frame !== undefined) receiver.take(frame.type, frame.payload);
    if (this.#random.chance(0.6)) receiver.endBatch();
  }

  #answer({ sender }: Source): void {
    const frame = this.#toSource.shift();
    if (frame === undefined) return;
    if (frame.type === FRAME.NAK) this.reached.naks++;
    if (frame.type === FRAME.ACK) {
      const { durable } = decodeAck(frame.payload);
      this.#durable.set(durable.incarnation, durable.counter);
    }
    sender.take(frame.type, frame.payload);
  }

  /** The host writes nothing, and nobody cuts a point: what the receiver has is durable, and the source hears of it. */
  #rest(source: Source, { world, receiver }: Remote): void {
    this.#note("rest");
    const isAtRest = (): boolean =>
      source.world.isIdle && world.isIdle && this.#toReceiver.length === 0 && this.#toSource.length === 0;
    do {
      for (const each of [source.world, world]) {
        each.complete();
        each.endBatch();
      }
      this.#deliver(receiver);
      receiver.endBatch();
      this.#answer(source);
    } while (!isAtRest());
    const { incarnation, counter } = receiver.last;
    const told = this.#durable.get(incarnation) ?? 0;
    if (told < counter) throw new Error(`transfer ${counter} is not told to be durable, only ${told}`);
    this.reached.rests++;
  }

  #cutWire(): void {
    this.#note("the wire is cut");
    this.reached.cuts++;
    this.#wire = "cut";
    this.#source?.sender.disconnect();
    this.#receiver?.receiver.disconnect();
    this.#toReceiver = [];
    this.#toSource = [];
  }

  #die(side: "source" | "receiver"): void {
    const how = this.#random.chance(0.5) ? "kill" : "power cut";
    this.#note(`${how} of the ${side}`);
    this.#stepsLeft[side] = Infinity;
    this.#cutWire();
    if (side === "source") {
      this.reached.sourceDeaths++;
      this.#sequence = this.#source?.sequence ?? this.#sequence;
      this.#recorded = this.#source?.recorded ?? this.#recorded;
      this.#source?.world.end(how);
      this.#source = undefined;
    } else {
      this.reached.receiverDeaths++;
      this.#receiver?.world.end(how);
      if (this.#receiver === undefined && how === "power cut") this.#logFile.cutPower(this.#random);
      this.#receiver = undefined;
    }
  }

  #startSource(isLast: boolean): Source {
    this.#stepsLeft.source = isLast ? Infinity : 50 + this.#random.below(3000);
    const incarnation = ++this.#incarnation;
    const known = { sequence: this.#sequence, recorded: this.#recorded, reach: this.#reach };
    const life = { incarnation, ...known, isComparing: this.#isComparing };
    const bytesPerSecond = this.#random.chance(0.3) ? 2 ** 20 : 0;
    const step = (): void => {
      this.#step("source");
    };
    const whenBase = (image: Int32Array): void => {
      this.#note("the source logs anew");
      this.#logs++;
      this.#logged = image;
      this.#tapped = [];
    };
    return new Source(this.#random, this.#sourceDisk, step, { ...life, bytesPerSecond }, whenBase, this.reached);
  }

  #startReceiver(isLast: boolean): Remote {
    this.#stepsLeft.receiver = isLast ? Infinity : 50 + this.#random.below(3000);
    const watcher = { storeChanges: nothing, tell: nothing };
    const world = new World(this.#random, this.#image, this.#logFile, FAULTS, watcher, () => {
      this.#step("receiver");
    });
    const context = { ...world.context(0), depth: APPLY_WRITES + COMPARE_READS };
    const options = { fd: DATA_FILE, isBlockDevice: false, punchesHoles: true, zeroesRanges: true };
    const found = new FoundLog();
    const log = new ReceiverLog(recoverLog(this.#logFile, OWNER, found), world, NVRAM_FILE);
    const { index } = found;
    const parts = { log, recordBytesMax: LOG.windowBytes, index, firstSlot: 0, geometry: GEOMETRY };
    const disk = new FileTarget(options, context);
    const writing = { ...parts, image: disk };
    const applier = new PointApplier(writing, world);
    const replay = new LogReplay(writing, world);
    const comparer = new ImageComparer(disk, APPLY_WRITES, GEOMETRY, world);
    const state = found.state(log.points);
    for (const point of found.points) this.#expectReplay(point);
    if (state.lastClosed > 0 && this.#kept !== state.lastClosed) this.#compare(state.lastClosed, "what is shown");
    const image = {
      keep: (point: number, done: (result: number) => void): void => {
        if (this.#kept !== point) {
          this.#compare(point, "what is to be kept");
          this.#kept = point;
          this.reached.kept++;
        }
        done(0);
      },
      reached: (point: number): void => {
        this.#note(`point ${point} is reached`);
        this.reached.closed++;
        this.#reachedPoint = point;
        this.#compare(point, "what was reached");
      },
    };
    const receiver = new Receiver(
      { log, logGeometry: LOG, index, applier, replay, comparer, geometry: GEOMETRY, image, nowMs: () => 0 },
      state,
    );
    this.#hasClosed = state.lastEnd !== null && state.lastEnd.generation !== NO_GENERATION;
    receiver.whenCommitted = (point) => {
      if (point.isClosed) this.#hasClosed = true;
      if (point.isReplay) this.reached.replays++;
      this.#expectReplay(point);
    };
    receiver.whenFailed = (result) => {
      throw new Error(`the receiver failed with ${result}`);
    };
    return { world, receiver };
  }

  #meet(source: Source, receiver: Receiver): void {
    this.#wire = "meeting";
    receiver.settle(() => {
      // Either may have died meanwhile.
      if (this.#source === source && this.#receiver?.receiver === receiver) this.#connect(source, receiver);
    });
  }

  #connect(source: Source, receiver: Receiver): void {
    this.#wire = "connected";
    const lastTransfer = receiver.last;
    const granted = receiver.connect({
      incarnation: this.#incarnation,
      generation: GENERATION,
      lacks: [],
      send: (type, payload) => void this.#toSource.push({ type, payload }),
    });
    const { lastPoint } = receiver;
    const known = { lastTransfer, lastPoint, granted, logBytes: LOG.ringBytes, generations: NO_GENERATIONS };
    this.#note(
      `connected: the receiver has transfer ${lastTransfer.incarnation}.${lastTransfer.counter}, point ${lastPoint}`,
    );
    if (!this.#hasClosed) this.reached.full++;
    const welcome: Welcome = { wants: this.#hasClosed ? "resume" : "full", ...known };
    source.sender.connect(welcome, (type, ...pieces) => {
      const payload = new Uint8Array(Buffer.concat(pieces));
      this.#tap(type, payload);
      this.#toReceiver.push({ type, payload });
    });
  }

  /** Follows what is sent, to know what each point has to be. */
  #tap(type: FrameType, payload: Uint8Array): void {
    if (type === FRAME.TRANSFER) {
      const transfer = decodeTransfer(payload, SECTORS);
      const known = this.#tapped.some(({ number }) => number === transfer.number) || transfer.number < this.#followed;
      if (!known || transfer.incarnation !== this.#tappedIncarnation) {
        this.#tapped.push(transfer);
        for (const tail of this.#tails.values()) if (tail.log === this.#logs) tail.transfers.push(transfer);
      }
      if (transfer.incarnation !== this.#tappedIncarnation) this.#followed = 0;
      this.#tappedIncarnation = transfer.incarnation;
    } else if (type === FRAME.POINT_BEGIN) {
      const { point, cut, isClosed, createdMs } = decodePointBegin(payload);
      this.#begunPoint = point;
      while (this.#tapped[0] !== undefined) {
        const { incarnation, number } = this.#tapped[0];
        if (isBefore(cut, { incarnation, counter: number })) break;
        const transfer = this.#tapped.shift() as Transfer;
        this.#followed = transfer.number + 1;
        follow(this.#logged, transfer);
      }
      this.#note(
        `point ${point} is sent, ${isClosed ? "closed" : "open"}, up to transfer ${cut.incarnation}.${cut.counter}`,
      );
      if (isClosed) {
        this.#expected.set(point, this.#logged.slice());
        this.#tails.set(point, { log: this.#logs, transfers: [...this.#tapped] });
      }
      if (createdMs >= HELD_MS) this.#expectNoLater(point, createdMs - HELD_MS);
    }
  }

  /** What was asked while the host was held back is in no point that was cut meanwhile. */
  #expectNoLater(point: number, last: number): void {
    const later = this.#logged.find((sequence) => sequence > last && sequence < BEFORE);
    if (later !== undefined) throw new Error(`point ${point} has write ${later}, which came after ${last}`);
  }

  /** Transfers before this one are in what the log says. */
  #followed = 0;
  #tappedIncarnation = 0;

  /** What a point has to be that the receiver has made of the one before, and of transfers behind it. */
  #expectReplay({ point, lists, isReplay, lastClosed }: CommittedPoint): void {
    const base = this.#expected.get(lastClosed);
    const tail = this.#tails.get(lastClosed);
    if (!isReplay || base === undefined || tail === undefined) return;
    if (this.#made.has(point)) return;
    this.#made.add(point);
    if (lists > tail.transfers.length)
      throw new Error(`point ${point} has ${lists} transfers of ${tail.transfers.length}`);
    const image = base.slice();
    for (const transfer of tail.transfers.slice(0, lists)) follow(image, transfer);
    this.#expected.set(point, image);
    this.#tails.set(point, { log: tail.log, transfers: tail.transfers.slice(lists) });
  }

  /** The receiver, when it has finished, however often it was killed before. */
  #finished(): Receiver {
    let finished: Receiver | undefined;
    let asked: Receiver | undefined;
    for (let turn = 0; turn < 60_000; turn++) {
      try {
        const { world, receiver } = (this.#receiver ??= this.#startReceiver(turn > 10_000));
        if (asked !== receiver) {
          asked = receiver;
          receiver.finish(() => {
            finished = receiver;
          });
        }
        if (finished !== undefined) return finished;
        world.complete();
        if (this.#random.chance(0.5)) world.endBatch();
      } catch (error) {
        if (!(error instanceof Death)) throw error;
        this.#die("receiver");
      }
    }
    throw new Error("the receiver does not finish");
  }

  /** The source is given up: the receiver is brought to the last moment that it can tell of, whatever kills it meanwhile. */
  #promote(): void {
    this.#cutWire();
    const { lastEnd } = this.#finished();
    this.#note("promoted");
    this.reached.promotions++;
    if (lastEnd?.isClosed !== true) return;
    this.#compare(lastEnd.point, "what is promoted");
    const { cut, point } = lastEnd;
    const tail = this.#tails.get(point);
    const lost = tail?.transfers.find((each) => {
      const id = { incarnation: each.incarnation, counter: each.number };
      return isBefore(cut, id) && each.number <= (this.#durable.get(each.incarnation) ?? 0);
    });
    if (lost !== undefined) throw new Error(`transfer ${lost.incarnation}.${lost.number} was durable, and is lost`);
  }

  #compare(point: number, what: string): void {
    const wanted = this.#expected.get(point);
    if (wanted === undefined) throw new Error(`${what}: point ${point} was never closed`);
    for (let sector = 0; sector < SECTORS; sector++) {
      const found = this.#image.current[sector];
      if (found === wanted[sector] || this.#turned.has(sector)) continue;
      throw new Error(`${what}: sector ${sector} of point ${point} is of write ${found}, wanted ${wanted[sector]}`);
    }
  }

  /** Nobody dies, and the host writes no more: the remote becomes what the source is. */
  #settle(): void {
    // Of the points that begin from now on, the second one has been cut since. Those of the source have every second number.
    for (let turn = 0, begun = Infinity; this.#reachedPoint < begun + 4; turn++) {
      if (turn > 60_000) throw new Error("it does not come to an end");
      this.#turn(true);
      if (begun === Infinity && this.#source?.isIdle === true && this.#wire === "connected") begun = this.#begunPoint;
    }
    for (let sector = 0; sector < SECTORS; sector++) {
      const found = this.#image.current[sector];
      const wanted = this.#sourceDisk.current[sector];
      if (found !== wanted) throw new Error(`at the end sector ${sector} is of write ${found}, wanted ${wanted}`);
    }
  }
}
