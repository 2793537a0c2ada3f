/**
 * The predictive record in the path of one write, on this machine and without a guest: what a write costs whose place is
 * recorded, and one whose place is not, beside the same writes with no record in their way. The store below answers at
 * once; the record lies in memory, and its lines are written back as on persistent memory.
 */
import type { PredictiveRecord } from "../src/nvram/record.ts";
import { DaxPersistence } from "../src/nvram/dax-persistence.ts";
import { StandInDrain } from "../src/nvram/drain.ts";
import type { ByteStorage } from "../src/nvram/byte-storage.ts";
import { createNvram, nvramBytes, openNvram, type RecordPlace } from "../src/nvram/nvram-file.ts";
import { LINE_BYTES } from "../src/nvram/record-lines.ts";
import { openRecord, type BelowRecord } from "../src/targets/open-record.ts";
import { MappedMemory } from "../src/ublk/memory.ts";
import { native } from "../src/ublk/native.ts";
import { Operation, Request, type Layer } from "../src/ublk/request.ts";
import { Ring } from "../src/ublk/ring.ts";
import type { Limits, Target, TargetContext } from "../src/ublk/target.ts";
import { Random } from "./record/random.ts";

const CHUNK_BYTES = 64 * 1024;
const VOLUME_BYTES = 64 * 2 ** 30;
const CHUNKS = VOLUME_BYTES / CHUNK_BYTES;
const LIMIT_CHUNKS = 4096;
const BLOCK_BYTES = 4096;
/** Of the places that are recorded. */
const HOT_CHUNKS = 2048;
const HITS = 4_000_000;
const MISSES = 400_000;
const PERSISTS = 1_000_000;
const ROUNDS = 5;
/** What must be reached. */
const HIT_NS = 150;
const MISS_US = 2;

export interface PathFigures {
  readonly hitNs: number;
  readonly hitAllocatedBytes: number;
  readonly missUs: number;
  /** Lines that are written back for a miss: of what came in, and of what left for it. */
  readonly linesPerMiss: number;
  readonly lineUs: number;
}

/** Answers at once. */
class Answering implements Target {
  submit(request: Request): void {
    request.succeed();
  }
}

class MemoryStorage implements ByteStorage {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  read(offset: number, lengthBytes: number): Uint8Array {
    return this.#bytes.slice(offset, offset + lengthBytes);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
  }

  sync(): void {
    // Nothing survives this process.
  }
}

const LIMITS: Limits = {
  sizeBytes: VOLUME_BYTES,
  logicalBlockBytes: 512,
  physicalBlockBytes: 512,
  readOnly: false,
  rotational: false,
  volatileCache: true,
  fua: true,
  discard: null,
  writeZeroesMaxBytes: null,
};

/** Writes one by one, each a batch of its own. */
class Bed implements Layer, Disposable {
  readonly #ring = new Ring({ entries: 8, singleThread: true });
  readonly #request = new Request(0, new Uint8Array(0), 0);
  readonly #batchEnds: (() => void)[] = [];
  readonly context: TargetContext = {
    limits: LIMITS,
    depth: 1,
    ring: this.#ring,
    useFile: () => 0,
    afterBatch: (callback) => void this.#batchEnds.push(callback),
  };
  #answers = 0;

  answered(): void {
    this.#answers++;
  }

  /** A write to each of the chunks; nanoseconds a write. */
  write(target: Target, chunks: Int32Array): number {
    const request = this.#request;
    const wanted = this.#answers + chunks.length;
    const start = performance.now();
    for (const chunk of chunks) {
      request.operation = Operation.WRITE;
      request.offset = chunk * CHUNK_BYTES;
      request.length = BLOCK_BYTES;
      request.pass(target, this);
      for (const endBatch of this.#batchEnds) endBatch();
    }
    const ns = ((performance.now() - start) * 1e6) / chunks.length;
    if (this.#answers !== wanted) throw new Error(`${wanted - this.#answers} writes were not answered`);
    return ns;
  }

  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
  }
}

function places(random: Random, count: number, among: number): Int32Array {
  // Far apart, and in no order: none is predicted from another.
  return Int32Array.from({ length: count }, () => random.below(among) * (CHUNKS / among));
}

function round(seed: number): PathFigures {
  const random = new Random(seed);
  const hot = places(random, HITS, HOT_CHUNKS);
  const cold = places(random, MISSES, CHUNKS / 8);
  using plainBed = new Bed();
  using bed = new Bed();
  using memory = MappedMemory.anonymous(nvramBytes(VOLUME_BYTES, CHUNK_BYTES));
  const storage = new MemoryStorage(new Uint8Array(memory.buffer));
  const owner = { volume: "bench", mark: 1n, volumeBytes: VOLUME_BYTES };
  createNvram(storage, owner, { chunkBytes: CHUNK_BYTES, salt: seed, inSync: true });
  const place = openNvram(storage, owner);
  let lines = 0;
  const persistence = new DaxPersistence(
    new Uint8Array(memory.buffer, place.offset, place.lengthBytes),
    (at, lengthBytes) => {
      lines += lengthBytes / LINE_BYTES;
      native.persist(memory.address + place.offset + at, lengthBytes);
    },
  );
  const setup = { place, limitChunks: LIMIT_CHUNKS };
  const openBelow = ({ places }: PredictiveRecord): BelowRecord => ({
    drain: new StandInDrain(places),
    next: new Answering(),
  });
  const { target, record } = openRecord(setup, persistence, openBelow, bed.context);
  const plain = new Answering();
  // What is touched for the first time would be charged with its page faults.
  plainBed.write(plain, hot);
  bed.write(target, places(random, MISSES, CHUNKS / 8));
  bed.write(target, hot);

  const plainNs = plainBed.write(plain, hot);
  const before = { bytes: process.memoryUsage().heapUsed, ...record.counts.read() };
  const hitNs = bed.write(target, hot) - plainNs;
  const after = { bytes: process.memoryUsage().heapUsed, ...record.counts.read() };
  if (after.held !== before.held) throw new Error("a write to a recorded place was held");
  lines = 0;
  const missNs = bed.write(target, cold) - plainNs;
  const misses = record.counts.read().held - after.held;
  return {
    hitNs,
    hitAllocatedBytes: (after.bytes - before.bytes) / HITS,
    missUs: (missNs * MISSES) / misses / 1000,
    linesPerMiss: lines / misses,
    lineUs: lineUs(memory, place),
  };
}

/** Writing back a line that was changed, with its fence. */
function lineUs(memory: MappedMemory, { offset, lengthBytes }: RecordPlace): number {
  const bytes = new Uint8Array(memory.buffer);
  const random = new Random(0);
  const ats = Int32Array.from({ length: PERSISTS }, () => offset + random.below(lengthBytes / LINE_BYTES) * LINE_BYTES);
  const start = performance.now();
  for (const at of ats) {
    bytes[at] = (bytes[at] as number) ^ 1;
    native.persist(memory.address + at, LINE_BYTES);
  }
  return ((performance.now() - start) * 1000) / PERSISTS;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

export function path(): Promise<{ result: unknown; text: string }> {
  const rounds = Array.from({ length: ROUNDS }, (_, index) => round(index + 1));
  const of = (key: keyof PathFigures): number => median(rounds.map((figures) => figures[key]));
  const result: PathFigures = {
    hitNs: of("hitNs"),
    hitAllocatedBytes: of("hitAllocatedBytes"),
    missUs: of("missUs"),
    linesPerMiss: of("linesPerMiss"),
    lineUs: of("lineUs"),
  };
  const beside = result.missUs - result.lineUs * result.linesPerMiss;
  const verdict = (reached: boolean): string => (reached ? "reached" : "NOT REACHED");
  const text = [
    `Medians of ${ROUNDS} rounds on this machine, less what the same writes cost without a record.`,
    `${verdict(result.hitNs <= HIT_NS)}: a write to a recorded place at most ${HIT_NS} ns (${result.hitNs.toFixed(0)} ns)`,
    `${verdict(result.hitAllocatedBytes < 0.01)}: it allocates nothing (${result.hitAllocatedBytes.toFixed(3)} bytes)`,
    `${verdict(beside <= MISS_US)}: a miss at most ${MISS_US} µs beside its barrier (${beside.toFixed(2)} µs, and ${result.lineUs.toFixed(2)} µs for each of ${result.linesPerMiss.toFixed(2)} lines)`,
  ];
  return Promise.resolve({ result, text: text.join("\n") });
}
