/** What a daemon says of its volume's predictive record, in numbers and as a map. */
import { STATE } from "../nvram/places.ts";
import type { RecordNumbers } from "../nvram/record-counts.ts";
import type { RecordView } from "../targets/volume.ts";

export interface RecordStatus {
  readonly nvram: string;
  /** How it is made durable. */
  readonly durableBy: "persistent memory" | "durable writes";
  readonly chunkBytes: number;
  readonly chunks: number;
  readonly limitBytes: number;
  /** Bytes of all chunks in the record: what a crash now would cost to copy. */
  readonly crashCopyBytes: number;
  /** Of those: owed to the remote, being written, and predicted only. */
  readonly owedBytes: number;
  readonly inFlightBytes: number;
  readonly predictedBytes: number;
  /** Share of the writes that needed no update, 0 to 1; null before the first. */
  readonly hitRate: number | null;
  readonly updatesPer1000Writes: number | null;
  /** Since the daemon started. */
  readonly counts: RecordNumbers;
}

/** A cell for each part of the volume, all of one size but the last: the most urgent state in it. */
export interface RecordMap {
  readonly status: RecordStatus;
  readonly cellBytes: number;
  /** A character a cell: "." absent, "p" predicted, "r" in the record and copied, "o" owed, "w" being written. */
  readonly cells: string;
}

const CELLS_MAX = 4096;
/** From the least urgent to the most urgent. */
const CELLS = ".prow";

/** Index into CELLS. */
function urgency(state: number): number {
  if ((state & STATE.IN_FLIGHT) !== 0) return 4;
  if ((state & (STATE.OWED | STATE.COPYING)) !== 0) return 3;
  if ((state & STATE.USED) !== 0) return 2;
  return state !== 0 ? 1 : 0;
}

export function recordStatus({
  path,
  isPersistentMemory,
  place,
  limitBytes,
  states,
  counts,
}: RecordView): RecordStatus {
  const byUrgency = [0, 0, 0, 0, 0];
  for (const state of states) byUrgency[urgency(state)] = (byUrgency[urgency(state)] ?? 0) + 1;
  const [absent = 0, predicted = 0, , owed = 0, inFlight = 0] = byUrgency;
  const numbers = counts.read();
  const { chunkBytes, chunks } = place;
  return {
    nvram: path,
    durableBy: isPersistentMemory ? "persistent memory" : "durable writes",
    chunkBytes,
    chunks,
    limitBytes,
    crashCopyBytes: (chunks - absent) * chunkBytes,
    owedBytes: owed * chunkBytes,
    inFlightBytes: inFlight * chunkBytes,
    predictedBytes: predicted * chunkBytes,
    hitRate: numbers.writes === 0 ? null : 1 - numbers.held / numbers.writes,
    updatesPer1000Writes: numbers.writes === 0 ? null : (numbers.updates / numbers.writes) * 1000,
    counts: numbers,
  };
}

export function recordMap(view: RecordView): RecordMap {
  const { states, place } = view;
  const chunksPerCell = Math.ceil(place.chunks / CELLS_MAX);
  let cells = "";
  for (let first = 0; first < place.chunks; first += chunksPerCell) {
    let most = 0;
    for (let chunk = first; chunk < Math.min(first + chunksPerCell, place.chunks); chunk++) {
      most = Math.max(most, urgency(states[chunk] ?? 0));
    }
    cells += CELLS.charAt(most);
  }
  return { status: recordStatus(view), cellBytes: chunksPerCell * place.chunkBytes, cells };
}
