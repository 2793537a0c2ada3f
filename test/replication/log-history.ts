/**
 * Histories of a receiver's log by chance: lives of appends, commits, releases and reads, each ended by a kill or a power cut at
 * any step, those of the recovery included; and a bit of what is durable may rot.
 *
 * What must hold: what was told to be durable, and not released, is found again in order, byte for byte; nothing is found that
 * was not appended, or that an earlier recovery has not found; what is lost by rot is told as lost, and nothing else.
 */
import { logBytes, offsetOf, type LogPlace } from "../../src/replication/log-geometry.ts";
import { LOG_RECORD, RECORD_HEADER_BYTES, recordBytes, type LogRecordKind } from "../../src/replication/log-record.ts";
import { recoverLog, type FoundRecord, type RecoveredLog } from "../../src/replication/log-recovery.ts";
import { createLog, type LastPoints } from "../../src/replication/log-superblock.ts";
import { LOG_BUSY, LOG_FULL, ReceiverLog } from "../../src/replication/receiver-log.ts";
import { ERRNO } from "../../src/ublk/errors.ts";
import type { IoMemory } from "../../src/ublk/io.ts";
import { SimDisk } from "../sim/disk.ts";
import { SimMemory } from "../sim/memory.ts";
import { Random } from "../sim/random.ts";
import { Death, NVRAM_FILE, World } from "../sim/world.ts";

const SECTOR_BYTES = 512;
const GEOMETRY = { sectorBytes: SECTOR_BYTES, windowBytes: 4096, ringBytes: 3 * 4096 };
const OWNER = { volume: "data", mark: 0x534c_0000_0000_0007n };
const SALT = 0x01020304;
const FILE_BYTES = logBytes(GEOMETRY);
const RING_OFFSET = offsetOf(GEOMETRY, 0);
const KINDS = [LOG_RECORD.TRANSFER, LOG_RECORD.TRANSFER, LOG_RECORD.POINT_ITEMS, LOG_RECORD.POINT_END] as const;

/** What is appended. */
interface Content {
  readonly kind: LogRecordKind;
  readonly number: number;
  readonly payload: Uint8Array;
}

/** What was appended, or found again. */
interface Entry extends Content {
  readonly place: LogPlace;
  readonly next: LogPlace;
  readonly life: number;
  /** What was durable when it was appended. */
  readonly durable: number;
}

/** What a superblock may say. */
interface Released extends LastPoints {
  readonly tail: LogPlace;
}

interface Found {
  readonly kind: LogRecordKind;
  readonly number: number;
  readonly record: FoundRecord;
}

/** What has happened, over all histories: seeds that reach nothing prove nothing. */
export const reached = {
  powerCuts: 0,
  kills: 0,
  deathsInRecovery: 0,
  rounds: 0,
  full: 0,
  busy: 0,
  released: 0,
  reads: 0,
  failedCommits: 0,
  lostAppends: 0,
  rotten: 0,
  lossesTold: 0,
};

export class LogHistory {
  readonly #random: Random;
  readonly #memory: SimMemory;
  #stepsLeft = Infinity;
  /** What the log holds, from its tail on. */
  #entries: Entry[] = [];
  /** All before this position was told to be durable. */
  #durable: number = GEOMETRY.ringBytes;
  /** Any of these may be found: the one that is durable, and those that were asked for since. */
  #released: Released[] = [{ tail: { position: GEOMETRY.ringBytes, link: SALT }, committed: 0, applied: 0 }];
  #life = 0;
  #lostFrom = 0;
  #numbers = 0;
  /** What the last life lost: a source sends it again. */
  #again: Content[] = [];
  #isReading = false;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#memory = new SimMemory(SECTOR_BYTES, () => this.#step());
    this.#memory.write(FILE_BYTES - SECTOR_BYTES, new Uint8Array(SECTOR_BYTES));
    createLog(this.#memory, OWNER, GEOMETRY, SALT, { committed: 0, applied: 0 });
  }

  /** Throws where something does not hold. */
  run(lives: number): void {
    for (let life = 0; life < lives; life++) this.#live(this.#open());
    this.#open();
  }

  #step(): void {
    if (--this.#stepsLeft < 0) throw new Death();
  }

  #open(): RecoveredLog {
    const rotten = this.#random.chance(0.05) ? this.#rot() : undefined;
    for (;;) {
      this.#stepsLeft = this.#random.chance(0.3) ? this.#random.below(12) : Infinity;
      const found: Found[] = [];
      const note = (kind: LogRecordKind, number: number, record: FoundRecord): void => {
        found.push({ kind, number, record });
      };
      try {
        const recovered = recoverLog(this.#memory, OWNER, {
          transfer: (incarnation, counter, record) => {
            demand(incarnation === 3, "a transfer is of another incarnation");
            note(LOG_RECORD.TRANSFER, counter, record);
          },
          pointItems: (point, record) => note(LOG_RECORD.POINT_ITEMS, point, record),
          pointEnd: (point, record) => note(LOG_RECORD.POINT_END, point, record),
        });
        this.#stepsLeft = Infinity;
        this.#check(recovered, found, rotten);
        return recovered;
      } catch (error) {
        if (!(error instanceof Death)) throw error;
        this.#stepsLeft = Infinity;
        reached.deathsInRecovery++;
        if (this.#random.chance(0.5)) this.#cutPower();
      }
    }
  }

  /** A bit of a durable record turns over. */
  #rot(): Entry | undefined {
    const { tail } = this.#released.at(-1) as Released;
    const durable = this.#entries.filter(
      ({ place, next }) => place.position >= tail.position && next.position <= this.#durable,
    );
    if (durable.length === 0) return undefined;
    const entry = this.#random.pick(durable);
    const at = this.#random.below(RECORD_HEADER_BYTES + entry.payload.length);
    this.#memory.rot(offsetOf(GEOMETRY, entry.place.position + at), this.#random.below(8));
    reached.rotten++;
    return entry;
  }

  #check({ superblock, head }: RecoveredLog, found: readonly Found[], rotten: Entry | undefined): void {
    const { state } = superblock;
    const released = this.#released.find(
      ({ tail, committed, applied }) =>
        tail.position === state.tail.position &&
        tail.link === state.tail.link &&
        committed === state.committed &&
        applied === state.applied,
    );
    if (released === undefined) throw new Error(`tail ${state.tail.position} was not asked for`);
    demand(state.life > this.#life, `life ${state.life} is not newer than ${this.#life}`);
    const kept = this.#entries.filter(({ place }) => place.position >= state.tail.position);
    demand(found.length <= kept.length, `${found.length} records are found, ${kept.length} were appended`);
    found.forEach((each, index) => this.#compare(each, kept[index] as Entry));
    const end = kept[found.length - 1]?.next ?? state.tail;
    demand(head.position === end.position && head.link === end.link, "the head is not behind the last record");
    demand(state.durable === head.position, "what is found is not told to be durable");
    const durable = kept.filter(({ next }) => next.position <= this.#durable);
    const wanted = rotten === undefined ? durable.length : durable.indexOf(rotten);
    demand(found.length >= wanted, `${found.length} records are found, ${wanted} were durable`);
    if (rotten !== undefined) demand(found.length === wanted, "a rotten record is found");
    this.#checkLoss(state.lostFrom, state.tail.position, head.position, rotten, durable);
    reached.lostAppends += kept.length - found.length;
    this.#again = kept.slice(found.length);
    this.#entries = kept.slice(0, found.length);
    this.#released = [released];
    this.#durable = head.position;
    this.#life = state.life;
    this.#lostFrom = state.lostFrom;
  }

  #compare({ kind, number, record }: Found, entry: Entry): void {
    const at = `record at ${entry.place.position}`;
    demand(record.place.position === entry.place.position, `${at} is found at ${record.place.position}`);
    demand(record.place.link === entry.place.link && record.next.link === entry.next.link, `${at} has other links`);
    demand(record.next.position === entry.next.position, `${at} ends at ${record.next.position}`);
    demand(record.life === entry.life, `${at} is of life ${record.life}, not ${entry.life}`);
    demand(kind === entry.kind && number === entry.number, `${at} is another one`);
    demand(record.length === entry.payload.length, `${at} has another length`);
    const payload = this.#onDisk(entry.place.position + RECORD_HEADER_BYTES, record.length);
    demand(Buffer.compare(payload, entry.payload) === 0, `${at} has another payload`);
  }

  #onDisk(position: number, length: number): Uint8Array {
    const offset = offsetOf(GEOMETRY, position);
    const first = Math.min(length, FILE_BYTES - offset);
    const rest = this.#memory.working.subarray(RING_OFFSET, RING_OFFSET + length - first);
    return Buffer.concat([this.#memory.working.subarray(offset, offset + first), rest]);
  }

  #checkLoss(lostFrom: number, tail: number, head: number, rot: Entry | undefined, durable: readonly Entry[]): void {
    const before = tail > this.#lostFrom ? 0 : this.#lostFrom;
    const now = before === 0 ? head : Math.min(before, head);
    const isKnown =
      rot !== undefined && durable.some((entry) => entry.life === this.#life && entry.durable > rot.place.position);
    const isOld = rot !== undefined && rot.life < this.#life;
    if (isKnown || isOld) demand(lostFrom === now, `a loss at ${now} is told as ${lostFrom}`);
    else demand(lostFrom === before || (rot !== undefined && lostFrom === now), `${lostFrom} is told as lost`);
    if (lostFrom !== 0) reached.lossesTold++;
  }

  #live(recovered: RecoveredLog): void {
    const random = this.#random;
    const faults = { failures: 0.02, readFailures: 0.02, shortTransfers: 0 };
    const world = new World(random, new SimDisk(1), this.#memory, faults, SILENT, () => this.#step());
    const log = new ReceiverLog(recovered, world, NVRAM_FILE);
    const memory = world.memory(GEOMETRY.windowBytes);
    this.#isReading = false;
    this.#stepsLeft = random.below(120);
    try {
      for (;;) {
        this.#step();
        this.#act(log, world, memory);
        demand(log.durable >= this.#durable, "what was durable is so no more");
        this.#durable = log.durable;
      }
    } catch (error) {
      if (!(error instanceof Death)) throw error;
    }
    this.#stepsLeft = Infinity;
    this.#durable = log.durable;
    world.end("kill");
    if (random.chance(0.4)) {
      reached.kills++;
    } else {
      reached.powerCuts++;
      this.#cutPower();
    }
  }

  /** What was in the cache is there or not; a sector that was being written may hold anything. */
  #cutPower(): void {
    const { working, durable } = this.#memory;
    for (let at = 0; at < FILE_BYTES; at += SECTOR_BYTES) {
      const sector = working.subarray(at, at + SECTOR_BYTES);
      if (Buffer.compare(sector, durable.subarray(at, at + SECTOR_BYTES)) === 0 || !this.#random.chance(0.2)) continue;
      // Part of the one and part of the other, or neither.
      const from = this.#random.below(SECTOR_BYTES);
      if (this.#random.chance(0.5)) sector.set(durable.subarray(at + from, at + SECTOR_BYTES), from);
      else sector.fill(this.#random.below(256), from);
      durable.set(sector, at);
    }
    this.#memory.cutPower(this.#random);
  }

  #act(log: ReceiverLog, world: World, memory: IoMemory): void {
    const choice = this.#random.next() / 2 ** 32;
    if (choice < 0.35) this.#append(log);
    else if (choice < 0.55) this.#sync(log);
    else if (choice < 0.88) world.complete();
    else if (choice < 0.95) this.#release(log);
    else this.#read(log, memory);
  }

  #append(log: ReceiverLog): void {
    const content = (this.#random.chance(0.8) ? this.#again.shift() : undefined) ?? this.#newContent();
    const { kind, number, payload } = content;
    const place = log.head;
    const position =
      kind === LOG_RECORD.TRANSFER
        ? log.appendTransfer(3, number, payload)
        : kind === LOG_RECORD.POINT_ITEMS
          ? log.appendPointItems(number, payload)
          : log.appendPointEnd(number, payload);
    const bytes = recordBytes(payload.length, SECTOR_BYTES);
    const end = place.position + bytes;
    if (position === LOG_FULL) {
      demand(end + SECTOR_BYTES - log.tail.position > GEOMETRY.ringBytes, "an append is refused, but there is room");
      reached.full++;
    } else if (position === LOG_BUSY) {
      demand(end - log.durable > GEOMETRY.windowBytes, "an append is refused, but there is room in the window");
      reached.busy++;
    } else {
      demand(position === place.position, "an append is not at the head");
      demand(log.head.position === end, "the head is not behind what was appended");
      demand(end - log.tail.position < GEOMETRY.ringBytes, "the ring is overfull");
      if (place.position % GEOMETRY.ringBytes > end % GEOMETRY.ringBytes) reached.rounds++;
      this.#entries.push({ ...content, place, next: log.head, life: this.#life, durable: log.durable });
    }
  }

  #newContent(): Content {
    const number = ++this.#numbers;
    const kind = this.#random.pick(KINDS);
    const length = this.#random.below(this.#random.chance(0.1) ? 4000 : 1400);
    const payload = new Uint8Array(length).fill(number);
    // A point may have a large number.
    return { kind, number: kind === LOG_RECORD.TRANSFER ? number : 2 ** 40 + number, payload };
  }

  #sync(log: ReceiverLog): void {
    const upTo = log.head.position;
    log.sync((result) => {
      if (result === 0) demand(log.durable >= upTo, "a commit has ended, but not all of it is durable");
      else reached.failedCommits++;
    });
  }

  #release(log: ReceiverLog): void {
    const newest = this.#released.at(-1) as Released;
    const durable = this.#entries.filter(
      ({ next }) => next.position <= log.durable && next.position >= newest.tail.position,
    );
    if (durable.length === 0 || this.#isReading) return;
    const { next } = this.#random.pick(durable);
    const committed = newest.committed + this.#random.below(3);
    const released = { tail: next, committed, applied: committed };
    this.#released.push(released);
    log.release(next, released, (result) => {
      if (result !== 0) return;
      // This one, or one that was asked for later.
      this.#released.splice(0, this.#released.indexOf(released));
      const { tail } = this.#released[0] as Released;
      demand(log.tail.position >= tail.position, "the tail has not moved");
      reached.released++;
    });
  }

  #read(log: ReceiverLog, memory: IoMemory): void {
    const { position } = (this.#released.at(-1) as Released).tail;
    const durable = this.#entries.filter(
      (entry) => entry.place.position >= position && entry.next.position <= log.durable,
    );
    if (durable.length === 0 || this.#isReading) return;
    const entry = this.#random.pick(durable);
    this.#isReading = true;
    log.read(entry.place.position, entry.payload.length, memory, 0, (result) => {
      this.#isReading = false;
      if (result === -ERRNO.EIO) return;
      demand(result === 0, `the record at ${entry.place.position} is read with ${result}`);
      const payload = new Uint8Array(memory.buffer, RECORD_HEADER_BYTES, entry.payload.length);
      demand(Buffer.compare(payload, entry.payload) === 0, `the record at ${entry.place.position} is read wrongly`);
      reached.reads++;
    });
  }
}

const SILENT = {
  storeChanges: (): void => undefined,
  tell: (): void => undefined,
};

function demand(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}
