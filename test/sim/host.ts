/** The host of a volume: makes requests by chance, in several habits, and looks at every answer. */
import { Operation, Request, type Layer, type Submission } from "../../src/ublk/request.ts";
import type { IoMemory } from "../../src/ublk/io.ts";
import { SectorOracle } from "./oracle.ts";
import type { Random } from "./random.ts";
import { readStamp, SECTOR_BYTES, stamp } from "./stamps.ts";
import type { World } from "./world.ts";

export interface Habits {
  readonly depth: number;
  /** Sectors of the volume when it is largest. */
  readonly sectorsMax: number;
  readonly maxSectors: number;
  /** The most sectors of a discard or of zeroes. */
  readonly maxZeroSectors: number;
}

/** What the host asked, kept apart from the engine's request, which it may not trust. */
interface Asked {
  readonly id: number;
  readonly operation: Operation;
  readonly sector: number;
  readonly count: number;
  readonly sequence: number;
  readonly fua: boolean;
  readonly noUnmap: boolean;
  promised: ReturnType<SectorOracle["beginFlush"]> | undefined;
}

const STREAMS = 3;

export class Host implements Layer {
  readonly oracle: SectorOracle;
  readonly #habits: Habits;
  readonly #random: Random;
  readonly #asked: (Asked | undefined)[];
  readonly #busy: Uint8Array;
  readonly #written: Uint8Array;
  readonly #streams: number[];
  #requests: Request[] = [];
  #sequence = 0;
  #lastId = 0;
  #tell: (line: () => string) => void = () => undefined;
  answers = 0;
  /** Told of each answer, by slot. */
  whenAnswered: (slot: number) => void = () => undefined;

  /** Sectors that the volume has now. */
  sectors: number;

  constructor(habits: Habits, sectors: number, random: Random) {
    this.sectors = sectors;
    this.#habits = habits;
    this.#random = random;
    this.oracle = new SectorOracle(habits.sectorsMax);
    this.#asked = new Array<Asked | undefined>(habits.depth).fill(undefined);
    this.#busy = new Uint8Array(habits.sectorsMax);
    this.#written = new Uint8Array(habits.sectorsMax);
    this.#streams = Array.from({ length: STREAMS }, () => random.below(sectors));
  }

  /** Requests of a new process: the pool that its queue makes. */
  attach(world: World, tell: (line: () => string) => void): void {
    const bytes = this.#habits.maxSectors * SECTOR_BYTES;
    this.#tell = tell;
    this.#requests = this.#asked.map((_, slot) => {
      const memory: IoMemory = world.memory(bytes);
      return new Request(slot, new Uint8Array(memory.buffer), memory.address);
    });
  }

  get inFlight(): number {
    return this.#asked.reduce((count, asked) => count + (asked === undefined ? 0 : 1), 0);
  }

  /** Whether any write, discard or zeroing of these sectors was ever asked for. */
  wasWritten(sector: number, count: number): boolean {
    return this.#written.subarray(sector, sector + count).includes(1);
  }

  /** Every request that was not answered is given again, as the kernel does after a recovery. */
  repeat(submit: (request: Request) => void): void {
    this.#asked.forEach((asked, slot) => {
      if (asked !== undefined) this.#send(slot, asked, submit);
    });
  }

  /** Requests that were not answered are gone with the power. */
  forget(): void {
    this.#asked.fill(undefined);
    this.#busy.fill(0);
  }

  /** Makes a request by chance if there is a slot; false if there is none. */
  ask(submit: (request: Request) => void): boolean {
    const asked = this.#choose();
    return asked !== undefined && this.#make(asked, submit);
  }

  /** Writes these sectors, or flushes where there are none. */
  askFor(sector: number, count: number, submit: (request: Request) => void): void {
    const operation = count === 0 ? Operation.FLUSH : Operation.WRITE;
    const sequence = count === 0 ? 0 : ++this.#sequence;
    const id = ++this.#lastId;
    this.#make({ id, operation, sector, count, sequence, fua: false, noUnmap: false, promised: undefined }, submit);
  }

  #make(asked: Asked, submit: (request: Request) => void): boolean {
    const slot = this.#asked.indexOf(undefined);
    if (slot < 0) return false;
    this.#asked[slot] = asked;
    if (asked.operation !== Operation.FLUSH) this.#busy.fill(1, asked.sector, asked.sector + asked.count);
    this.#send(slot, asked, submit);
    return true;
  }

  #choose(): Asked | undefined {
    const random = this.#random;
    const kind = random.below(100);
    const none = {
      id: ++this.#lastId,
      sector: 0,
      count: 0,
      sequence: 0,
      fua: false,
      noUnmap: false,
      promised: undefined,
    };
    if (kind < 10) return { ...none, operation: Operation.FLUSH };
    const operation =
      kind < 20 ? Operation.READ : kind < 25 ? Operation.DISCARD : kind < 30 ? Operation.WRITE_ZEROES : Operation.WRITE;
    const { maxSectors, maxZeroSectors } = this.#habits;
    const { sectors } = this;
    const moves = operation === Operation.READ || operation === Operation.WRITE;
    let count = 1 + random.below(moves ? maxSectors : maxZeroSectors);
    const stream = random.below(2 * STREAMS);
    const isStream = stream < STREAMS && operation === Operation.WRITE;
    let sector = isStream ? (this.#streams[stream] as number) : random.below(sectors);
    if (random.chance(0.3) && !isStream) sector = random.below(Math.min(sectors, 64));
    count = Math.min(count, sectors - sector);
    if (isStream) this.#streams[stream] = (sector + count) % sectors;
    // A host that writes in two places at once does not care for the order; this one does.
    for (let at = sector; at < sector + count; at++) if (this.#busy[at] === 1) return undefined;
    const sequence = operation === Operation.WRITE ? ++this.#sequence : 0;
    return { ...none, operation, sector, count, sequence, fua: random.chance(0.1), noUnmap: random.chance(0.5) };
  }

  #send(slot: number, asked: Asked, submit: (request: Request) => void): void {
    const { operation, sector, count, sequence } = asked;
    const request = this.#requests[slot] as Request;
    request.operation = operation;
    request.offset = sector * SECTOR_BYTES;
    request.length = count * SECTOR_BYTES;
    request.fua = asked.fua && operation === Operation.WRITE;
    request.noUnmap = asked.noUnmap;
    if (operation === Operation.FLUSH) asked.promised = this.oracle.beginFlush();
    else if (operation !== Operation.READ) {
      this.#written.fill(1, sector, sector + count);
      this.oracle.begin(sector, count, asked.id, sequence, operation === Operation.DISCARD);
    }
    if (operation === Operation.WRITE) stamp(this.#view(request), sequence, sector, count);
    this.#tell(() => `host ${nameOf(asked)} slot ${slot}`);
    submit(request);
  }

  #view(request: Request): DataView {
    return new DataView(request.buffer.buffer, request.buffer.byteOffset, request.buffer.length);
  }

  answered(request: Request, result: number): void {
    const asked = this.#asked[request.slot];
    if (asked === undefined) throw new Error(`slot ${request.slot} was answered, but nothing was asked`);
    this.#tell(() => `answer ${nameOf(asked)}: ${result}`);
    this.#asked[request.slot] = undefined;
    this.answers++;
    this.whenAnswered(request.slot);
    const { operation, sector, count } = asked;
    if (operation !== Operation.FLUSH) this.#busy.fill(0, sector, sector + count);
    if (result < 0) return;
    if (operation === Operation.READ) this.#look(request, asked);
    else if (operation === Operation.FLUSH) this.oracle.endFlush(asked.promised as never);
    else this.oracle.acknowledge(sector, count, request.fua);
  }

  #look(request: Request, { sector, count }: Asked): void {
    const view = this.#view(request);
    for (let index = 0; index < count; index++) {
      const found = readStamp(view, index * SECTOR_BYTES);
      if (found.sequence !== 0 && found.sector !== sector + index) {
        throw new Error(`read of sector ${sector + index} gave sector ${found.sector}`);
      }
      this.oracle.check(sector + index, found.sequence, "acknowledged", "read");
    }
  }

  /** Hands a request to the engine as a queue does. */
  pass(request: Request, target: Submission): void {
    request.pass(target, this);
  }
}

function nameOf({ operation, sector, count, sequence, fua }: Asked): string {
  const name = Object.entries(Operation).find(([, value]) => value === operation)?.[0] ?? "?";
  return `${name} ${sector}+${count}${sequence > 0 ? ` #${sequence}` : ""}${fua ? " FUA" : ""}`;
}
