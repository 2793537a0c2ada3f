/**
 * A bulk copy in the simulator: a program outside of the engine reads the volume piece by piece, in an order of its own, while
 * writes go on; then it marks the point; then the originals overwrite what it has read.
 *
 * The oracle: after that its image is exactly what the point was to show, whoever dies in between and whenever; of a copy of
 * parts of the volume, in these parts. The image itself is on another machine: it survives everything. And where nobody else
 * wants originals, and no daemon has died, none are kept outside of the parts.
 */
import type { CowTarget } from "../../src/targets/cow/cow-target.ts";
import type { BlockRun } from "../../src/targets/cow/points.ts";
import type { IoMemory } from "../../src/ublk/io.ts";
import { Operation, Request, type Layer } from "../../src/ublk/request.ts";
import { Random } from "./random.ts";
import { readStamp, SECTOR_BYTES } from "./stamps.ts";

const PIECE_SECTORS = 16;

/** The point that the copy is of, as the history sees it. */
export interface CopiedPoint {
  readonly epoch: number;
  readonly name: string;
  readonly shows: Int32Array;
  isTaken(): boolean;
  /** It is no more, or was given up. */
  isLost(): boolean;
}

export interface OutsideCopyOptions {
  readonly sectors: number;
  readonly sectorsPerBlock: number;
  /** Reads may fail, and so may the mark. */
  readonly mayFail: boolean;
  /** For what the copy is of: it must not disturb what else is drawn. */
  readonly seed: number;
  /** Of the volume's queue. */
  readonly slot: number;
  readonly tell: (line: () => string) => void;
}

export class OutsideCopy implements Layer {
  readonly #options: OutsideCopyOptions;
  readonly #random: Random;
  /** For the parts that a copy is of. */
  readonly #parts: Random;
  readonly #image: Int32Array;
  /** By block: 1 where the copy is of it. */
  readonly #isOf: Uint8Array;
  /** Nobody else wants originals, nor has, since the copy was begun. */
  #isAlone = false;
  /** First sectors of what has not been read yet, in the order in which it will be. */
  #toRead: number[] = [];
  /** Blocks whose originals have not been laid over the image yet; undefined while they are not known. */
  #toOverlay: number[] | undefined;
  #point: CopiedPoint | undefined;
  #mark = 0;
  #isHurried = false;
  #request: Request | undefined;
  #isBusy = false;
  /** Told when an image is complete, and right. */
  whenDone: (epoch: number) => void = () => undefined;

  constructor(options: OutsideCopyOptions, random: Random) {
    this.#options = options;
    this.#random = random;
    this.#image = new Int32Array(options.sectors);
    this.#parts = new Random(options.seed ^ 0x9a27);
    this.#isOf = new Uint8Array(Math.ceil(options.sectors / options.sectorsPerBlock));
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  get isActive(): boolean {
    return this.#point !== undefined;
  }

  /** What the next copy is of: all of the volume, or parts. Gives the blocks that it is not of. */
  choose(engine: CowTarget): readonly BlockRun[] {
    const blocks = this.#isOf.length;
    this.#isAlone = engine.points.length === 0 && engine.leaving.length === 0 && engine.versions === 0;
    this.#isOf.fill(1);
    if (this.#parts.chance(0.5)) return [];
    this.#isOf.fill(0);
    for (let parts = 1 + this.#parts.below(3); parts > 0; parts--) {
      const first = this.#parts.below(blocks);
      this.#isOf.fill(1, first, first + 1 + this.#parts.below(Math.ceil(blocks / 3)));
    }
    return this.#outside();
  }

  #outside(): BlockRun[] {
    const runs: { first: number; end: number }[] = [];
    this.#isOf.forEach((isOf, block) => {
      const last = runs.at(-1);
      if (isOf === 1) return;
      if (last?.end === block) last.end++;
      else runs.push({ first: block, end: block + 1 });
    });
    return runs;
  }

  begin(point: CopiedPoint): void {
    const pieces = Math.ceil(this.#options.sectors / PIECE_SECTORS);
    this.#point = point;
    this.#mark = 0;
    this.#isHurried = false;
    this.#toOverlay = undefined;
    this.#image.fill(-1);
    this.#toRead = Array.from({ length: pieces }, (_, index) => index * PIECE_SECTORS);
    // From the first to the last, or in no order.
    if (this.#random.chance(0.5)) return;
    for (let index = pieces - 1; index > 0; index--) {
      const other = this.#random.below(index + 1);
      const sector = this.#toRead[index] as number;
      this.#toRead[index] = this.#toRead[other] as number;
      this.#toRead[other] = sector;
    }
  }

  /** A daemon has started: what was under way is asked again. */
  attach(memory: IoMemory, engine: CowTarget): void {
    this.#request = new Request(this.#options.slot, new Uint8Array(memory.buffer), memory.address);
    this.#isBusy = false;
    this.#toOverlay = undefined;
    this.#isAlone = false;
    if (this.#point === undefined || this.#point.isLost()) return;
    const { epoch, name } = this.#point;
    // Told again, or not: more is kept then, which does no harm.
    if (this.#parts.chance(0.5)) engine.pass(epoch, this.#outside());
    const found = engine.points.find((point) => point.epoch === epoch)?.mark ?? 0;
    if (this.#mark !== 0 && found !== this.#mark) throw new Error(`the mark of ${name} is lost: ${found}`);
    this.#mark = found;
    if (found !== 0 && this.#toRead.length > 0) throw new Error(`${name} has a mark that nobody has set`);
  }

  /** Goes on with whatever comes next. */
  turn(engine: CowTarget): void {
    const point = this.#point;
    if (point === undefined || this.#isBusy) return;
    if (point.isLost()) this.#point = undefined;
    else if (!point.isTaken()) return;
    else if (this.#toRead.length > 0) this.#read(engine);
    else if (this.#mark === 0) {
      if (this.#random.chance(this.#isHurried ? 0.7 : 0.05)) this.#setMark(engine, point);
    } else if (this.#toOverlay === undefined) this.#findOriginals(engine, point);
    else if (this.#toOverlay.length > 0) this.#readOriginal(engine, point, this.#toOverlay);
    else this.#compare(point);
  }

  /** Some other point is being taken: soon is the best of moments to mark this one. */
  pointIsTaken(): void {
    this.#isHurried = true;
    this.#isAlone = false;
  }

  #read(engine: CowTarget): void {
    const sector = this.#random.chance(0.1) ? this.#toRead.at(-1) : this.#toRead[0];
    this.#submit(sector as number, PIECE_SECTORS, engine);
  }

  #submit(sector: number, count: number, to: { submit(request: Request): void }): void {
    const request = this.#request as Request;
    request.operation = Operation.READ;
    request.offset = sector * SECTOR_BYTES;
    request.length = Math.min(count, this.#options.sectors - sector) * SECTOR_BYTES;
    this.#isBusy = true;
    request.pass(to, this);
  }

  #setMark(engine: CowTarget, { epoch, name }: CopiedPoint): void {
    this.#isBusy = true;
    this.#options.tell(() => `mark ${name}`);
    engine.markPoint(epoch, (result) => {
      this.#isBusy = false;
      this.#options.tell(() => `marked ${name}: ${typeof result === "number" ? result : result.mark}`);
      if (typeof result !== "number") this.#mark = result.mark;
      else if (!this.#options.mayFail && this.#point?.isLost() === false)
        throw new Error(`${name} got no mark: ${result}`);
    });
  }

  #findOriginals(engine: CowTarget, { epoch, name }: CopiedPoint): void {
    this.#isBusy = true;
    engine.diff(epoch, this.#mark, (blocks) => {
      this.#isBusy = false;
      const found = [...(blocks ?? [])];
      const outside = found.find((block) => this.#isOf[block] !== 1);
      if (this.#isAlone && outside !== undefined)
        throw new Error(`bulk copy: block ${outside} is kept, but ${name} is not of it`);
      this.#toOverlay = found.filter((block) => this.#isOf[block] === 1);
    });
  }

  #readOriginal(engine: CowTarget, { epoch }: CopiedPoint, [block]: readonly number[]): void {
    const { sectorsPerBlock } = this.#options;
    this.#submit((block as number) * sectorsPerBlock, sectorsPerBlock, engine.reader.view(epoch));
  }

  answered(request: Request, result: number): void {
    const point = this.#point;
    this.#isBusy = false;
    if (point === undefined || point.isLost()) return;
    const sector = request.offset / SECTOR_BYTES;
    const isOriginal = this.#toOverlay !== undefined;
    this.#options.tell(() => `outside: ${isOriginal ? "original" : "volume"} ${sector} of ${point.name}: ${result}`);
    if (result < 0) {
      // An original may be lost for good: then the copy is, too.
      if (this.#options.mayFail && isOriginal) this.#point = undefined;
      else if (!this.#options.mayFail && !point.isLost()) throw new Error(`outside copy of ${point.name}: ${result}`);
      return;
    }
    const data = new DataView(request.buffer.buffer, request.buffer.byteOffset, request.length);
    for (let index = 0; index < request.length / SECTOR_BYTES; index++) {
      this.#image[sector + index] = readStamp(data, index * SECTOR_BYTES).sequence;
    }
    if (isOriginal) this.#toOverlay?.shift();
    else this.#toRead = this.#toRead.filter((each) => each !== sector);
    this.#isHurried = false;
  }

  #compare({ epoch, name, shows }: CopiedPoint): void {
    const { sectors, sectorsPerBlock } = this.#options;
    for (let sector = 0; sector < sectors; sector++) {
      const isOf = this.#isOf[Math.floor(sector / sectorsPerBlock)] === 1;
      if (!isOf || this.#image[sector] === shows[sector]) continue;
      throw new Error(
        `bulk copy: the image of ${name} has write ${this.#image[sector]} in sector ${sector}, wanted write ${shows[sector]}`,
      );
    }
    this.#options.tell(() => `the image of ${name} is right`);
    this.#point = undefined;
    this.whenDone(epoch);
  }
}
