/**
 * Brings the receiver's image from one consistency point to the next: reads the lists of the point from the log, and with them
 * the transfers that they refer to, in the order of the log, and writes to the image what they say.
 *
 * Invariants. Whatever it is interrupted in, it does the same from the beginning again: a block gets the same bytes however
 * often. It has ended well only when the image was flushed after the last write. Bounded: one list, one transfer and so many
 * writes are in memory.
 */
import { ERRNO } from "../ublk/errors.ts";
import type { Io, IoMemory } from "../ublk/io.ts";
import { Operation, Request, type Layer, type Submission } from "../ublk/request.ts";
import { decodeTransfer, SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import { RECORD_HEADER_BYTES } from "./log-record.ts";
import { decodeItems, RUN_KIND, runSectors, type BlockGeometry, type PointRun } from "./point-items.ts";
import type { ReceiverLog } from "./receiver-log.ts";
import type { Logged, TransferIndex } from "./transfer-index.ts";

/** Writes to the image at once, and the most bytes of each. */
export const APPLY_WRITES = 8;
export const APPLY_WRITE_BYTES = 256 * 1024;
/** Of zeroes: where originals are kept, there has to be room for all that one of them overwrites. */
const APPLY_ZEROES_BYTES = 4 * 2 ** 20;

/** What a point consists of. */
export interface PointLists {
  /** Of the source that made the transfers that it refers to. */
  readonly incarnation: number;
  /** Where its lists lie in the log, in their order. */
  readonly lists: readonly Logged[];
  /** All that it refers to is there. Where it is not closed, what is missing is left out, and comes with a later point. */
  readonly isClosed: boolean;
}

export interface ApplierParts {
  readonly log: ReceiverLog;
  /** No record of the log is larger. */
  readonly recordBytesMax: number;
  readonly index: TransferIndex;
  /** What is mirrored: slots from `firstSlot` on are the applier's own, APPLY_WRITES of them. */
  readonly image: Submission;
  readonly firstSlot: number;
  readonly geometry: BlockGeometry;
}

export class PointApplier implements Layer {
  readonly #parts: ApplierParts;
  readonly #list: IoMemory;
  readonly #transfer: IoMemory;
  readonly #idle: Request[];
  #point: PointLists | undefined;
  #done: (result: number) => void = () => undefined;
  #result = 0;
  #writing = 0;
  #isReading = false;
  #isFlushing = false;
  /** How far it is: in lists, in the runs of one, in the sectors of a run, in the data of the list; all in sectors. */
  #lists = 0;
  #runs: readonly PointRun[] = [];
  #run = 0;
  #sectors = 0;
  #listData: Uint8Array = new Uint8Array(0);
  #listSectors = 0;
  /** The transfer that is in memory. */
  #loaded: number | undefined;
  #loadedData: Uint8Array = new Uint8Array(0);

  constructor(parts: ApplierParts, io: Io) {
    this.#parts = parts;
    this.#list = io.memory(parts.recordBytesMax);
    this.#transfer = io.memory(parts.recordBytesMax);
    const memory = io.memory(APPLY_WRITES * APPLY_WRITE_BYTES);
    this.#idle = Array.from({ length: APPLY_WRITES }, (_, index) => {
      const at = index * APPLY_WRITE_BYTES;
      const bytes = new Uint8Array(memory.buffer, at, APPLY_WRITE_BYTES);
      return new Request(parts.firstSlot + index, bytes, memory.address + at);
    });
  }

  get isIdle(): boolean {
    return this.#point === undefined;
  }

  /** One point at a time. `done` is called once: with 0 when the image has it durably, or with a negative errno. */
  apply(point: PointLists, done: (result: number) => void): void {
    this.#point = point;
    this.#done = done;
    this.#result = 0;
    this.#lists = 0;
    this.#runs = [];
    this.#run = 0;
    this.#loaded = undefined;
    this.#goOn();
  }

  /** Does what can be done now; whatever it waits for calls it again. */
  #goOn(): void {
    while (this.#point !== undefined && this.#result === 0 && !this.#isReading && !this.#isFlushing) {
      if (this.#run < this.#runs.length) {
        if (!this.#writeNext(this.#point, this.#runs[this.#run] as PointRun)) return;
      } else if (this.#lists < this.#point.lists.length) {
        this.#readList(this.#point.lists[this.#lists++] as Logged);
      } else if (this.#writing === 0) this.#flush();
      else return;
    }
    if (this.#result !== 0 && this.#writing === 0 && !this.#isReading && !this.#isFlushing) this.#end();
  }

  #end(): void {
    this.#point = undefined;
    this.#done(this.#result);
  }

  #readList({ position, length }: Logged): void {
    this.#isReading = true;
    this.#parts.log.read(position, length, this.#list, 0, (result) => {
      this.#isReading = false;
      if (result < 0) this.#result = result;
      else {
        const payload = new Uint8Array(this.#list.buffer, RECORD_HEADER_BYTES, length);
        const { runs, data } = decodeItems(payload, this.#parts.geometry);
        this.#runs = runs;
        this.#run = 0;
        this.#sectors = 0;
        this.#listData = data;
        this.#listSectors = 0;
      }
      this.#goOn();
    });
  }

  #readTransfer(point: PointLists, number: number): void {
    const { index, log, geometry } = this.#parts;
    const found = index.find({ incarnation: point.incarnation, counter: number });
    if (found === undefined) {
      if (point.isClosed) this.#result = -ERRNO.ENODATA;
      else this.#run++;
      return;
    }
    this.#isReading = true;
    log.read(found.position, found.length, this.#transfer, 0, (result) => {
      this.#isReading = false;
      if (result < 0) this.#result = result;
      else {
        const payload = new Uint8Array(this.#transfer.buffer, RECORD_HEADER_BYTES, found.length);
        this.#loadedData = decodeTransfer(payload, geometry.volumeSectors).data;
        this.#loaded = number;
      }
      this.#goOn();
    });
  }

  /** Writes the next part of a run; false where all writes are under way. */
  #writeNext(point: PointLists, run: PointRun): boolean {
    if (run.kind === RUN_KIND.REFERENCE && this.#loaded !== run.transfer) {
      this.#readTransfer(point, run.transfer);
      return true;
    }
    const request = this.#idle.pop();
    if (request === undefined) return false;
    const { geometry, image } = this.#parts;
    const all = runSectors(run, geometry);
    const isZero = run.kind === RUN_KIND.ZEROES;
    const bytesMax = isZero ? APPLY_ZEROES_BYTES : APPLY_WRITE_BYTES;
    const sectors = Math.min(all - this.#sectors, bytesMax / SECTOR_BYTES);
    request.operation = isZero ? Operation.WRITE_ZEROES : Operation.WRITE;
    request.offset = (run.block * geometry.blockSectors + this.#sectors) * SECTOR_BYTES;
    request.length = sectors * SECTOR_BYTES;
    if (!isZero) request.buffer.set(this.#bytesOf(run, sectors));
    this.#sectors += sectors;
    if (this.#sectors === all) {
      this.#run++;
      this.#sectors = 0;
    }
    this.#writing++;
    request.pass(image, this);
    return true;
  }

  /** The next bytes of a run. */
  #bytesOf(run: PointRun, sectors: number): Uint8Array {
    if (run.kind === RUN_KIND.REFERENCE) {
      const at = (run.place + this.#sectors) * SECTOR_BYTES;
      return this.#loadedData.subarray(at, at + sectors * SECTOR_BYTES);
    }
    const at = this.#listSectors * SECTOR_BYTES;
    this.#listSectors += sectors;
    return this.#listData.subarray(at, at + sectors * SECTOR_BYTES);
  }

  #flush(): void {
    const request = this.#idle.pop() as Request;
    this.#isFlushing = true;
    request.operation = Operation.FLUSH;
    request.offset = 0;
    request.length = 0;
    request.pass(this.#parts.image, this);
  }

  answered(request: Request, result: number): void {
    this.#idle.push(request);
    if (result < 0) this.#result = result;
    if (request.operation === Operation.FLUSH) {
      this.#isFlushing = false;
      this.#end();
      return;
    }
    this.#writing--;
    this.#goOn();
  }
}
