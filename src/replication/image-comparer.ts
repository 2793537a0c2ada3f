/**
 * Compares places of the receiver's image with checksums that the source has sent.
 *
 * Invariant: one part of the image is in memory at a time. Whoever asks sees to it that nothing is written to the image meanwhile.
 */
import type { Io } from "../ublk/io.ts";
import { Operation, Request, type Layer, type Submission } from "../ublk/request.ts";
import { SECTOR_BYTES } from "../targets/mirror/transfer.ts";
import type { BlockGeometry } from "./point-items.ts";
import { allDiffer, differing, rangeSectors, sumsBlocksMax, type Sums } from "./sums.ts";

/** Of the image, at once. */
export const COMPARE_READS = 1;

export class ImageComparer implements Layer {
  readonly #image: Submission;
  readonly #geometry: BlockGeometry;
  readonly #request: Request;
  #sums: Sums | undefined;
  #done: (differs: Uint8Array) => void = () => undefined;

  /** `slot` of the image is its own. */
  constructor(image: Submission, slot: number, geometry: BlockGeometry, io: Io) {
    this.#image = image;
    this.#geometry = geometry;
    const bytes = sumsBlocksMax(geometry) * geometry.blockSectors * SECTOR_BYTES;
    const memory = io.memory(bytes);
    this.#request = new Request(slot, new Uint8Array(memory.buffer, 0, bytes), memory.address);
  }

  /** `done` is told which blocks differ: a bit each. What cannot be read differs, so that it is written anew. One at a time. */
  compare(sums: Sums, done: (differs: Uint8Array) => void): void {
    this.#sums = sums;
    this.#done = done;
    const request = this.#request;
    request.operation = Operation.READ;
    request.offset = sums.block * this.#geometry.blockSectors * SECTOR_BYTES;
    request.length = rangeSectors(sums, this.#geometry) * SECTOR_BYTES;
    request.pass(this.#image, this);
  }

  answered({ buffer, length }: Request, result: number): void {
    const sums = this.#sums as Sums;
    this.#sums = undefined;
    this.#done(result < 0 ? allDiffer(sums) : differing(sums, buffer.subarray(0, length), this.#geometry));
  }
}
