/**
 * Between a receiver that applies points and the image: lets requests through until it is closed, and knows how many are under
 * way.
 *
 * Invariant: once it is closed nothing new gets to the image. What is cut off so is done again from the log by the next life.
 */
import { ERRNO } from "../ublk/errors.ts";
import type { Layer, Request, Submission } from "../ublk/request.ts";

export class ApplyGate implements Submission, Layer {
  readonly #image: Submission;
  #underWay = 0;
  #isClosed = false;

  constructor(image: Submission) {
    this.#image = image;
  }

  /** Whether the image has been given something that it has not answered. */
  get isIdle(): boolean {
    return this.#underWay === 0;
  }

  /** From now on requests are answered with ECANCELED. */
  close(): void {
    this.#isClosed = true;
  }

  submit(request: Request): void {
    if (this.#isClosed) {
      request.answer(-ERRNO.ECANCELED);
      return;
    }
    this.#underWay++;
    request.pass(this.#image, this);
  }

  answered(request: Request, result: number): void {
    this.#underWay--;
    request.answer(result);
  }
}
