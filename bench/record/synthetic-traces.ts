/**
 * Traces made by rule: the patterns that a predictor should know, and those that nobody can predict. Each is the same in
 * every run. What a file system and a database write is in file-system-trace.ts and database-trace.ts.
 */
import { databaseWrites, DATABASE_BYTES } from "./database-trace.ts";
import { fileSystemWrites, FILE_SYSTEM_BYTES } from "./file-system-trace.ts";
import { Random, scatter, Zipf } from "./random.ts";
import { collect, type Trace, type Write } from "./trace.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BLOCK = 4 * KIB;
const WRITES = 200_000;
/** Of writes to random places there are more: the first one to each place, which nobody can foresee, must not be most of them. */
const RANDOM_WRITES = 1_000_000;

export function* sequential(startBytes: number, lengthBytes: number, writes: number): Generator<Write> {
  for (let index = 0; index < writes; index++) yield { offsetBytes: startBytes + index * lengthBytes, lengthBytes };
}

function* backward(endBytes: number, lengthBytes: number, writes: number): Generator<Write> {
  for (let index = 1; index <= writes; index++) yield { offsetBytes: endBytes - index * lengthBytes, lengthBytes };
}

const STREAMS = 8;

/** Eight writers, each sequential in a part of its own; whose turn it is, is chance. */
function* streams(volumeBytes: number, lengthBytes: number, writes: number): Generator<Write> {
  const random = new Random(8);
  const share = volumeBytes / STREAMS;
  const next = Array.from(
    { length: STREAMS },
    (_, stream) => stream * share + random.below((64 * MIB) / BLOCK) * BLOCK,
  );
  for (let index = 0; index < writes; index++) {
    const stream = random.below(STREAMS);
    const offsetBytes = next[stream] ?? 0;
    next[stream] = offsetBytes + lengthBytes;
    yield { offsetBytes, lengthBytes };
  }
}

const ROWS = 256;
const ROW_BYTES = MIB;

/** Matrices of 256 rows of 1 MiB, one after the other, written column by column in cells of 4 KiB. */
function* columns(matrices: number): Generator<Write> {
  for (let matrix = 0; matrix < matrices; matrix++)
    for (let cell = 0; cell < ROW_BYTES; cell += BLOCK)
      for (let row = 0; row < ROWS; row++)
        yield { offsetBytes: (matrix * ROWS + row) * ROW_BYTES + cell, lengthBytes: BLOCK };
}

function* strided(strideBytes: number, writes: number): Generator<Write> {
  for (let index = 0; index < writes; index++) yield { offsetBytes: index * strideBytes, lengthBytes: BLOCK };
}

const SKEWED_BYTES = 8 * GIB;
const SKEW = 1.2;

function skewedLaw(): Zipf {
  return new Zipf(new Random(12), SKEWED_BYTES / BLOCK, SKEW);
}

/** Where the block of a rank lies is chance. */
function skewedOffset(rank: number): number {
  return (scatter(rank) % (SKEWED_BYTES / BLOCK)) * BLOCK;
}

/** Blocks by a Zipf law. */
function* skewed(writes: number): Generator<Write> {
  const law = skewedLaw();
  for (let index = 0; index < writes; index++) yield { offsetBytes: skewedOffset(law.next()), lengthBytes: BLOCK };
}

/** The trace whose writes have a law but no order, and how likely each of its chunks is. */
export const UNORDERED_TRACE = "zipf 1.2";
export function unorderedLaw(chunkBytes: number): Float64Array {
  const law = skewedLaw();
  const chunks = new Float64Array(SKEWED_BYTES / chunkBytes);
  for (let rank = 0; rank < SKEWED_BYTES / BLOCK; rank++) {
    const chunk = Math.floor(skewedOffset(rank) / chunkBytes);
    chunks[chunk] = (chunks[chunk] as number) + law.likelihood(rank);
  }
  return chunks;
}

function* uniform(volumeBytes: number, writes: number): Generator<Write> {
  const random = new Random(1);
  for (let index = 0; index < writes; index++)
    yield { offsetBytes: random.below(volumeBytes / BLOCK) * BLOCK, lengthBytes: BLOCK };
}

const BURST_WRITES = [4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB] as const;
const IDLE_US_MAX = 20e6;
/** How often a burst goes where an earlier one went. */
const RETURNING = 0.3;

/** Sequential runs of 1 to 16 MiB at random places with idle time between them; some return to an earlier place. */
function* bursts(volumeBytes: number, writes: number): Generator<Write> {
  const random = new Random(5);
  const starts: number[] = [];
  for (let written = 0; written < writes;) {
    const fresh = random.below((volumeBytes - 16 * MIB) / BLOCK) * BLOCK;
    const start = random.next() < RETURNING ? (starts[random.below(starts.length)] ?? fresh) : fresh;
    starts.push(start);
    const lengthBytes = BURST_WRITES[random.below(BURST_WRITES.length)] ?? BLOCK;
    const run = Math.floor(random.logarithmic(MIB, 16 * MIB) / lengthBytes);
    yield { offsetBytes: start, lengthBytes, pauseUs: random.below(IDLE_US_MAX) };
    yield* sequential(start + lengthBytes, lengthBytes, run - 1);
    written += run;
  }
}

/** Traces whose writes follow one another by a plain rule: the ones that must cost next to nothing. */
export const STREAM_TRACES: readonly string[] = [
  "sequential 4k",
  "sequential 64k",
  "8 streams 4k",
  "8 streams 64k",
  "strided 1m matrix",
  "strided 1m",
  "backward 4k",
];

/** Traces with a hot part and no order, which the activity log is made for. */
export const SKEWED_TRACES: readonly string[] = ["database", UNORDERED_TRACE];

export function syntheticTraces(): Trace[] {
  return [
    collect("sequential 4k", 8 * GIB, sequential(GIB, BLOCK, WRITES)),
    collect("sequential 64k", 16 * GIB, sequential(GIB, 64 * KIB, WRITES)),
    collect("8 streams 4k", 16 * GIB, streams(16 * GIB, BLOCK, WRITES)),
    collect("8 streams 64k", 32 * GIB, streams(32 * GIB, 64 * KIB, WRITES)),
    collect("strided 1m matrix", 8 * GIB, columns(3)),
    collect("strided 1m", 200 * GIB, strided(MIB, WRITES)),
    collect("backward 4k", 8 * GIB, backward(7 * GIB, BLOCK, WRITES)),
    collect("file system", FILE_SYSTEM_BYTES, fileSystemWrites(WRITES)),
    collect("database", DATABASE_BYTES, databaseWrites(WRITES, 0)),
    collect("database, little memory", DATABASE_BYTES, databaseWrites(WRITES, 0.25)),
    collect(UNORDERED_TRACE, SKEWED_BYTES, skewed(RANDOM_WRITES)),
    collect("uniform", 8 * GIB, uniform(8 * GIB, RANDOM_WRITES)),
    collect("bursts", 16 * GIB, bursts(16 * GIB, WRITES)),
  ];
}
